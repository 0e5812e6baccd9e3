import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { AuditDocument } from '../../src/commands/audit-document.ts';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { errorAnswer, s3Proxy } from '../store/s3-proxy.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { madeDaysAgo } from '../support/aged.ts';
import { hangingDisk, needsHangingDisk } from '../support/hanging-disk.ts';
import { startDaemon, until } from '../support/running.ts';
import { bucketStore, makeWorld, type Listing, type World } from '../support/world.ts';
import { needsMounts } from './bad-input.ts';
import { shiftedClock } from './shifted-clock.ts';

const everyTwoSeconds = '*/2 * * * * *';
const onceAYear = '0 0 1 1 *';

const tree = (schedule: string, ...names: string[]) => ({
  schedule,
  sources: names.map((name) => ({ name, kind: 'files', paths: [name] })),
});
const chat = (schedule: string) => ({
  schedule,
  sources: [{ name: 'chat', kind: 'sqlite', path: 'chat.db' }],
});

async function makeHost(t: TestContext, jobs: object): Promise<World> {
  const world = await makeWorld(t, { jobs });
  mkdirSync(join(world.dir, 'tree'));
  writeFileSync(join(world.dir, 'tree', 'file'), pseudoRandom(3, 100_000));
  using database = new DatabaseSync(join(world.dir, 'chat.db'));
  database.exec('CREATE TABLE message (body BLOB); INSERT INTO message VALUES (randomblob(100000))');
  return world;
}

/** Ids of the snapshots of a job, oldest first. */
function snapshots(world: World, job: string): string[] {
  const folder = join(world.dir, 'store', 'h1', 'snap');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((id) => id.includes(`-${job}-`) && existsSync(join(folder, id, 'index.json.gpg')))
    .toSorted();
}

const untilThereAre = (world: World, job: string, count: number): Promise<void> =>
  until(
    () => snapshots(world, job).length >= count,
    () => `only ${snapshots(world, job).length} snapshots of ${job}`,
  );

function assertTidy(world: World): void {
  assert.deepEqual(readdirSync(join(world.dir, 'tmp')), [], 'no temporary file is left');
  const drafts = join(world.dir, 'store', '.tmp');
  assert.deepEqual(existsSync(drafts) ? readdirSync(drafts) : [], []);
}

test('jobs run by their schedules side by side, none twice for one instant, and SIGTERM ends it with 0', async (t) => {
  const world = await makeHost(t, { tree: tree(everyTwoSeconds, 'tree'), chat: chat(everyTwoSeconds) });
  const daemon = startDaemon(t, world);
  await untilThereAre(world, 'tree', 4);
  await untilThereAre(world, 'chat', 4);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0, daemon.log());
  assertTidy(world);
  assert.match(daemon.log(), /job tree: \\"\*\/2 \* \* \* \* \*\\" UTC, next at /);
  for (const job of ['tree', 'chat']) {
    const started = [...daemon.log().matchAll(new RegExp(`job ${job} starts: the run of (\\S+)`, 'g'))];
    const instants = started.map(([, instant]) => instant);
    assert.ok(instants.length >= 3);
    assert.equal(
      new Set(instants).size,
      instants.length,
      `${job} ran twice for one instant: ${instants.join()}`,
    );
    assert.ok(snapshots(world, job).length <= instants.length + 1, 'each run made one snapshot at most');
  }
  const { snapshots: listed } = await world.json<Listing>('list');
  assert.ok(listed.every(({ status }) => status === 'complete'));
  assert.equal((await world.run('verify', '--all')).status, 0);
});

test('what a daemon that was killed missed is made up for once, and its lock is free', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  const first = startDaemon(t, world);
  await untilThereAre(world, 'tree', 1);
  first.kill('SIGKILL');
  assert.equal(await first.ended, 'SIGKILL');
  // As if it had been down for three years.
  rmSync(join(world.dir, 'state', 'tries'), { recursive: true, force: true });
  const missed = await madeDaysAgo(world, snapshots(world, 'tree')[0]!, 1100);
  assert.deepEqual(snapshots(world, 'tree'), [missed]);

  const second = startDaemon(t, world);
  await second.logs(/job tree: snapshot .* is complete/);
  // Its pulse has looked at what is due again and again.
  await second.logs(/prune: 1 snapshot ended/);
  second.kill('SIGTERM');
  assert.equal(await second.ended, 0);
  assert.equal(snapshots(world, 'tree').length, 1, second.log());

  rmSync(join(world.dir, 'state', 'tries'), { recursive: true });
  const third = startDaemon(t, world, '-v');
  await third.logs(/job tree is not due: backed up since/);
  third.kill('SIGTERM');
  assert.equal(await third.ended, 0);
  assert.equal(snapshots(world, 'tree').length, 1);
});

test('a run that is under way when SIGTERM comes is finished', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  writeFileSync(join(world.dir, 'tree', 'large'), pseudoRandom(5, 64 * 2 ** 20));
  const daemon = startDaemon(t, world);
  await daemon.logs(/job tree starts/);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
  assert.match(daemon.log(), /stopping; up to 30 s for tree/);
  assert.equal(snapshots(world, 'tree').length, 1);
  assertTidy(world);
});

const running = (shell: string): object => ({
  tree: { schedule: onceAYear, sources: [{ name: 'it', kind: 'command', shell }] },
});

test('a run that cannot end in time is abandoned after half a minute, and nothing of it shows', async (t) => {
  const slowly = 'while :; do head -c 500000 /dev/urandom; sleep 0.5; done';
  const world = await makeHost(t, running(slowly));
  const daemon = startDaemon(t, world);
  await daemon.logs(/job tree starts/);
  const startedMs = performance.now();
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0, daemon.log());
  const seconds = (performance.now() - startedMs) / 1000;
  assert.ok(seconds > 29 && seconds < 60, `it took ${seconds} s`);
  assert.match(daemon.log(), /job tree was abandoned/);
  assert.deepEqual(snapshots(world, 'tree'), []);
  assertTidy(world);
  world.setJobs(running('echo done'));
  await world.json('daemon', '--once');
  assert.equal(snapshots(world, 'tree').length, 1, 'it is made up for at the next start');
});

test('while a backup by hand runs the job, the daemon leaves it to that', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  const large = join(world.dir, 'tree', 'large');
  writeFileSync(large, pseudoRandom(6, 256 * 2 ** 20));
  const byHand = world.run('backup');
  const lock = join(world.dir, 'state', 'lock', 'tree');
  await until(
    () => existsSync(lock),
    () => 'the backup did not take its lock',
  );
  const daemon = startDaemon(t, world);
  await daemon.logs(/job tree is being run by another process/);
  assert.equal((await byHand).status, 0);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
  assert.equal(snapshots(world, 'tree').length, 1);
});

test('a failed run is tried again within its interval, and prune does not wait for it', async (t) => {
  const world = await makeHost(t, { tree: tree('*/30 * * * * *', 'gone') });
  const daemon = startDaemon(t, world, '-v');
  await daemon.logs(/job tree failed: .*saved nothing.*; next at /s);
  await daemon.logs(/prune: host h1 has nothing in the store yet/);
  await daemon.logs(/job tree starts: tried .* in vain since/);
  mkdirSync(join(world.dir, 'gone'));
  writeFileSync(join(world.dir, 'gone', 'file'), 'back again');
  await untilThereAre(world, 'tree', 1);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
});

test('SIGHUP takes a valid configuration over, and leaves the old one in place of a broken one', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  const daemon = startDaemon(t, world);
  await untilThereAre(world, 'tree', 1);
  const good = readFileSync(world.configFile, 'utf8');
  const threads = readdirSync(`/proc/${daemon.pid}/task`).length;

  writeFileSync(world.configFile, '{"store": nonsense');
  daemon.kill('SIGHUP');
  await daemon.logs(/the configuration was not taken over, the old one stays: the configuration has/);
  writeFileSync(world.configFile, good);

  const recipient = join(world.dir, 'keys', 'recipients');
  const [key = ''] = readdirSync(recipient);
  const armored = readFileSync(join(recipient, key));
  rmSync(join(recipient, key));
  daemon.kill('SIGHUP');
  await daemon.logs(/the old one stays: no recipients/);
  writeFileSync(join(recipient, key), armored);

  writeFileSync(world.configFile, good.replace('"h1"', '"h2"'));
  daemon.kill('SIGHUP');
  await daemon.logs(/the old one stays: host and stateDir cannot change/);

  // What was tried of a new job cannot be read: no part of the new configuration is taken over.
  const tried = join(world.dir, 'state', 'tries', 'chat.json');
  mkdirSync(tried, { recursive: true });
  const both = { chat: chat(everyTwoSeconds), tree: tree(onceAYear, 'tree') };
  world.setJobs(both);
  daemon.kill('SIGHUP');
  await daemon.logs(/the old one stays: \S+chat\.json cannot be read/);
  assert.equal(readdirSync(`/proc/${daemon.pid}/task`).length, threads, 'nor do its threads stay');
  rmSync(tried, { recursive: true });

  daemon.kill('SIGHUP');
  await daemon.logs(/configuration loaded anew/);
  await untilThereAre(world, 'chat', 2);
  assert.equal(snapshots(world, 'tree').length, 1);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
  assertTidy(world);
});

test('a second daemon of one host is refused; backup and daemon --once meet only the lock of the job', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  const daemon = startDaemon(t, world);
  await untilThereAre(world, 'tree', 1);
  const second = await world.start('daemon');
  assert.equal(second.status, 11, second.stderr);
  assert.match(second.stderr, /another run of the daemon of host h1 is active/);
  assert.equal((await world.start('daemon', '--once')).status, 0);
  assert.equal((await world.run('backup')).status, 0);
  assert.equal(snapshots(world, 'tree').length, 2);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
});

interface OnceSummary {
  readonly snapshots: readonly { job: string; status: string }[];
  readonly failed: readonly { job: string; code: string }[];
  readonly prune: object | null;
}

test('daemon --once does what is due and nothing the next time', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree'), chat: chat(onceAYear) });
  const first = await world.json<OnceSummary>('daemon', '--once');
  assert.deepEqual(first.snapshots.map(({ job }) => job).toSorted(), ['chat', 'tree']);
  const second = await world.json<OnceSummary>('daemon', '--once');
  assert.deepEqual(second, { type: 'summary', snapshots: [], failed: [], prune: null });
  const quiet = await world.start('daemon', '--once');
  assert.deepEqual(quiet, { status: 0, stdout: '', stderr: '' }, 'cron has nothing to send');
});

test('what makes a snapshot partial is in the mail of cron, of a part of a source too', async (t) => {
  const world = await makeHost(t, {
    tree: { schedule: onceAYear, sources: [{ name: 'tree', kind: 'files', paths: ['tree', 'gone'] }] },
    server: {
      schedule: onceAYear,
      sources: [
        {
          name: 'server',
          kind: 'prosody',
          config: 'tree',
          data: 'tree',
          database: { kind: 'sqlite', path: 'lost.db' },
        },
      ],
    },
    whole: tree(onceAYear, 'tree', 'away'),
  });
  const { status, stderr } = await world.start('--quiet', 'daemon', '--once');
  assert.equal(status, 3);
  for (const why of [/"job":"tree".*gone/, /"job":"server".*lost\.db/, /"job":"whole".*"away"/])
    assert.equal(stderr.split('\n').filter((line) => why.test(line)).length, 1, `${String(why)}: ${stderr}`);
});

test(
  'a clock that is wrong by more than the time between two runs makes none of them skipped',
  needs('s3'),
  async (t) => {
    const { store } = await bucketStore();
    const world = await makeWorld(t, {
      store: { ...store, endpoint: await shiftedClock(t, 20 * 60_000) },
      jobs: {},
    });
    mkdirSync(join(world.dir, 'tree'));
    const once = async () => (await world.json<OnceSummary>('daemon', '--once')).snapshots.length;
    world.setJobs({ tree: tree(onceAYear, 'tree') });
    assert.equal(await once(), 1, 'there was none');
    const instant = new Date(Date.now() + 1500);
    const atThen = `${instant.getUTCSeconds()} ${instant.getUTCMinutes()} ${instant.getUTCHours()} * * *`;
    world.setJobs({ tree: tree(atThen, 'tree') });
    await delay(1500);
    assert.equal(await once(), 1, 'the store dates the first after the instant, and it was made before');
    assert.equal(await once(), 0);
  },
);

test('a store that is away when nothing is due is no failure of the job', needs('s3'), async (t) => {
  let isAway = false;
  const endpoint = await s3Proxy(t, async (exchange) =>
    isAway ? exchange.answer(errorAnswer(400, 'Nonsense')) : exchange.answer(await exchange.ask()),
  );
  const { store } = await bucketStore();
  const world = await makeWorld(t, { store: { ...store, endpoint }, jobs: {} });
  mkdirSync(join(world.dir, 'tree'));
  world.setJobs({ tree: tree(onceAYear, 'tree') });
  await world.json('daemon', '--once');
  isAway = true;
  const { stderr } = await world.run('daemon', '--once');
  assert.match(stderr, /what there is of job tree cannot be seen/);
  isAway = false;
  const { status, stdout } = await world.run('status');
  assert.equal(status, 0, stdout);

  world.setJobs({ tree: tree(everyTwoSeconds, 'tree') });
  await delay(2100);
  isAway = true;
  assert.notEqual((await world.run('daemon', '--once')).status, 0);
  isAway = false;
  assert.match((await world.run('status')).stdout, /Nonsense/, 'of one that was due it is');
});

test('a store that is new or was emptied gets its snapshot at once, not at the next instant', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  await world.json('daemon', '--once');
  rmSync(join(world.dir, 'store'), { recursive: true });
  mkdirSync(join(world.dir, 'store'));
  await world.json('daemon', '--once');
  await untilThereAre(world, 'tree', 1);

  const daemon = startDaemon(t, world);
  await daemon.logs(/next/);
  const path = join(world.dir, 'another');
  mkdirSync(path);
  const config = JSON.parse(readFileSync(world.configFile, 'utf8')) as { store: object };
  writeFileSync(world.configFile, JSON.stringify({ ...config, store: { ...config.store, path } }));
  daemon.kill('SIGHUP');
  await daemon.logs(/job tree: snapshot \S+ is complete/);
  assert.equal(readdirSync(join(path, 'h1', 'snap')).length, 1);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
});

test('a store in whose place another one is found is used from the next run on', needsMounts, async (t) => {
  const world = await makeHost(t, { tree: tree(everyTwoSeconds, 'tree') });
  const store = join(world.dir, 'store');
  const daemon = startDaemon(t, world);
  await untilThereAre(world, 'tree', 1);
  // Disks are changed so, too.
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', store]);
  try {
    await daemon.logs(/something else is in its place/);
    await untilThereAre(world, 'tree', 1);
  } finally {
    execFileSync('umount', ['--lazy', store]);
  }
});

test('of two daemon --once at a time every job is run by one', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree'), chat: chat(onceAYear) });
  const both = await Promise.all([world.start('daemon', '--once'), world.start('daemon', '--once')]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [0, 0],
    both.map(({ stderr }) => stderr).join(''),
  );
  assert.equal(snapshots(world, 'tree').length, 1);
  assert.equal(snapshots(world, 'chat').length, 1);
});

test('the exit code of daemon --once: that of the failure, or 3 when something else was done', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'gone') });
  const failed = await world.start('daemon', '--once');
  assert.equal(failed.status, 1, failed.stderr);
  assert.match(failed.stderr, /job tree failed/);
  const patient = await world.start('daemon', '--once', '-v');
  assert.equal(patient.status, 0, 'it is too early to try again');
  world.setJobs({ tree: tree(onceAYear, 'gone'), chat: chat(onceAYear) });
  rmSync(join(world.dir, 'state', 'tries'), { recursive: true });
  const inPart = await world.start('daemon', '--once');
  assert.equal(inPart.status, 3, inPart.stderr);
  assert.equal(snapshots(world, 'chat').length, 1);
});

test('a daemon that cannot read what was tried last says so and ends', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  mkdirSync(join(world.dir, 'state', 'tries', 'tree.json'), { recursive: true });
  for (const args of [[], ['--once']]) {
    const daemon = startDaemon(t, world, ...args);
    assert.equal(await Promise.race([daemon.ended, delay(20_000, 'it hangs', { ref: false })]), 1);
    assert.match(daemon.log(), /tree\.json cannot be read/);
  }
});

test(
  'a tree on a disk that hangs fails by its time limit, and holds up neither other jobs nor the end',
  needsHangingDisk,
  async (t) => {
    const disk = hangingDisk(t);
    disk.hang();
    const source = { name: 'away', kind: 'files', paths: [disk.path], timeLimit: '1s' };
    const world = await makeHost(t, {
      away: { schedule: onceAYear, sources: [source] },
      chat: chat(onceAYear),
    });
    const daemon = startDaemon(t, world);
    await untilThereAre(world, 'chat', 1);
    await daemon.logs(/job away failed.*longer than its timeLimit of 1s/s);
    daemon.kill('SIGTERM');
    assert.equal(await Promise.race([daemon.ended, delay(30_000, 'it hangs', { ref: false })]), 0);
  },
);

test('daemon --once prunes what has ended, also when every backup fails', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  await world.json('daemon', '--once');
  await madeDaysAgo(world, snapshots(world, 'tree')[0]!, 400);
  rmSync(join(world.dir, 'state', 'tries'), { recursive: true });
  world.setJobs({ tree: tree(onceAYear, 'gone') });
  const { status, stderr } = await world.start('daemon', '--once');
  assert.equal(status, 3, stderr);
  assert.deepEqual(snapshots(world, 'tree'), [], stderr);
});

test('prune is done, and done with, also where its lock and its try cannot be written', async (t) => {
  const world = await makeHost(t, { tree: tree(onceAYear, 'tree') });
  await world.json('backup');
  await madeDaysAgo(world, snapshots(world, 'tree')[0]!, 400);
  // Not even root can write a file where there is a folder.
  mkdirSync(join(world.dir, 'state', 'prune.lock'));
  mkdirSync(join(world.dir, 'state', 'tries', '_prune.json', 'full'), { recursive: true });
  const daemon = startDaemon(t, world);
  await daemon.logs(/prune: 1 snapshot ended/);
  daemon.kill('SIGTERM');
  assert.equal(await daemon.ended, 0);
  assert.match(daemon.log(), /prune runs without its lock: the lock .* cannot be taken/);
  assert.match(daemon.log(), /what was tried could not be written down/);
  assert.doesNotMatch(daemon.log(), /prune failed/);
});

test(
  'on S3 and PostgreSQL: killed and restarted on the way, every snapshot is whole and the chain unbroken',
  needs('postgres', 's3'),
  // npm run soak: SEALIFT_SOAK_MINUTES, ten of them, with spells of so many runs.
  async (t) => {
    const minutes = Number(process.env['SEALIFT_SOAK_MINUTES'] ?? 0);
    const runs = minutes > 0 ? 15 : 3;
    const { store } = await bucketStore({ versioned: true });
    const { host, port, user, password } = theService('postgres');
    const database = await freshDatabase();
    await psql(database, 'CREATE TABLE message AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i');
    const source = {
      name: 'xmpp',
      kind: 'postgres',
      databases: [database],
      globals: false,
      host,
      port,
      user,
      password,
    };
    const jobs = {
      databases: { schedule: everyTwoSeconds, sources: [source] },
      system: tree(everyTwoSeconds, 'tree'),
    };
    const world = await makeWorld(t, { jobs, store });
    mkdirSync(join(world.dir, 'tree'));
    writeFileSync(join(world.dir, 'tree', 'file'), pseudoRandom(3, 100_000));
    const begunAt = Date.now();
    const seen = { SIGKILL: 0, SIGTERM: 0, made: 0, failed: 0, prunes: 0 };
    let change = 0;
    do {
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        const daemon = startDaemon(t, world);
        const count = (pattern: RegExp): number => [...daemon.log().matchAll(pattern)].length;
        await until(
          () => count(/job databases: snapshot \S+ is complete/g) >= runs,
          () => daemon.log(),
          runs * 20,
        );
        daemon.kill(signal);
        assert.equal(await daemon.ended, signal === 'SIGTERM' ? 0 : signal, daemon.log());
        seen[signal] += 1;
        seen.made += count(/job \w+: snapshot \S+ is complete/g);
        seen.failed += count(/job \w+ failed|prune failed/g);
        seen.prunes += count(/prune: \d+ snapshots ended/g);
        await psql(database, `UPDATE message SET md5 = md5(md5) WHERE i % 97 = ${change++ % 97}`);
      }
    } while (Date.now() < begunAt + minutes * 60_000);
    const { snapshots: listed } = await world.json<Listing>('list');
    const soaked = `${Math.round((Date.now() - begunAt) / 1000)} s, ${listed.length} snapshots in the store`;
    t.diagnostic(`${soaked}, as the daemons logged: ${JSON.stringify(seen)}`);
    assert.equal(seen.failed, 0);
    assert.ok(listed.length >= seen.made, 'what was logged is there; what was killed may be, too');
    assert.ok(listed.filter(({ job }) => job === 'databases').length >= 2 * runs);
    assert.ok(listed.every(({ status }) => status === 'complete'));
    const verified = await world.run('verify', '--all', '--read-data');
    assert.equal(verified.status, 0, verified.stdout);
    const audited = await world.run('audit', '--json');
    const { findings } = JSON.parse(audited.stdout) as AuditDocument;
    assert.deepEqual(
      findings.filter(({ rule }) => rule !== 'bucket'),
      [],
    );
  },
);
