import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PruneSummary } from '../../src/commands/prune.ts';
import { madeDaysAgo } from '../support/aged.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put } from '../support/temporary.ts';
import { makeWorld, type BackupSummary, type Listing, type World } from '../support/world.ts';
import {
  assertRefusal,
  backup,
  fingerprints,
  hostWithSnapshot,
  needsMounts,
  refuses,
  treeJob,
  type Mounted,
  underMounts,
} from './bad-input.ts';

test('a directory store that is not there is not made anew, and is as it was when it is back', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const store = join(world.dir, 'store');
  renameSync(store, `${store}-away`);
  const refusal = {
    exit: 10,
    code: 'store-not-found',
    says: /store\): the directory does not exist/,
    hint: /mounted/,
  };
  for (const command of ['backup', 'list']) await refuses(world, [command], refusal);
  renameSync(`${store}-away`, store);
  await nothingLost();
});

test(
  'the folder below the mount of a disk that is not there gets no backup, but another disk does',
  needsMounts,
  async (t) => {
    const world = await makeWorld(t, { jobs: treeJob });
    mkdirSync(join(world.dir, 'tree'));
    put(join(world.dir, 'tree/file'), 'content');
    const store = join(world.dir, 'store');
    const disk = await underMounts(t, `mount -t tmpfs none ${store}`);
    const another = await underMounts(t, `mount -t tmpfs none ${store}`);
    const succeeds = async (mounted: Mounted) => {
      const { status, stderr } = await mounted(['-c', world.configFile, 'backup'], { cwd: world.dir });
      assert.equal(status, 0, stderr);
    };
    await succeeds(disk);

    const refusal = {
      exit: 10,
      code: 'store-not-found',
      says: /nothing is mounted at the store \S+\/store, and the folder there holds no snapshot of host/,
      hint: /mounted\?.*: rm '\S+\/mounted\/[0-9a-f]{16}'$/,
    };
    await refuses(world, ['backup'], refusal);
    const doctor = await world.run('doctor');
    assert.equal(doctor.status, 3);
    assert.match(doctor.stdout, refusal.says);
    assert.deepEqual(readdirSync(store), ['.tmp'], 'where the file lay that told the time');
    mkdirSync(join(store, 'h1')); // as a run leaves it that failed
    await refuses(world, ['backup'], refusal);
    rmSync(join(store, 'h1'), { recursive: true });
    await succeeds(another);
    await succeeds(disk);

    rmSync(join(world.dir, 'state/mounted'), { recursive: true });
    for (const what of ['for the first time', 'again']) {
      const plain = await world.run('backup');
      assert.equal(plain.status, 0, `${what}: ${plain.stderr}`);
    }
    await succeeds(disk);
    const stays = await world.run('backup');
    assert.equal(stays.status, 0, stays.stderr);
  },
);

test(
  'a state folder as older versions left it, on a disk with no room for anything more, is enough for a backup',
  needsMounts,
  async (t) => {
    const { world, nothingLost } = await hostWithSnapshot(t);
    const state = join(world.dir, 'state');
    rmSync(join(state, 'mounted'), { recursive: true, force: true });
    const full = await underMounts(
      t,
      `cp -a ${state} ${state}-before
      mount -t tmpfs -o nr_inodes=30,mode=700 none ${state}
      cp -a ${state}-before/. ${state}
      i=0; while touch ${state}/fill-$i; do i=$((i+1)); done`,
    );
    const { status, stderr } = await full(['-c', world.configFile, 'backup'], { cwd: world.dir });
    assert.equal(status, 0, stderr);
    await nothingLost();
  },
);

test(
  'a store that is mounted read-only refuses backups, and lists, verifies and restores',
  needsMounts,
  async (t) => {
    const { world } = await hostWithSnapshot(t);
    const store = join(world.dir, 'store');
    const before = fingerprints(store);
    const sealift = await underMounts(t, `mount --bind ${store} ${store}; mount -o remount,ro,bind ${store}`);
    const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
    const says = /cannot .*store.*\): not allowed/;
    assertRefusal(await run('backup', '--json'), { exit: 1, code: 'store-denied', says, hint: /read-only/ });
    assert.equal((await run('list')).status, 0);
    assert.equal((await run('verify', '--all', '--read-data')).status, 0);
    const restored = await run('restore', '--to', join(world.dir, 'out'), '--key', world.key);
    assert.equal(restored.status, 0, restored.stderr);
    assert.deepEqual(fingerprints(store), before);
  },
);

test('a store whose temporary folder is damaged refuses backups, and lists, verifies and restores', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const folder = join(world.dir, 'store/.tmp');
  const damages = {
    'a file': () => put(folder, ''),
    'a link to nowhere': () => symlinkSync('/nowhere/at-all', folder),
    'a link to itself': () => symlinkSync('.tmp', folder),
  };
  for (const [what, damage] of Object.entries(damages))
    await t.test(what, async () => {
      rmSync(folder, { recursive: true, force: true });
      damage();
      const says = /does not tell its time: .*store\/\.tmp/;
      await refuses(world, ['backup'], { exit: 1, code: 'clock-wrong', says, hint: /remove it/ });
      await nothingLost();
    });
});

test('a disk that is full ends the backup, and what was stored before is whole', needsMounts, async (t) => {
  const world = await makeWorld(t, { jobs: treeJob });
  const store = join(world.dir, 'store');
  const sealift = await underMounts(t, `mount -t tmpfs -o size=4m none ${store}`);
  const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
  mkdirSync(join(world.dir, 'tree'));
  put(join(world.dir, 'tree/file'), pseudoRandom(1, 700_000));
  const first = await run('backup');
  assert.equal(first.status, 0, first.stderr);

  put(join(world.dir, 'tree/large'), pseudoRandom(2, 6_000_000));
  const says = /cannot write h1\/snap\/.*store\): no space left/;
  assertRefusal(await run('backup', '--json'), { exit: 1, code: 'store-full', says, hint: /Free space/ });
  const { snapshots } = JSON.parse((await run('list', '--json')).stdout) as Listing;
  assert.equal(snapshots.length, 1);
  assert.equal((await run('verify', '--all', '--read-data')).status, 0);
  const restored = await run('restore', '--to', join(world.dir, 'out'), '--key', world.key);
  assert.equal(restored.status, 0, restored.stderr);

  sealift.shell(`mount -o remount,size=32m ${store}`);
  const after = await run('backup', '--json');
  assert.equal(after.status, 0, 'once there is room again, all goes on');
});

for (const [what, prepared] of [
  ['', ''],
  [', also where nobody has asked its time before', 'rm -r $full/.tmp; '],
])
  test(`a disk without room for one more file is pruned, which makes room${what}`, needsMounts, async (t) => {
    const { world, id } = await hostWithSnapshot(t);
    const old = await madeDaysAgo(world, id, 8);
    const [store, full] = ['store', 'full'].map((name) => join(world.dir, name));
    mkdirSync(full!);
    const fill = `i=0; while touch ${full}/$i 2>/dev/null; do i=$((i+1)); done`;
    const sealift = await underMounts(
      t,
      `mount -t tmpfs -o nr_inodes=50 none ${full}; cp -a ${store}/. ${full}; full=${full}; ${prepared}${fill}; mount --bind ${full} ${store}`,
    );
    const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
    const refusal = { exit: 1, code: 'store-full', says: /no space left/ };
    assertRefusal(await run('backup', '--json'), refusal);
    const pruned = await run('prune', '--json');
    assert.equal(pruned.status, 0, pruned.stdout + pruned.stderr);
    const { snapshots } = JSON.parse(pruned.stdout) as PruneSummary;
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [old],
    );
  });

test('a second machine with the same name of host is refused, by name of its key, and writes nothing', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const store = join(world.dir, 'store');
  const before = fingerprints(store);
  const second = await makeWorld(t, { jobs: treeJob, store: { kind: 'directory', path: store } });
  mkdirSync(join(second.dir, 'tree'));
  const says = /another key signs snapshots of host h1/;
  const own = await fingerprintOfHost(second);
  const hint = new RegExp(`This machine's key is ${own}.*give one of them a new one`);
  await refuses(second, ['backup'], { exit: 1, code: 'host-name-taken', says, hint });
  assert.deepEqual(fingerprints(store), before);
  await nothingLost();
});

async function fingerprintOfHost(world: World): Promise<string> {
  return (await world.json<{ fingerprint: string }>('init')).fingerprint;
}

test('one object that somebody made as large as can be hides no other', async (t) => {
  const { world, id, nothingLost } = await hostWithSnapshot(t);
  const snap = join(world.dir, 'store/h1/snap');
  const folder = join(snap, id.replace(/.{6}$/, 'aaaaaa'));
  mkdirSync(folder);
  truncateSync(put(join(folder, 'index.json.gpg'), ''), 3 * 2 ** 30);
  const listed = await world.run('list');
  assert.equal(listed.status, 3, listed.stderr);
  assert.match(listed.stderr, /is larger than any can be/);
  assert.match(listed.stdout, new RegExp(id));
  assert.equal((await world.run('backup')).status, 0);
  assert.equal((await world.run('prune')).status, 3);
  rmSync(folder, { recursive: true });
  await nothingLost();

  const [segment = ''] = readdirSync(join(snap, id, 's'));
  truncateSync(join(snap, id, 's', segment), 3 * 2 ** 30);
  for (const how of [[], ['--read-data']]) {
    const verified = await world.run('verify', '--all', ...how);
    assert.equal(verified.status, 21, verified.stderr);
    assert.match(verified.stdout, new RegExp(`failed .*${segment}`));
  }
  const audited = await world.run('audit');
  assert.equal(audited.status, 20, audited.stderr);
  assert.match(audited.stdout, /has 3221225472 bytes instead of/);
});

/** A file of the kernel's that opens and gives an error where it is read, as one on a bad sector does. */
const unreadable = '/sys/class/net/lo/speed';

test(
  'one object that the disk cannot read any more hides no other, and stops no backup and no prune',
  { skip: !existsSync(unreadable) && 'needs a file that cannot be read' },
  async (t) => {
    const { world, id } = await hostWithSnapshot(t);
    const old = await madeDaysAgo(world, id, 8);
    const ids = [await backup(world), await backup(world)];
    const breakFile = (...path: string[]): void => {
      const file = join(world.dir, 'store/h1/snap', ...path);
      rmSync(file);
      symlinkSync(unreadable, file);
    };
    const [first = '', second = ''] = ids;
    breakFile(second, 'index.json.gpg');
    rmSync(join(world.dir, 'state/cache'), { recursive: true });
    const why = new RegExp(`cannot read h1/snap/${second}/index\\.json\\.gpg.*EINVAL`);

    const status = await world.run('status', '--json');
    assert.equal(status.status, 3, status.stderr);
    assert.match(status.stdout, why);
    const list = await world.run('list', '--json');
    assert.equal(list.status, 3, list.stderr);
    assert.deepEqual(
      (JSON.parse(list.stdout) as Listing).snapshots.map(({ snapshot }) => snapshot),
      [first, old],
    );
    const pruned = await world.run('prune', '--json');
    assert.equal(pruned.status, 3, pruned.stderr);
    const { snapshots, problems } = JSON.parse(pruned.stdout) as PruneSummary;
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [old],
    );
    assert.match(problems.join(), new RegExp(`the index of ${second} cannot be read, and should be live`));
    const next = await world.run('backup', '--json');
    assert.equal(next.status, 0, next.stdout);

    const [segment = '', ...others] = readdirSync(join(world.dir, 'store/h1/snap', first, 's'));
    assert.ok(others.length > 0);
    breakFile(first, 's', segment);
    const verified = await world.run('verify', '--all', '--read-data', '--json');
    assert.equal(verified.status, 21, verified.stdout + verified.stderr);
    const { failures } = JSON.parse(verified.stdout.trimEnd().split('\n').at(-1) ?? '') as {
      failures: { key: string; reason: string }[];
    };
    assert.match(failures.map(({ reason }) => reason).join(), why);
    assert.ok(failures.some(({ key, reason }) => key.endsWith(segment) && /EINVAL/.test(reason)));
    const opened = await world.run('verify', first, '--key', world.key, '--json');
    assert.equal(opened.status, 21, opened.stdout + opened.stderr);
    const to = ['--to', join(world.dir, 'out'), '--key', world.key, '--json'];
    const restored = await world.run('restore', first, ...to);
    assert.equal(restored.status, 21, restored.stdout + restored.stderr);
    for (const { stdout } of [opened, restored]) assert.match(stdout, / cannot be read whole: .*EINVAL/);
    const audit = await world.run('audit', '--json');
    assert.equal(audit.status, 20, audit.stdout + audit.stderr);
    assert.match(audit.stdout, why);
    assert.match(audit.stdout, new RegExp(`cannot read h1/snap/${first}/s/${segment}`));
  },
);

test(
  'a host of which no index can be read hides no other from list',
  { skip: !existsSync(unreadable) && 'needs a file that cannot be read' },
  async (t) => {
    const { world, id } = await hostWithSnapshot(t);
    const store = { kind: 'directory', path: join(world.dir, 'store') };
    const { world: other, id: lost } = await hostWithSnapshot(t, { host: 'a1', store });
    copyFileSync(join(other.dir, 'keys/hosts/a1.asc'), join(world.dir, 'keys/hosts/a1.asc'));
    const index = join(store.path, 'a1/snap', lost, 'index.json.gpg');
    rmSync(index);
    symlinkSync(unreadable, index);
    const all = await world.run('list', '--all-hosts', '--json');
    assert.equal(all.status, 3, all.stdout);
    assert.match(all.stderr, new RegExp(`cannot read a1/snap/${lost}/index`));
    const { snapshots } = JSON.parse(all.stdout) as Listing;
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [id],
    );
    await refuses(world, ['list', '--host', 'a1'], { exit: 1, code: 'store-unavailable', says: /EINVAL/ });
  },
);

test('an index that the store lists and does not have is one that cannot be read', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const newest = await backup(world);
  const index = join(world.dir, 'store/h1/snap', newest, 'index.json.gpg');
  rmSync(index);
  symlinkSync('nowhere', index);
  const says = new RegExp(`${newest} is listed, and the store does not have it`);
  const listed = await world.run('list');
  assert.equal(listed.status, 3, listed.stderr);
  assert.match(listed.stderr, says);
  assert.match(listed.stdout, new RegExp(id));
  const verified = await world.run('verify', '--all');
  assert.equal(verified.status, 21, verified.stderr);
  assert.match(verified.stdout, says);
  const pruned = await world.run('prune');
  assert.equal(pruned.status, 3, pruned.stderr);
  assert.match(pruned.stdout, new RegExp(`the index of ${newest} cannot be read, and should be live`));
});

test('a public key of the host that is damaged in the store stops no backup, and is told', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const keys = join(world.dir, 'store/h1/keys');
  const [name = ''] = readdirSync(keys);
  truncateSync(join(keys, name), 0);
  const { status, stderr } = await world.run('backup');
  assert.equal(status, 0, stderr);
  assert.match(stderr, new RegExp(`${name} is already there with other content.*remove it`));
  rmSync(join(keys, name));
  await backup(world);
  assert.ok(readFileSync(join(keys, name)).length > 0);
});

test('a block that comes twice in a stream is sealed once and comes back twice', async (t) => {
  const world = await makeWorld(t, { jobs: treeJob });
  mkdirSync(join(world.dir, 'tree'));
  // The cuts of the second copy fall in with those of the first after a few segments.
  const block = pseudoRandom(5, 32 * 2 ** 20);
  const file = put(join(world.dir, 'tree/file'), Buffer.concat([block, block]));
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.ok(snapshots[0]);
  const { segments, newBytes, snapshot } = snapshots[0];
  assert.equal(readdirSync(join(world.dir, 'store/h1/snap', snapshot, 's')).length, segments);
  assert.ok(newBytes < 63 * 2 ** 20, `${newBytes} bytes were written`);
  const { stdout } = await world.run('show', 'latest');
  const named = Number(/^tree\/files\.tar .* (\d+)$/m.exec(stdout)?.[1]);
  assert.ok(named > segments, `the tree names ${named} segments, all in all there are ${segments}`);

  const out = join(world.dir, 'out');
  await world.json('restore', '--to', out, '--key', world.key);
  assert.ok(readFileSync(join(out, 'tree', file)).equals(readFileSync(file)));
});
