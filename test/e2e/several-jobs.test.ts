import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pseudoRandom } from '../support/bytes.ts';
import { temporary } from '../support/temporary.ts';
import { every2h, makeWorld, type BackupSummary, type Listing, type World } from '../support/world.ts';
import { needsMounts, underMounts } from './bad-input.ts';

const tree = (name: string) => ({
  schedule: every2h,
  sources: [{ name: `tree-${name}`, kind: 'files', paths: [name] }],
});

/** Two jobs, `aa` before `bb`, each with one tree. */
async function makeTwoJobs(t: TestContext): Promise<World> {
  const world = await makeWorld(t, { jobs: { aa: tree('aa'), bb: tree('bb') } });
  for (const name of ['aa', 'bb']) {
    mkdirSync(join(world.dir, name));
    writeFileSync(join(world.dir, name, 'file'), pseudoRandom(7, 200_000));
  }
  return world;
}

const snapshots = (world: World): string => join(world.dir, 'store', 'h1', 'snap');
const ofJob = (world: World, job: string): string[] =>
  readdirSync(snapshots(world))
    .filter((name) => name.includes(`-${job}-`))
    .toSorted();

function damage(file: string): void {
  const bytes = readFileSync(file);
  const middle = bytes.length >> 1;
  bytes[middle] = bytes[middle]! ^ 1;
  rmSync(file);
  writeFileSync(file, bytes);
}

test('of several jobs, why one failed is told with what to do', async (t) => {
  const world = await makeTwoJobs(t);
  rmSync(join(world.dir, 'aa'), { recursive: true });
  const { status, stderr } = await world.run('backup');
  assert.equal(status, 3);
  assert.match(stderr, /"hint":"Earlier snapshots are untouched.*"msg":"job aa: job aa saved nothing/);
});

test('with two jobs a source is found without naming its job, and named twice it comes once', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  const out = join(world.dir, 'out');
  const twice = ['--source', 'tree-aa', '--source', 'tree-aa/files.tar'];
  const { status, stderr } = await world.run('restore', 'latest', ...twice, '--to', out, '--key', world.key);
  assert.equal(status, 0, stderr);
  assert.ok(existsSync(join(out, 'tree-aa', world.dir.slice(1), 'aa', 'file')));
  const none = await world.run(
    'restore',
    'latest',
    '--source',
    'other',
    '--to',
    `${out}2`,
    '--key',
    world.key,
  );
  assert.equal(none.status, 10, none.stderr);
});

test('--json does not go with --stdout, where data would be mixed with lines', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  const args = ['restore', 'latest', '--job', 'aa', '--stdout', '--key', world.key];
  assert.equal((await world.start('--json', ...args)).status, 2);
  assert.equal((await world.start(...args)).status, 0);
});

test('a damaged newest index of one job is not hidden by a newer snapshot of another', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  await world.json('backup');
  damage(join(snapshots(world), ofJob(world, 'aa').at(-1)!, 'index.json.gpg'));
  const verified = await world.run('verify', '--json');
  assert.equal(verified.status, 21, verified.stdout);
  assert.match(verified.stdout, /"ok":false/);
  const restored = await world.run('restore', 'latest', '--to', join(world.dir, 'out'), '--key', world.key);
  assert.equal(restored.status, 3, 'the newest could not be read, so it is done in part');
});

test('a job of which no index can be read is missed, but by whoever wants another one', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  damage(join(snapshots(world), ofJob(world, 'bb').at(-1)!, 'index.json.gpg'));
  const restore = async (...args: string[]): Promise<number | null> =>
    (await world.run('restore', ...args, '--force', '--to', join(world.dir, 'out'), '--key', world.key))
      .status;
  assert.equal(await restore('latest'), 3);
  // It may be in either.
  assert.equal(await restore('latest', '--source', 'tree-aa'), 3);
  assert.equal(await restore('latest', '--job', 'aa'), 0);

  const shown = await world.run('show', 'latest');
  assert.equal(shown.status, 3);
  assert.match(shown.stdout, /^\S+-aa-/);
  assert.match(shown.stderr, new RegExp(ofJob(world, 'bb')[0]!));
  assert.equal((await world.run('show', ofJob(world, 'aa')[0]!)).status, 0);
});

test('show has the latest of a job, and is not concerned with others', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  const [[aa = ''], [bb = '']] = [ofJob(world, 'aa'), ofJob(world, 'bb')];
  assert.equal((await world.json<{ snapshot: string }>('show', 'latest')).snapshot, bb);
  assert.equal((await world.json<{ snapshot: string }>('show', 'latest', '--job', 'aa')).snapshot, aa);
  assert.equal((await world.json<{ snapshot: string }>('show', aa, '--job', 'aa')).snapshot, aa);
  const other = await world.run('show', aa, '--job', 'bb');
  assert.equal(other.status, 2);
  assert.match(other.stderr, new RegExp(`${aa} is of job aa, not bb`));
  const none = await world.run('show', 'latest', '--job', 'cc');
  assert.equal(none.status, 10);
  assert.match(none.stderr, /no snapshot of job cc/);
  damage(join(snapshots(world), bb, 'index.json.gpg'));
  assert.equal((await world.run('show', 'latest', '--job', 'aa')).status, 0);
  assert.equal((await world.run('show', 'latest', '--job', 'bb')).status, 21);
});

/** When a snapshot began, by its id, as `--at` takes it. */
const startOf = (id: string): string =>
  id.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z.*/, '$1-$2-$3T$4:$5:$6Z');

test('--at is in doubt only by what cannot be read before it', async (t) => {
  const world = await makeTwoJobs(t);
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { snapshots } = await world.json<BackupSummary>('backup', 'aa');
    ids.push(snapshots[0]!.snapshot);
    await delay(1100);
  }
  damage(join(snapshots(world), ids[1]!, 'index.json.gpg'));
  for (const [id, status] of [
    [ids[0]!, 0],
    [ids[1]!, 3],
    [ids[2]!, 0],
  ] as const) {
    const args = [
      'latest',
      '--at',
      startOf(id),
      '--force',
      '--to',
      join(world.dir, 'out'),
      '--key',
      world.key,
    ];
    assert.equal((await world.run('restore', ...args)).status, status, id);
  }
});

test('list counts what an ended run left to another, and knows its jobs', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup', 'aa');
  await world.json('backup', 'aa');
  const whole = (await world.run('list')).stdout;
  assert.match(whole, /2 snapshots, 2\d\d KiB stored/);
  // What the second names of the first is there all the same.
  rmSync(join(snapshots(world), ofJob(world, 'aa')[0]!, 'index.json.gpg'));
  assert.match((await world.run('list')).stdout, /1 snapshot, 2\d\d KiB stored/);
  assert.match((await world.run('list', '--job', 'bb')).stdout, /There are no snapshots/);
  const unknown = await world.run('list', '--job', 'nope');
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /there is no job nope\n.*aa, bb/);
});

test('a tree that holds the store and the state is saved without the store', async (t) => {
  const world = await makeTwoJobs(t);
  const all = { schedule: every2h, sources: [{ name: 'all', kind: 'files', paths: [world.dir] }] };
  world.setJobs({ all });
  await world.json('backup');
  await world.json('backup');
  const { files } = await world.json<{ files: { path: string }[] }>(
    'show',
    'latest',
    '--files',
    '--key',
    world.key,
  );
  const paths = files.map(({ path }) => path);
  assert.ok(
    paths.some((path) => path.endsWith('/state/host-secret')),
    paths.join(),
  );
  assert.deepEqual(
    paths.filter((path) => /\/store(\/|$)/.test(path)),
    [],
  );
});

test('a store is left out of a tree also behind links, and beside a path within it that was named', async (t) => {
  const world = await makeTwoJobs(t);
  const mine = join(world.dir, 'store/mine');
  mkdirSync(mine);
  writeFileSync(join(mine, 'file'), 'x');
  const elsewhere = temporary(t);
  const around = join(elsewhere, 'link', basename(world.dir));
  symlinkSync(dirname(world.dir), join(elsewhere, 'link'));
  const config = readFileSync(world.configFile, 'utf8');
  const behindLink = config.replaceAll(`"${world.dir}/store"`, `"${around}/store"`);
  assert.notEqual(behindLink, config);
  const savedOf = async (paths: string[], text: string): Promise<string[]> => {
    const jobs = { j: { schedule: every2h, sources: [{ name: 'tree', kind: 'files', paths }] } };
    writeFileSync(world.configFile, JSON.stringify({ ...JSON.parse(text), jobs }));
    await world.json('backup');
    const args = ['show', 'latest', '--files', '--key', world.key] as const;
    const { files } = await world.json<{ files: { path: string }[] }>(...args);
    return files.map(({ path }) => path).filter((path) => /\/store(\/|$)/.test(path));
  };
  assert.deepEqual(await savedOf([world.dir], behindLink), []);
  assert.deepEqual(await savedOf([around], config), [], 'a path that leads through a link');
  assert.deepEqual(await savedOf([world.dir, mine], config), [mine, join(mine, 'file')]);
});

test('a store is left out of a tree under any name, as by a bind mount', needsMounts, async (t) => {
  const world = await makeTwoJobs(t);
  const other = join(world.dir, 'tree/other');
  mkdirSync(other, { recursive: true });
  const sealift = await underMounts(t, `mount --bind ${join(world.dir, 'store')} ${other}`);
  world.setJobs({
    j: { schedule: every2h, sources: [{ name: 'tree', kind: 'files', paths: [join(world.dir, 'tree')] }] },
  });
  const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
  assert.equal((await run('backup')).status, 0);
  const { stdout } = await run('show', 'latest', '--files', '--key', world.key, '--json');
  const { files } = JSON.parse(stdout) as { files: { path: string }[] };
  assert.deepEqual(
    files.filter(({ path }) => path.startsWith(other)),
    [],
  );
});

test('a source that is the store itself is refused', async (t) => {
  const world = await makeTwoJobs(t);
  const sources = [{ name: 'it', kind: 'files', paths: [join(world.dir, 'store')] }];
  world.setJobs({ j: { schedule: every2h, sources } });
  const { status, stderr } = await world.run('backup');
  assert.equal(status, 1);
  assert.match(stderr, /store" is the store itself/);
  assert.equal((await world.run('doctor')).status, 3);
});

test('what lies beside the hosts in the folder of a store is saved where it is named', async (t) => {
  const world = await makeTwoJobs(t);
  const mine = join(world.dir, 'store/mine');
  mkdirSync(mine);
  writeFileSync(join(mine, 'file'), 'x');
  const sources = [{ name: 'mine', kind: 'files', paths: [mine] }];
  world.setJobs({ j: { schedule: every2h, sources } });
  await world.json('backup');
  const args = ['show', 'latest', '--files', '--key', world.key] as const;
  const { files } = await world.json<{ files: { path: string }[] }>(...args);
  assert.deepEqual(
    files.map(({ path }) => path),
    [mine, join(mine, 'file')],
  );
});

test('--include looks into the trees of the job that is named, and nothing is called a source that is not there', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  const out = join(world.dir, 'out');
  const include = ['--include', 'file', '--to', out, '--key', world.key];
  const { status, stderr } = await world.run('restore', 'latest', '--job', 'aa', ...include);
  assert.equal(status, 0, stderr);
  assert.deepEqual(readdirSync(out), ['tree-aa']);
  const early = [
    '--at',
    '2020-01-01T00:00:00Z',
    '--source',
    'tree-aa',
    '--to',
    `${out}2`,
    '--key',
    world.key,
  ];
  const none = await world.run('restore', 'latest', ...early);
  assert.equal(none.status, 10);
  assert.match(none.stderr, /host h1 has no snapshot that could be restored/);
});

test('a job that fails in an unexpected way does not keep the next one from running', async (t) => {
  const world = await makeTwoJobs(t);
  mkdirSync(join(world.dir, 'state', 'lock', 'aa'), { recursive: true });
  const { status, stdout, stderr } = await world.run('--json', 'backup');
  assert.equal(status, 3, stderr);
  const summary = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary & {
    failed: object[];
  };
  assert.deepEqual(
    summary.snapshots.map(({ job }) => job),
    ['bb'],
  );
  assert.equal(summary.failed.length, 1);
});

test('a journal that goes while it is listed, and old folders among drafts, do not stop a backup', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup');
  symlinkSync('/nonexistent', join(world.dir, 'state', 'journal', '20261123T025541Z-bb-aaaaaa'));
  const stale = join(world.dir, 'store', '.tmp', 'old');
  mkdirSync(stale, { recursive: true });
  utimesSync(stale, 1e9, 1e9);
  await world.json('backup', 'aa');
});

test('a name that is too long for a stream fails that stream, and its siblings are a snapshot that can be read', async (t) => {
  const world = await makeTwoJobs(t);
  const path = join(world.dir, `${'ä'.repeat(45)}.sqlite`);
  new DatabaseSync(path).exec('CREATE TABLE t (a)');
  const sources = [
    { name: 'long', kind: 'sqlite', path },
    { name: 'tree', kind: 'files', paths: ['aa'] },
  ];
  world.setJobs({ aa: { schedule: every2h, sources } });
  const { status, stdout } = await world.run('--json', 'backup');
  assert.equal(status, 3, stdout);
  const { snapshots: listed } = await world.json<Listing>('list');
  assert.deepEqual(
    listed.map(({ problems }) => problems),
    [[{ source: 'long', code: 'stream-failed' }]],
  );
});

test('an emptied store is noticed by the next backup, and a stranger’s index from long ago stops nothing', async (t) => {
  const world = await makeTwoJobs(t);
  await world.json('backup', 'aa');
  for (const name of ofJob(world, 'aa')) rmSync(join(snapshots(world), name), { recursive: true });
  const { status, stderr } = await world.run('backup', 'aa');
  assert.equal(status, 0);
  assert.match(stderr, /this host committed snapshot 1 of job aa, and the store has none/);

  const stranger = await makeTwoJobs(t);
  await stranger.json('backup', 'aa');
  const theirs = join(snapshots(stranger), ofJob(stranger, 'aa')[0]!);
  renameSync(theirs, join(snapshots(world), '20200101T000000Z-aa-aaaaaa'));
  await world.json('backup', 'aa');
  assert.equal((await world.run('restore', '--to', join(world.dir, 'out'), '--key', world.key)).status, 0);
});

test('two snapshots of one second are told apart by their sequence', async (t) => {
  const world = await makeTwoJobs(t);
  const made: string[] = [];
  for (let i = 0; i < 6; i++)
    made.push((await world.json<BackupSummary>('backup', 'aa')).snapshots[0]!.snapshot);
  const { snapshots: listed } = await world.json<Listing>('list');
  assert.deepEqual(
    listed.map(({ snapshot }) => snapshot),
    made.toReversed(),
  );
});
