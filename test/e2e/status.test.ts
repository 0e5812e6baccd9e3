import assert from 'node:assert/strict';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startOf } from '../../src/snapshot/object-key.ts';
import { makeKey } from '../support/keys.ts';
import { madeDaysAgo } from '../support/aged.ts';
import { every2h, makeWorld, type BackupSummary, type World } from '../support/world.ts';

interface Status {
  readonly ok: boolean;
  readonly host: string;
  readonly jobs: readonly {
    readonly job: string;
    readonly snapshot: string | null;
    readonly lastSuccessAt: string | null;
    readonly ageSeconds: number | null;
    readonly status: string | null;
    readonly nextRunAt: string | null;
    readonly late: boolean;
    readonly problems: readonly string[];
  }[];
  readonly recipients: { readonly daysToExpiry: number | null };
  readonly problems: readonly string[];
}

const tree = (...names: string[]) => ({
  schedule: every2h,
  sources: names.map((name) => ({ name, kind: 'files', paths: [name] })),
});

async function makeHost(t: TestContext, jobs: object = { tree: tree('tree') }): Promise<World> {
  const world = await makeWorld(t, { jobs });
  mkdirSync(join(world.dir, 'tree'));
  writeFileSync(join(world.dir, 'tree', 'file'), 'content');
  return world;
}

async function statusOf(world: World, exit: number): Promise<Status> {
  const { status, stdout, stderr } = await world.run('status', '--json');
  assert.equal(status, exit, `${stdout}${stderr}`);
  const report = JSON.parse(stdout) as Status;
  assert.equal(report.ok, exit === 0);
  return report;
}

test('all is well after a backup: its age, the next run, exit code 0, without any private key of an operator', async (t) => {
  const world = await makeHost(t);
  rmSync(join(world.dir, 'op'), { recursive: true });
  const { snapshots } = await world.json<BackupSummary>('backup');
  const report = await statusOf(world, 0);
  assert.equal(report.host, 'h1');
  assert.deepEqual(report.problems, []);
  const [job] = report.jobs;
  assert.deepEqual(
    [job?.job, job?.snapshot, job?.status, job?.late, job?.problems],
    ['tree', snapshots[0]!.snapshot, 'complete', false, []],
  );
  assert.ok(job!.ageSeconds! < 300);
  assert.equal(Date.parse(job!.nextRunAt!) % 7_200_000, 0);
  assert.ok(Date.parse(job!.nextRunAt!) > Date.now());
  const { stdout } = await world.run('status');
  assert.match(stdout, /JOB +STATE +LAST SUCCESS +AGE +NEXT RUN +SCHEDULE\ntree +ok /);
  assert.match(stdout, /All is well\./);
});

test('a job that never ran, one that is late and one that is partial are wrong, each in its own words', async (t) => {
  const world = await makeHost(t, { never: tree('tree'), late: tree('tree'), part: tree('tree', 'gone') });
  const { snapshots } = await world.json<BackupSummary>('backup', 'late');
  await madeDaysAgo(world, snapshots[0]!.snapshot, 1);
  assert.equal((await world.run('backup', 'part')).status, 3);
  const { jobs } = await statusOf(world, 3);
  const said = Object.fromEntries(jobs.map(({ job, problems }) => [job, problems.join('; ')]));
  assert.match(said['never']!, /^there is no snapshot yet$/);
  assert.match(said['late']!, /^late: nothing since 20/);
  assert.match(said['part']!, /^the newest snapshot is partial: gone /);
  assert.equal(jobs.find(({ job }) => job === 'late')?.late, true);
  const { status, stdout } = await world.run('status');
  assert.equal(status, 3);
  assert.match(stdout, /^never +none +- +- +now /m);
  assert.match(stdout, /^late +late /m);
  assert.match(stdout, /^wrong job part: the newest snapshot is partial/m);
});

test('a partial snapshot is the newest, and no success', async (t) => {
  const world = await makeHost(t);
  const { snapshots } = await world.json<BackupSummary>('backup');
  const whole = await madeDaysAgo(world, snapshots[0]!.snapshot, 1);
  world.setJobs({ tree: tree('tree', 'gone') });
  assert.equal((await world.run('backup')).status, 3);
  const [job] = (await statusOf(world, 3)).jobs;
  assert.deepEqual([job!.status, job!.late], ['partial', false]);
  assert.notEqual(job!.snapshot, whole);
  assert.ok(job!.ageSeconds! >= 86_400, `${job!.ageSeconds}`);
  assert.equal(Date.parse(job!.lastSuccessAt!), startOf(whole));
  assert.match((await world.run('status')).stdout, /^tree +look +20\S+ +1d /m);
  assert.match((await world.run('list')).stdout, / partial +tree gone:failed\n.* complete +tree\n/);

  rmSync(join(world.dir, 'store/h1/snap', whole), { recursive: true });
  const [alone] = (await statusOf(world, 3)).jobs;
  assert.deepEqual([alone!.status, alone!.lastSuccessAt, alone!.ageSeconds], ['partial', null, null]);
});

test('a store that lost the last snapshots, or the index of one, is told by status and doctor', async (t) => {
  const world = await makeHost(t);
  const made: string[] = [];
  for (let i = 0; i < 3; i++) made.push((await world.json<BackupSummary>('backup')).snapshots[0]!.snapshot);
  const snap = join(world.dir, 'store/h1/snap');
  const doctor = async (): Promise<{ status: number | null; bad: string[] }> => {
    const { status, stdout } = await world.run('doctor', '--json');
    const { checks } = JSON.parse(stdout) as { checks: { state: string; message: string }[] };
    return { status, bad: checks.filter(({ state }) => state === 'bad').map(({ message }) => message) };
  };
  assert.deepEqual([(await world.run('status')).status, (await doctor()).bad], [0, []]);

  const index = join(snap, made[2]!, 'index.json.gpg');
  const whole = readFileSync(index);
  chmodSync(index, 0o644);
  writeFileSync(index, 'junk');
  const damaged = await doctor();
  assert.equal(damaged.status, 3);
  assert.match(damaged.bad[0] ?? '', new RegExp(`${made[2]!}.* damaged or forged`));

  writeFileSync(index, whole);
  assert.deepEqual(await doctor(), { status: 0, bad: [] });
  rmSync(join(snap, made[2]!), { recursive: true });
  const says = /^this host committed snapshot 3 of job tree, and the store has nothing after 2: /;
  assert.match((await statusOf(world, 3)).jobs[0]!.problems.join(), says);
  assert.match((await doctor()).bad.join(), says);
  rmSync(snap, { recursive: true });
  assert.match((await statusOf(world, 3)).jobs[0]!.problems.at(-1)!, /committed snapshot 3 .* has none: /);
  assert.match((await doctor()).bad.join(), /committed snapshot 3 .* has none: /);
});

test('what a scheduled run failed of is told until one succeeds', async (t) => {
  const world = await makeHost(t, { tree: tree('gone') });
  assert.equal((await world.start('daemon', '--once')).status, 1);
  const [job] = (await statusOf(world, 3)).jobs;
  assert.match(job!.problems.join('; '), /no snapshot yet; failed at .*: job tree saved nothing/s);
  // Why is on a line of its own.
  assert.match(
    (await world.run('status')).stdout,
    /^wrong job tree: failed at .*:\n  gone: The files of "gone" /m,
  );
  world.setJobs({ tree: tree('tree') });
  await world.json('backup');
  await statusOf(world, 0);
});

test('a snapshot that cannot be verified does not count as a success', async (t) => {
  const world = await makeHost(t);
  const { snapshots } = await world.json<BackupSummary>('backup');
  const file = join(world.dir, 'store/h1/snap', snapshots[0]!.snapshot, 'index.json.gpg');
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1]! ^= 1;
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
  rmSync(join(world.dir, 'state', 'cache'), { recursive: true, force: true });
  const [job] = (await statusOf(world, 3)).jobs;
  assert.equal(job!.snapshot, null);
  assert.match(job!.problems.join('; '), /no snapshot yet; .*index/);
});

test('a recipient that expires soon, or is gone, is told before backups stop', async (t) => {
  const world = await makeHost(t);
  await world.json('backup');
  assert.ok(((await statusOf(world, 0)).recipients.daysToExpiry ?? Infinity) > 30);
  const folder = join(world.dir, 'keys', 'recipients');
  const { publicKey } = await makeKey({ keyExpirationTime: 5 * 86_400 + 3600 }, 'Eve');
  writeFileSync(join(folder, 'eve.asc'), publicKey.armor());
  const soon = await statusOf(world, 3);
  assert.equal(soon.recipients.daysToExpiry, 5);
  assert.match(soon.problems.join(), /expires in 5 days/);
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
  assert.match((await statusOf(world, 3)).problems.join(), /there are no recipients/);

  // Of keys of which something is wrong that is told, and not how long they are good for.
  const wrong = async () => (await world.run('status')).stdout;
  assert.doesNotMatch(await wrong(), /^Recipients' keys/m);
  const { publicKey: past } = await makeKey(
    { date: new Date('2020-01-01'), keyExpirationTime: 86_400 },
    'Eve',
  );
  writeFileSync(join(folder, 'eve.asc'), past.armor());
  assert.match(await wrong(), /^wrong .*eve\.asc: expired on 2020-01-02$/m);
  assert.doesNotMatch(await wrong(), /^Recipients' keys/m);
});

test('a host that has lost its key, its secret or all of its state is not well, before any backup is late', async (t) => {
  const world = await makeHost(t);
  await world.json('backup');
  for (const lost of ['state/host-key.asc', 'state/host-secret', 'state']) {
    rmSync(join(world.dir, lost), { recursive: true });
    const { problems } = await statusOf(world, 3);
    assert.match(problems.join(), /no backup can be made: .*(init|backup of this host)/, lost);
    if (lost !== 'state') await world.json('init');
  }
});

test('what a backup makes by itself is no problem where it is not there, and status does not make it', async (t) => {
  const world = await makeHost(t);
  await world.json('backup');
  const journal = join(world.dir, 'state/journal');
  rmSync(journal, { recursive: true });
  await statusOf(world, 0);
  assert.ok(!existsSync(journal));
});

test('snapshots that should have gone long ago are told: prune does not run', async (t) => {
  const world = await makeHost(t);
  const { snapshots } = await world.json<BackupSummary>('backup');
  const old = await madeDaysAgo(world, snapshots[0]!.snapshot, 8);
  await world.json('backup');
  assert.match((await statusOf(world, 3)).problems.join(), /1 snapshot past its end is still in the store/);
  // What younger ones still name stays in its folder.
  rmSync(join(world.dir, 'store/h1/snap', old, 'index.json.gpg'));
  assert.deepEqual((await statusOf(world, 0)).problems, []);
  assert.equal((await world.run('prune')).status, 0);
  await statusOf(world, 0);
});

test('what was promised to live shorter than the configuration says now is told at its own end', async (t) => {
  const world = await makeWorld(t, {
    jobs: { tree: tree('tree') },
    settings: { retention: { maxAge: '3d' } },
  });
  mkdirSync(join(world.dir, 'tree'));
  writeFileSync(join(world.dir, 'tree', 'file'), 'content');
  for (const days of [4, 5, 1]) {
    const { snapshots } = await world.json<BackupSummary>('backup');
    await madeDaysAgo(world, snapshots[0]!.snapshot, days);
  }
  const config = readFileSync(world.configFile, 'utf8');
  writeFileSync(world.configFile, config.replace('"3d"', '"7d"'));
  await world.json('backup');
  assert.match(
    (await statusOf(world, 3)).problems.join(),
    /2 snapshots past their end are still in the store/,
  );
  await world.run('prune');
  await statusOf(world, 0);
});

test('what a prune could not do is told until one is whole', async (t) => {
  const world = await makeHost(t);
  const { snapshots } = await world.json<BackupSummary>('backup');
  const folder = join(world.dir, 'store/h1/snap');
  const { snapshot } = snapshots[0]!;
  const future = snapshot.replace(/^\d{8}/, '20991231');
  cpSync(join(folder, snapshot, 's'), join(folder, future, 's'), { recursive: true });
  assert.equal((await world.start('daemon', '--once')).status, 3);
  const said = (await statusOf(world, 3)).problems.join();
  assert.match(
    said,
    /prune was incomplete at 20.*Z: host h1: 2 objects dated before the run that wrote them/,
  );

  rmSync(join(folder, future), { recursive: true });
  rmSync(join(world.dir, 'state/tries/_prune.json'));
  await world.json('daemon', '--once');
  await statusOf(world, 0);
});
