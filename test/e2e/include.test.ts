import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import type { Context } from '../../src/commands/context.ts';
import { restore } from '../../src/commands/restore.ts';
import { needs } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher, sealift } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { bucketStore, every2h, makeWorld, type BackupSummary, type World } from '../support/world.ts';
import { needsMounts, refuses, underMounts } from './bad-input.ts';

const isRoot = process.geteuid?.() === 0;

const sources = [
  { name: 'etc', kind: 'files', paths: ['tree/etc'] },
  { name: 'srv', kind: 'files', paths: ['tree/srv'] },
  { name: 'chat', kind: 'sqlite', path: 'chat.db' },
];

interface Restored {
  readonly snapshots: readonly string[];
  readonly restored: readonly string[];
  readonly skipped: readonly string[];
  readonly bytes: number;
  readonly files: number;
  readonly fetchedBytes: number;
  readonly durationSeconds: number;
  readonly withoutSetuid: readonly string[];
  readonly withoutAttributes: number;
}

const content = { small: pseudoRandom(10, 10_000), first: pseudoRandom(11, 20_000) };

/** Two trees and a database. In the first tree some small files lie between blobs that fill segments. */
function plant({ dir }: World): void {
  const etc = join(dir, 'tree/etc');
  for (const folder of ['app', 'm', 'z', '../srv/www']) mkdirSync(join(etc, folder), { recursive: true });
  put(join(etc, 'app/first'), content.first, 0o640);
  put(join(etc, 'b-blob'), pseudoRandom(1, 5_000_000));
  put(join(etc, 'm/small.conf'), content.small, 0o600);
  put(join(etc, 'n-blob'), pseudoRandom(2, 5_000_000));
  linkSync(join(etc, 'app/first'), join(etc, 'z/again'));
  linkSync(join(etc, 'app/first'), join(etc, 'z/and again'));
  symlinkSync('../m/small.conf', join(etc, 'z/link'));
  put(join(etc, 'z/tool'), 'x', 0o4755);
  put(join(etc, '../srv/www/site.conf'), 'of srv');
  chmodSync(join(etc, 'm'), 0o711);
  if (isRoot) {
    for (const name of ['m', 'z/tool']) chownSync(join(etc, name), 33, 34);
    lchownSync(join(etc, 'z/link'), 33, 34);
    chmodSync(join(etc, 'z/tool'), 0o4755);
  }
  utimesSync(join(etc, 'm'), 1.2e9, 1.2e9);
  using database = new DatabaseSync(join(dir, 'chat.db'));
  database.exec('CREATE TABLE message (body TEXT)');
}

async function host(t: TestContext, store?: object): Promise<World> {
  const jobs = { all: { schedule: every2h, sources } };
  const world = await makeWorld(t, { jobs, ...(store && { store }) });
  plant(world);
  await world.json('backup');
  return world;
}

/** The arguments of a restore of these patterns to a folder of the world. */
const including = (world: World, to: string, ...patterns: string[]): string[] => [
  'restore',
  '--to',
  join(world.dir, to),
  '--key',
  world.key,
  ...patterns.flatMap((pattern) => ['--include', pattern]),
];

const modeOf = (path: string): number => statSync(path).mode & 0o7777;

/** Everything below a folder. */
const below = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();

/** What the program wrote to stdout, byte by byte. */
const toStdout = (world: World, ...args: string[]): Buffer =>
  execFileSync(launcher, ['-c', world.configFile, '-q', 'restore', '--stdout', '--key', world.key, ...args], {
    maxBuffer: 2 ** 26,
  });

test('one file is fetched from a bucket by its segments alone', needs('s3'), async (t) => {
  const { store } = await bucketStore({ versioned: true });
  const fetched: { path: string; bytes: number }[] = [];
  const endpoint = await s3Proxy(t, async (exchange) => {
    const answer = await exchange.ask();
    const isObject = exchange.method === 'GET' && /\.(gpg|asc|md)(\?|$)/.test(exchange.path);
    if (isObject && answer.status === 200) fetched.push({ path: exchange.path, bytes: answer.body.length });
    exchange.answer(answer);
  });
  const world = await host(t, { ...store, endpoint });
  fetched.length = 0;
  const [snapshot] = (await world.json<{ snapshots: { storedBytes: number }[] }>('list')).snapshots;
  fetched.length = 0;

  const small = join(world.dir, 'tree/etc/m/small.conf');
  const summary = await world.json<Restored>(...including(world, 'out', small));
  const back = join(world.dir, 'out/etc', small);
  assert.ok(readFileSync(back).equals(content.small));
  assert.deepEqual([summary.files, summary.bytes, summary.skipped], [1, 10_000, []]);

  const total = fetched.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.equal(summary.fetchedBytes, total, 'the program says what it fetched');
  assert.ok(total < snapshot!.storedBytes / 2, `${total} of ${snapshot!.storedBytes} bytes were fetched`);
  const segments = fetched.filter(({ path }) => path.includes('/s/'));
  // One of details, and the one or two that the file lies in.
  assert.ok([2, 3].includes(segments.length), fetched.map(({ path }) => path).join('\n'));
});

test('some files come back', async (t) => {
  const world = await host(t);
  const tree = join(world.dir, 'tree');
  const from = (to: string, source = 'etc'): string => join(world.dir, to, source, tree);

  await t.test('with the folders around them as they were, and nothing else', async () => {
    const { files, durationSeconds } = await world.json<Restored>(...including(world, 'one', 'm/*.conf'));
    assert.equal(files, 1);
    assert.ok(durationSeconds > 0);
    assert.deepEqual(below(from('one')), ['etc', 'etc/m', 'etc/m/small.conf']);
    assert.ok(!existsSync(join(world.dir, 'one/srv')));
    const [was, is] = [join(tree, 'etc/m'), join(from('one'), 'etc/m')].map((path) => statSync(path));
    for (const fact of ['mode', 'uid', 'gid', 'mtimeMs'] as const) assert.equal(is![fact], was![fact], fact);
    assert.equal(statSync(join(from('one'), 'etc/m/small.conf')).mode & 0o7777, 0o600);
  });

  await t.test(
    'with a folder all that is in it: symlinks, and hard links whose first name is elsewhere',
    async () => {
      const { bytes } = await world.json<Restored>(...including(world, 'folder', join(tree, 'etc/z/')));
      const z = join(from('folder'), 'etc/z');
      assert.deepEqual(below(from('folder')), [
        'etc',
        'etc/z',
        ...['again', 'and again', 'link', 'tool'].map((name) => `etc/z/${name}`),
      ]);
      assert.ok(readFileSync(join(z, 'again')).equals(content.first));
      assert.equal(statSync(join(z, 'again')).ino, statSync(join(z, 'and again')).ino);
      assert.equal(statSync(join(z, 'again')).mode & 0o7777, 0o640);
      assert.equal(readlinkSync(join(z, 'link')), '../m/small.conf');
      assert.equal(bytes, 20_001);
    },
  );

  await t.test('from every tree that has some, or from the one that is named', async () => {
    const both = await world.json<Restored>(...including(world, 'both', '*.conf'));
    assert.equal(both.files, 2);
    assert.equal(readFileSync(join(from('both', 'srv'), 'srv/www/site.conf'), 'utf8'), 'of srv');
    assert.ok(existsSync(join(from('both'), 'etc/m/small.conf')));
    assert.ok(!existsSync(join(world.dir, 'both/chat')));
    const one = await world.json<Restored>(...including(world, 'named', '*.conf'), '--source', 'srv');
    assert.equal(one.files, 1);
  });

  await t.test('or the content of one goes to standard output', () => {
    assert.ok(toStdout(world, '--include', 'small.conf').equals(content.small));
    assert.ok(toStdout(world, '--include', join(tree, 'etc/z/again')).equals(content.first));
    assert.equal(toStdout(world, '--include', join(tree, 'srv')).toString(), 'of srv');
  });

  await t.test('not to standard output if they are several, or no file', async () => {
    const stdout = ['restore', '--stdout', '--key', world.key, '--include'];
    const several = await world.start(...stdout, '*.conf');
    assert.deepEqual([several.status, several.stdout], [2, '']);
    assert.match(several.stderr, /one file, and 2 match[^]*small\.conf, [^]*site\.conf/);
    const symlink = await world.start(...stdout, 'z/link');
    assert.deepEqual([symlink.status, symlink.stdout], [2, '']);
    assert.match(symlink.stderr, /is a symlink[^]*points to \.\.\/m\/small\.conf/);
  });

  await t.test(
    'setuid and setgid only with --same-owner, and the loss is told',
    { skip: !isRoot && 'needs root' },
    async () => {
      const without = await world.run(...including(world, 'without', 'z/tool'));
      assert.equal(without.status, 0, without.stderr);
      assert.equal(modeOf(join(from('without'), 'etc/z/tool')), 0o755);
      assert.match(without.stdout, /without setuid or setgid \(--same-owner keeps it\): .*z\/tool/);
      await world.json(...including(world, 'with', 'z/tool'), '--same-owner');
      assert.equal(modeOf(join(from('with'), 'etc/z/tool')), 0o4755);
    },
  );

  // As on FAT, or on NFS that takes root for nobody.
  for (const [what, program, ...args] of [
    ['by a root who may give nothing to others', 'setpriv', '--bounding-set=-chown', '--inh-caps=-chown'],
    ['in a container without those users', 'unshare', '--user', '--map-root-user'],
  ] as const)
    await t.test(
      `with owners that cannot be given, ${what}: all comes back but setuid, and how many is told`,
      {
        skip: (!isRoot || spawnSync(program, [...args, 'true']).status !== 0) && `needs ${program} and root`,
      },
      async () => {
        const restored = (to: string, ...more: string[]) => {
          const options = [
            ...including(world, to, 'small.conf', 'z/tool', 'z/link'),
            '--same-owner',
            ...more,
          ];
          return sealift([...args, launcher, '-c', world.configFile, ...options], {
            cwd: world.dir,
            program,
          });
        };
        const { status, stdout, stderr } = await restored(program, '--json');
        assert.equal(status, 3, stdout + stderr);
        const summary = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Restored;
        assert.deepEqual([summary.files, summary.skipped, summary.withoutAttributes], [3, [], 3]);
        assert.match(summary.withoutSetuid.join(' '), /^\S+\/z\/tool$/);
        const back = join(from(program), 'etc');
        assert.ok(readFileSync(join(back, 'm/small.conf')).equals(content.small));
        assert.deepEqual([modeOf(join(back, 'z/tool')), modeOf(join(back, 'm'))], [0o755, 0o711]);
        assert.equal(statSync(join(back, 'm')).mtimeMs, 1.2e12);
        const text = await restored(`${program}-text`);
        assert.match(text.stdout, /without their owner, mode or time, .*: 3 files, folders and links\n/);
        assert.match(text.stdout, /without setuid or setgid \(which the target does not keep\): .*z\/tool/);
      },
    );

  await t.test('over what is there with --force, which is written through no symlink', async () => {
    const target = from('over');
    mkdirSync(join(target, 'etc'), { recursive: true });
    mkdirSync(join(world.dir, 'victim'));
    symlinkSync(join(world.dir, 'victim'), join(target, 'etc/m'));
    const args = including(world, 'over', 'small.conf');
    await refuses(world, args, { exit: 2, code: 'target-exists', says: /over is not empty/ });
    await world.json(...args, '--force');
    assert.ok(lstatSync(join(target, 'etc/m')).isDirectory());
    assert.deepEqual(readdirSync(join(world.dir, 'victim')), []);
  });
});

test('a hard link gets the content whose first name the target does not have', needsMounts, async (t) => {
  const jobs = { all: { schedule: every2h, sources: [{ name: 'tree', kind: 'files', paths: ['tree'] }] } };
  const world = await makeWorld(t, { jobs });
  const tree = join(world.dir, 'tree');
  for (const folder of ['D', 'd', 'e', 'f']) mkdirSync(join(tree, folder), { recursive: true });
  for (const folder of ['D', 'd']) put(join(tree, folder, 'file'), folder, 0o640);
  for (const name of ['e/again', 'e/further', 'f/link']) linkSync(join(tree, 'd/file'), join(tree, name));
  put(join(tree, 'f/last'), 'last', 0o600);
  utimesSync(join(tree, 'e'), 1.2e9, 1_200_000_000.25);
  await world.json('backup');
  // A folder of two names, in place of a file system that knows no upper and lower case.
  const prepared = ['all', 'some'].map((to) => join(world.dir, to, 'tree', tree));
  for (const at of prepared)
    for (const folder of ['D', 'd']) mkdirSync(join(at, folder), { recursive: true });
  const mounts = prepared.map((at) => `mount --bind ${at}/D ${at}/d`);
  const mounted = await underMounts(t, mounts.join('\n'));
  const restored = async (to: string, ...patterns: string[]) => {
    const args = ['-c', world.configFile, ...including(world, to, ...patterns), '--force', '--json'];
    const { status, stdout, stderr } = await mounted(args, { cwd: world.dir });
    assert.equal(status, 3, stderr);
    return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Restored;
  };
  const told = /^\S+\/d\/file: the target takes its name for that of another file of the archive$/;

  const all = await restored('all');
  assert.match(all.skipped.join('\n'), told);
  assert.equal(all.files, 5);
  const back = join(world.dir, 'all/tree', tree);
  assert.deepEqual(
    ['D/file', 'e/again', 'f/last'].map((name) => readFileSync(join(back, name), 'utf8')),
    ['D', 'd', 'last'],
  );
  assert.equal(statSync(join(back, 'e')).mtimeMs, 1.2e12 + 250);
  const { ino, mode, nlink } = statSync(join(back, 'e/again'));
  assert.deepEqual([mode & 0o777, nlink], [0o640, 3]);
  for (const name of ['e/further', 'f/link']) assert.equal(statSync(join(back, name)).ino, ino);

  const some = await restored('some', 'file', 'f');
  assert.match(some.skipped.join('\n'), told);
  assert.equal(readFileSync(join(world.dir, 'some/tree', tree, 'f/link'), 'utf8'), 'd');
});

test('the files of a snapshot are listed, all or those that match', async (t) => {
  const world = await host(t);
  const etc = join(world.dir, 'tree/etc');
  interface Shown {
    readonly files: readonly { path: string; kind: string; size: number; stream: string }[];
    readonly problemTexts: readonly unknown[];
  }
  const all = await world.json<Shown>('show', 'latest', '--files', '--key', world.key);
  assert.deepEqual([all.files.length, all.problemTexts], [below(join(world.dir, 'tree')).length, []]);
  const some = ['show', 'latest', '--include', join(etc, 'z'), '--key', world.key];
  const { files } = await world.json<Shown>(...some);
  assert.deepEqual(
    files.map(({ path, kind }) => `${kind} ${path.slice(etc.length)}`),
    ['directory /z', 'link /z/again', 'link /z/and again', 'symlink /z/link', 'file /z/tool'],
  );
  const { stdout } = await world.run(...some);
  const listed = stdout.slice(stdout.indexOf('\netc/files.tar\n')).split('\n');
  assert.match(listed[2]!, /^drwxr-xr-x +\d+:\d+ +\d{4}-\d\d-\d\d \d\d:\d\d {2}\/.*\/z\/$/);
  assert.match(listed[3]!, /^hrw-r----- .*\/z\/again link to \/.*\/app\/first$/);
  assert.match(listed[6]!, /^-rwsr-xr-x +\S+ +1 B {2}/);
  assert.match(stdout, /\n4 files, 1 B\n/);
  const none = await world.run('show', 'latest', '--include', '/nowhere', '--key', world.key, '--json');
  assert.equal(none.status, 10);
  assert.deepEqual((JSON.parse(none.stdout) as Shown).files, []);
});

test('what --include cannot do is said before anything is written', async (t) => {
  const world = await host(t);
  const out = join(world.dir, 'out');

  await t.test('nothing matches', async () => {
    const refusal = {
      exit: 10,
      code: 'files-not-found',
      says: /nothing in etc\/files\.tar, srv\/files\.tar of \S+-all-\S+ matches --include \/nowhere, \*\.xyz$/,
      hint: /sealift show \S+ --files/,
    };
    await refuses(world, including(world, 'out', '/nowhere', '*.xyz'), refusal);
    assert.ok(!existsSync(out));
  });

  await t.test('a database is no tree', async () => {
    const args = [...including(world, 'out', 'x'), '--source', 'chat'];
    await refuses(world, args, { exit: 2, code: 'usage', says: /chat has no tree of files/ });
    const into = ['restore', '--include', 'x', '--into', join(world.dir, 'new.db'), '--key', world.key];
    await refuses(world, into, { exit: 2, code: 'usage', says: /--include does not go with --into/ });
    assert.ok(!existsSync(out));
  });

  await t.test('a pattern makes no sense', async () => {
    await refuses(world, including(world, 'out', '[z-a]'), { exit: 2, code: 'usage', says: /"\[z-a\]"/ });
  });

  await t.test('--same-owner where owners are not given, or by somebody who is not root', async () => {
    const stdout = ['restore', '--same-owner', '--stdout', '--key', world.key];
    const result = await world.start(...stdout);
    assert.equal(result.status, 2);
    assert.match(result.stderr, /--same-owner goes with --to/);
    const context = { environment: { isRoot: false }, json: false } as unknown as Context;
    await assert.rejects(restore(context, [], { to: 'out', sameOwner: true }), {
      code: 'usage',
      message: /--same-owner needs root/,
    });
  });

  await t.test('one of two patterns matches nothing: the other one comes back, and exit code 3', async () => {
    const { status, stderr } = await world.run(...including(world, 'out', 'small.conf', '/nowhere'));
    assert.equal(status, 3, stderr);
    assert.match(stderr, /nothing matches --include \/nowhere/);
    assert.ok(existsSync(join(out, 'etc', world.dir, 'tree/etc/m/small.conf')));
  });
});

test('of the latest snapshot only the trees matter, and one that failed comes from an older one', async (t) => {
  const world = await host(t);
  renameSync(join(world.dir, 'chat.db'), join(world.dir, 'chat.db.away'));
  const { stdout } = await world.run('backup', '--json');
  const [second] = (JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as BackupSummary).snapshots;
  assert.equal(second?.status, 'partial');
  const one = await world.json<Restored>(...including(world, 'one', 'small.conf'));
  assert.deepEqual(one.snapshots, [second.snapshot]);

  renameSync(join(world.dir, 'tree/srv'), join(world.dir, 'tree/away'));
  await world.run('backup');
  const { status, stderr } = await world.run(...including(world, 'two', 'site.conf'));
  assert.equal(status, 0, stderr);
  assert.match(stderr, /srv\/files\.tar is not complete in/);
  assert.ok(existsSync(join(world.dir, 'two/srv', world.dir, 'tree/srv/www/site.conf')));
});

test('damage where the file lies stops its restore, and damage everywhere else does not', async (t) => {
  const world = await host(t);
  const snap = join(world.dir, 'store/h1/snap');
  const folder = join(snap, readdirSync(snap)[0]!, 's');
  const objects = new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  for (const [name, object] of objects) {
    const damaged = Buffer.from(object);
    damaged[damaged.length >> 1]! ^= 1;
    put(join(folder, name), damaged);
  }
  // Each refusal names the object, which is put right; the last run needs none of the others.
  const stdout = ['restore', '--stdout', '--include', 'small.conf', '--key', world.key];
  const repaired: string[] = [];
  for (;;) {
    const result = await world.start(...stdout);
    if (result.status === 0) break;
    assert.deepEqual([result.status, result.stdout], [21, ''], result.stderr);
    const name = `${/the object of segment ([0-9a-f]+) /.exec(result.stderr)?.[1]}.zst.gpg`;
    assert.ok(objects.has(name) && !repaired.includes(name), result.stderr);
    put(join(folder, name), objects.get(name)!);
    repaired.push(name);
  }
  assert.ok(toStdout(world, '--include', 'small.conf').equals(content.small));
  // Of the details one, and the one or two that the file lies in.
  assert.ok([2, 3].includes(repaired.length), `${repaired.length} of ${objects.size} objects matter`);
  assert.ok(objects.size > 8);
});
