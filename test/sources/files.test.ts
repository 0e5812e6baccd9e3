import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemPath } from '../../src/sources/byte-name.ts';
import { openFile, readTarget, readWhole } from '../../src/sources/files-read.ts';
import { walk } from '../../src/sources/files-walk.ts';
import { inside, openFolder, openLevels } from '../../src/sources/folder-handle.ts';
import { Backup, describe, isRoot, run, scratch, unpack } from './tree-fixture.ts';

const megabyte = 1024 * 1024;

/** One of everything that a server's tree holds. */
function plantTree(root: string): void {
  mkdirSync(join(root, 'deep', 'er'), { recursive: true });
  mkdirSync(join(root, 'empty'));
  writeFileSync(join(root, 'plain'), 'hello\n');
  writeFileSync(join(root, 'zero'), '');
  for (const size of [1, 511, 512, 513, 514, 1024, megabyte - 1, megabyte, megabyte + 1, 5 * megabyte + 3]) {
    writeFileSync(join(root, 'deep', `size-${size}`), randomBytes(size));
  }
  writeFileSync(join(root, 'deep', 'er', 'readonly'), 'x', { mode: 0o400 });
  symlinkSync('plain', join(root, 'link'));
  symlinkSync('../../../nowhere/at/./all', join(root, 'deep', 'dangling'));
  symlinkSync('/etc', join(root, 'deep', 'to-folder'));
  symlinkSync(`long/${'t'.repeat(180)}/target`, join(root, 'long-target'));
  linkSync(join(root, 'plain'), join(root, 'deep', 'second-name'));
  linkSync(join(root, 'plain'), join(root, 'third-name'));
  for (const name of [
    'new\nline',
    'back\\slash',
    'c:colon',
    '-dash',
    ' blank ',
    'ünïcödé ✓ 🦭',
    '%41',
    'tab\t',
    'quo"te',
    '*',
  ]) {
    writeFileSync(join(root, 'deep', name), name);
  }
  mkdirSync(join(root, 'back\\slash folder\\'));
  writeFileSync(join(root, 'back\\slash folder\\', 'in it'), 'x');
  const long = join(root, 'l'.repeat(200), 'm'.repeat(200), 'n'.repeat(200));
  mkdirSync(long, { recursive: true });
  writeFileSync(join(long, 'o'.repeat(255)), 'far down');
  // Closed to its owner, or with the rights of its owner: only root brings these back.
  const rootModes = [0o000, 0o4755, 0o2755, 0o7777];
  for (const mode of [0o400, 0o1777, 0o600, ...(isRoot ? rootModes : [])]) {
    writeFileSync(join(root, `mode-${mode.toString(8)}`), 'm');
    chmodSync(join(root, `mode-${mode.toString(8)}`), mode);
  }
  mkdirSync(join(root, 'sticky'));
  chmodSync(join(root, 'sticky'), isRoot ? 0o3777 : 0o1777);
  mkdirSync(join(root, 'closed'));
  chmodSync(join(root, 'closed'), isRoot ? 0o000 : 0o500);
  if (isRoot) {
    chownSync(join(root, 'plain'), 33, 34);
    chownSync(join(root, 'empty'), 65_534, 65_534);
    chownSync(join(root, 'zero'), 3_000_000_000, 2_097_152);
    // Where the fields of a tar end, and those that tar-stream writes.
    for (const [size, id] of [262_143, 262_144, 2_097_151, 2_097_152].entries())
      chownSync(join(root, 'deep', `size-${511 + size}`), id, id);
    chmodSync(join(root, 'plain'), 0o6755);
  }
  utimesSync(join(root, 'zero'), 0, 0);
  utimesSync(join(root, 'mode-600'), new Date(-86_400_500), new Date(-86_400_500));
  utimesSync(join(root, 'mode-1777'), 5_000_000_000.25, 5_000_000_000.25);
  lutimesSync(join(root, 'link'), 1_234_567_890.123456, 1_234_567_890.123456);
  utimesSync(join(root, 'empty'), 1_111_111_111.999999, 1_111_111_111.999999);
}

function plantBadNames(root: string): void {
  const bad = (text: string): Buffer => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(text, 'latin1')]);
  mkdirSync(bad('latin-\xe9'));
  writeFileSync(bad('latin-\xe9/caf\xe9'), 'x');
  writeFileSync(bad('latin-\xe9/caf\xe9 au lait'), 'y');
  symlinkSync(Buffer.from('caf\xe9', 'latin1'), bad('latin-\xe9/link'));
  linkSync(bad('latin-\xe9/caf\xe9'), bad('latin-\xe9/second'));
  writeFileSync(bad('\xff\xfe'), 'z');
  writeFileSync(bad('%FF%FE'), 'not the same');
}

test('a tree comes back as it was: content, owners, modes, times, links, names', async (t) => {
  const [from, to] = [scratch(t), scratch(t)];
  plantTree(from);
  plantBadNames(from);
  const backup = await Backup.of(from);
  assert.deepEqual(new Set(backup.codes()), new Set(['name-not-utf8']));

  const result = await unpack(backup.tar, to);
  assert.deepEqual(result.skipped, []);
  const restored = join(to, from);
  assert.deepEqual(describe(restored), describe(from));
  if (isRoot) assert.equal(run('diff', '-r', '--no-dereference', from, restored), '');
  const files = backup.entries.filter((entry) => entry.kind !== 'directory');
  assert.equal(result.files, files.length);
  assert.equal(
    result.bytes,
    files.reduce((sum, entry) => sum + entry.size, 0),
  );
});

test('GNU tar brings the tree back too, with nanoseconds', { skip: !isRoot && 'needs root' }, async (t) => {
  const [from, to] = [scratch(t), scratch(t)];
  plantTree(from);
  const file = join(to, 'files.tar');
  writeFileSync(file, (await Backup.of(from)).tar);
  run('tar', '--numeric-owner', '-xpf', file, '-C', to);
  assert.deepEqual(describe(join(to, from), 1n), describe(from, 1n));
  const listing = run('tar', '-tvf', file);
  assert.match(listing, /-rws--s--x|-rwsr-sr-x (www-data|33)\/(backup|34)/);
  assert.match(listing, /----------.*mode-0/);
  assert.match(listing, /hrw.* link to /);
});

test('names that are not UTF-8 stand escaped in the tar and exact beside it, and are noted', async (t) => {
  const from = scratch(t);
  plantBadNames(from);
  const backup = await Backup.of(from);
  assert.deepEqual(backup.codes(), Array(4).fill('name-not-utf8'));
  const entry = backup.entry(`${from}/latin-%E9/caf%E9 au lait`);
  assert.equal(
    Buffer.from(entry.rawPath!, 'base64').toString('latin1'),
    `${from}/latin-\xe9/caf\xe9 au lait`,
  );
  assert.equal(backup.entry(`${from}/%FF%FE`).rawPath, undefined);
  const file = join(scratch(t), 'files.tar');
  writeFileSync(file, backup.tar);
  assert.match(run('tar', '--warning=no-unknown-keyword', '-tf', file), /latin-%E9\/caf%E9 au lait\n/);
});

test('two runs over an unchanged tree give the same bytes', async (t) => {
  const from = scratch(t);
  plantTree(from);
  plantBadNames(from);
  const [one, two] = [await Backup.of(from), await Backup.of(from)];
  assert.ok(one.tar.equals(two.tar));
  assert.deepEqual(one.entries, two.entries);
});

test('entries come in byte order, a folder before what is in it', async (t) => {
  const from = scratch(t);
  for (const name of ['b', 'a', 'a-', 'Z', 'ä', 'a.d']) mkdirSync(join(from, name));
  for (const name of ['a/z', 'a/b', 'a-/x']) writeFileSync(join(from, name), '');
  const names = (await Backup.of(from)).entries.map((entry) => entry.path.slice(from.length));
  assert.deepEqual(names, ['', '/Z', '/a', '/a/b', '/a/z', '/a-', '/a-/x', '/a.d', '/b', '/ä']);
});

test('the details say where in the tar each entry begins and its data lies', async (t) => {
  const from = scratch(t);
  plantTree(from);
  plantBadNames(from);
  const backup = await Backup.of(from);
  const { tar, entries } = backup;
  let end = 0;
  for (const entry of entries) {
    assert.equal(entry.offset, end, entry.path);
    assert.equal(tar.toString('latin1', entry.offset + 257, entry.offset + 262), 'ustar');
    assert.equal(tar.toString('latin1', entry.offset + 156, entry.offset + 157), 'x');
    const checksum = tar
      .subarray(entry.data - 512, entry.data)
      .reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0);
    assert.equal(
      Number.parseInt(tar.toString('latin1', entry.data - 512 + 148, entry.data - 512 + 154), 8),
      checksum,
    );
    end = entry.data + Math.ceil(entry.size / 512) * 512;
    if (entry.kind !== 'file') continue;
    const at = entry.rawPath === undefined ? entry.path : Buffer.from(entry.rawPath, 'base64');
    assert.ok(tar.subarray(entry.data, entry.data + entry.size).equals(readFileSync(at)), entry.path);
  }
  assert.equal(tar.length, end + 1024);
  assert.ok(tar.subarray(end).every((byte) => byte === 0));
  assert.deepEqual(
    { ...backup.entry(join(from, 'mode-1777')), offset: 0, data: 0, uid: 0, gid: 0 },
    {
      type: 'entry',
      source: 'tree',
      path: join(from, 'mode-1777'),
      kind: 'file',
      size: 1,
      offset: 0,
      data: 0,
      mode: 0o1777,
      uid: 0,
      gid: 0,
      mtime: '2128-06-11T08:53:20Z',
    },
  );
  assert.equal(backup.entry(join(from, 'plain')).target, join(from, 'deep/second-name'));
});

test('pipes, sockets and devices are never opened, but noted', { timeout: 20_000 }, async (t) => {
  const from = scratch(t);
  run('mkfifo', join(from, 'pipe'));
  if (isRoot) run('mknod', join(from, 'null'), 'c', '1', '3');
  const server = createServer().listen(join(from, 'socket'));
  t.after(() => server.close());
  const backup = await Backup.of(from);
  assert.deepEqual(
    backup.entries.map((entry) => entry.kind),
    ['directory'],
  );
  assert.deepEqual(backup.codes(), Array(isRoot ? 3 : 2).fill('special-file'));
  assert.match(backup.problems.at(-1)!.text, /socket" is a socket/);
});

test(
  'a file that becomes a pipe, a socket or a symlink after it was seen does not block and is not followed',
  { timeout: 20_000 },
  async (t) => {
    const from = scratch(t);
    run('mkfifo', join(from, 'pipe'));
    symlinkSync('/etc/passwd', join(from, 'link'));
    const server = createServer().listen(join(from, 'socket'));
    t.after(() => server.close());
    const code = (name: string): unknown => {
      const result = openFile(join(from, name), join(from, name));
      return 'code' in result ? result.code : 'opened';
    };
    assert.deepEqual(['pipe', 'link', 'socket', 'none'].map(code), [
      'special-file',
      'file-vanished',
      'special-file',
      'file-vanished',
    ]);
  },
);

test('a file on which another program has a lease is waited for', { timeout: 20_000 }, async (t) => {
  const from = scratch(t);
  writeFileSync(join(from, 'leased'), 'mine');
  // As a server of files for a client that writes: it gives the lease up (1024 is F_SETLEASE) when somebody wants to read.
  const script = `use strict; use Fcntl; open(my $file, '+<', $ARGV[0]) or die; my $asked; $| = 1;
    $SIG{IO} = sub { $asked = 1 }; fcntl($file, 1024, F_WRLCK) or die "no lease: $!"; print "has it\\n";
    select(undef, undef, undef, 0.05) until $asked; select(undef, undef, undef, 0.2);
    fcntl($file, 1024, F_UNLCK)`;
  const holder = spawn('perl', ['-e', script, join(from, 'leased')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill());
  await once(holder.stdout, 'data');
  const backup = await Backup.of(from);
  assert.deepEqual(backup.problems, []);
  assert.equal(backup.entry(join(from, 'leased')).size, 4);
});

test('a symlink that becomes a file after it was seen is noted', (t) => {
  const path = join(scratch(t), 'file');
  writeFileSync(path, '');
  assert.equal((readTarget(path, path) as { code: string }).code, 'file-vanished');
});

test('the root of the file system is an entry of its own, and is passed over by unpack', async (t) => {
  const backup = await Backup.of('/', { exclude: ['/*'] });
  assert.deepEqual(
    backup.entries.map((entry) => entry.path),
    ['/'],
  );
  const to = scratch(t);
  assert.deepEqual(await unpack(backup.tar, to), {
    files: 0,
    bytes: 0,
    skipped: [],
    withoutSetuid: [],
    withoutAttributes: 0,
    lost: [],
    unlinked: [],
  });
});

test('a folder that is replaced by a symlink in the middle of the walk leads nowhere else', (t) => {
  const from = scratch(t);
  mkdirSync(join(from, 'top', 'a'), { recursive: true });
  writeFileSync(join(from, 'top', 'a', 'mine'), 'mine');
  mkdirSync(join(from, 'top', 'b'));
  const seen: string[] = [];
  for (const found of walk({ paths: [join(from, 'top')], oneFileSystem: true, excluded: () => false })) {
    if (found.kind === 'problem') assert.fail(found.text);
    seen.push(`${found.kind} ${found.path.slice(from.length)}`);
    if (found.path.endsWith('/a')) {
      renameSync(join(from, 'top', 'a'), join(from, 'moved'));
      symlinkSync('/etc', join(from, 'top', 'a'));
      rmSync(join(from, 'top', 'b'), { recursive: true });
      symlinkSync('/etc', join(from, 'top', 'b'));
    }
    if (found.kind === 'file') assert.equal(readFileSync(found.at, 'utf8'), 'mine');
  }
  assert.deepEqual(seen, ['directory /top', 'directory /top/a', 'file /top/a/mine', 'symlink /top/b']);
});

test('what took the place of a file before its turn came is saved as what it is', (t) => {
  const from = scratch(t);
  for (const name of ['a', 'to-folder', 'to-link']) writeFileSync(join(from, name), name);
  const seen: string[] = [];
  for (const found of walk({ paths: [from], oneFileSystem: true, excluded: () => false })) {
    if (found.kind === 'problem') assert.fail(found.text);
    seen.push(`${found.kind} ${found.path.slice(from.length)}`);
    if (!found.path.endsWith('/a')) continue;
    rmSync(join(from, 'to-folder'));
    mkdirSync(join(from, 'to-folder'));
    writeFileSync(join(from, 'to-folder', 'precious'), 'precious');
    rmSync(join(from, 'to-link'));
    symlinkSync('a', join(from, 'to-link'));
  }
  const there = ['directory /to-folder', 'file /to-folder/precious', 'symlink /to-link'];
  assert.deepEqual(seen, ['directory ', 'file /a', ...there]);
});

test('a file that is named itself, in a tree that is named too, is missed when it is gone', (t) => {
  const from = scratch(t);
  for (const name of ['a', 'b', 'c']) writeFileSync(join(from, name), name);
  const told: string[] = [];
  for (const found of walk({ paths: [from, join(from, 'c')], oneFileSystem: true, excluded: () => false })) {
    told.push(found.kind === 'problem' ? found.code : `${found.kind} ${found.path.slice(from.length)}`);
    if (told.at(-1) === 'file /a') rmSync(join(from, 'c'));
  }
  assert.deepEqual(told, ['directory ', 'file /a', 'file /b', 'unreadable']);
});

test('a folder that becomes a symlink between being seen and being opened is not opened', (t) => {
  const from = scratch(t);
  symlinkSync('/etc', join(from, 'link'));
  assert.throws(() => openFolder(join(from, 'link')), { code: 'ENOTDIR' });
});

/** A large file is in the middle of being read when the first block has arrived: only some MiB ahead are read. */
async function whileReading(
  t: Parameters<typeof scratch>[0],
  change: (large: string, next: string) => void,
  plant: (from: string) => void = () => undefined,
): Promise<Backup> {
  const from = scratch(t);
  plant(from);
  const [large, next] = [join(from, 'large'), join(from, 'next')];
  writeFileSync(large, Buffer.alloc(32 * megabyte, 'x'));
  writeFileSync(next, 'next');
  const backup = await Backup.start(from);
  await backup.take();
  await sleep(200);
  change(large, next);
  await backup.rest();
  return backup;
}

test('of memory that is used again nothing comes into the backup of a file that shrank', (t) => {
  const path = join(scratch(t), 'file');
  writeFileSync(path, Buffer.alloc(3000, 'x'));
  const file = openFile(path, path);
  assert.ok('fd' in file);
  truncateSync(path, 10);
  const body = Buffer.alloc(3000, 'secret');
  const { read, trouble } = readWhole(file, body);
  closeSync(file.fd);
  assert.ok(read);
  assert.ok(body.equals(Buffer.concat([Buffer.alloc(10, 'x'), Buffer.alloc(2990)])));
  assert.match(trouble?.text ?? '', /shrank/);
});

test('a file that shrinks while it is read is padded and noted', async (t) => {
  const backup = await whileReading(t, (large) => truncateSync(large, 20 * megabyte + 5));
  assert.deepEqual(backup.codes(), ['file-changed']);
  assert.match(backup.problems[0]!.text, /large" shrank/);
  const { data, size } = backup.entries.find((entry) => entry.path.endsWith('large'))!;
  assert.equal(size, 32 * megabyte);
  const content = backup.tar.subarray(data, data + size);
  assert.ok(content.subarray(0, 20 * megabyte + 5).every((byte) => byte === 0x78));
  assert.ok(content.subarray(20 * megabyte + 5).every((byte) => byte === 0));
  const to = scratch(t);
  assert.equal((await unpack(backup.tar, to)).files, 2);
});

test('a file that grows while it is read is cut and noted', async (t) => {
  const backup = await whileReading(t, (large) => appendFileSync(large, 'y'.repeat(megabyte)));
  assert.deepEqual(backup.codes(), ['file-changed']);
  assert.match(backup.problems[0]!.text, /large" grew/);
  const { data, size } = backup.entries.find((entry) => entry.path.endsWith('large'))!;
  assert.ok(backup.tar.subarray(data, data + size).every((byte) => byte === 0x78));
  assert.equal((await unpack(backup.tar, scratch(t))).files, 2);
});

test('a file that vanishes before it is read is noted and the rest is saved', async (t) => {
  const backup = await whileReading(t, (_large, next) => unlinkSync(next));
  assert.deepEqual(backup.codes(), ['file-vanished']);
  assert.equal(backup.entries.length, 2);
});

test('a file that has got the number of one that is gone is not taken for another name of it', async (t) => {
  let later = '';
  const backup = await whileReading(
    t,
    (large) => {
      later = reuseNumber(join(large, '../a'), join(large, '../later'));
    },
    (from) => {
      writeFileSync(join(from, 'a'), 'a');
      linkSync(join(from, 'a'), join(from, 'b'));
      mkdirSync(join(from, 'later'));
    },
  );
  if (later === '') return t.skip('this file system does not use a number again at once');
  assert.deepEqual([backup.entry(later).kind, backup.entry(`${later}-link`).kind], ['file', 'link']);
  return undefined;
});

/** Removes the file under both its names. Returns one in the folder that has its number now, and another name. */
function reuseNumber(gone: string, folder: string): string {
  const { ino } = statSync(gone);
  for (const path of [gone, join(gone, '../b')]) rmSync(path);
  for (let count = 0; count < 1000; count += 1) {
    const path = join(folder, String(count));
    writeFileSync(path, 'of its own');
    if (statSync(path).ino !== ino) continue;
    linkSync(path, `${path}-link`);
    return path;
  }
  return '';
}

test('a small file that changes while it is read is saved as announced and noted', (t) => {
  const path = join(scratch(t), 'small');
  const read = (change: () => void): unknown => {
    writeFileSync(path, 'twelve bytes');
    const file = openFile(path, path);
    assert.ok('fd' in file);
    change();
    const body = Buffer.alloc(file.sizeBytes);
    const result = readWhole(file, body);
    closeSync(file.fd);
    return [body.toString(), result.trouble?.code];
  };
  assert.deepEqual(
    read(() => truncateSync(path, 3)),
    ['twe\0\0\0\0\0\0\0\0\0', 'file-changed'],
  );
  assert.deepEqual(
    read(() => appendFileSync(path, '!')),
    ['twelve bytes', 'file-changed'],
  );
  assert.deepEqual(
    read(() => utimesSync(path, 1, 1)),
    ['twelve bytes', 'file-changed'],
  );
  assert.deepEqual(
    read(() => unlinkSync(path)),
    ['twelve bytes', undefined],
  );
});

test('files and folders that may not be read are problems, and the rest is saved', (t) => {
  const from = scratch(t);
  chmodSync(from, 0o755);
  writeFileSync(join(from, 'open'), 'x');
  writeFileSync(join(from, 'shut'), 'x', { mode: 0o000 });
  mkdirSync(join(from, ...Array<string>(10).fill('down')), { recursive: true });
  mkdirSync(join(from, ...Array<string>(10).fill('down'), 'locked'), { mode: 0o000 });
  const print = join(import.meta.dirname, 'files-print.ts');
  // Root without the right to pass over modes, because another user may not be able to read this checkout.
  const rights = '-dac_override,-dac_read_search';
  const dropRights = isRoot ? ['setpriv', `--inh-caps=${rights}`, `--bounding-set=${rights}`] : [];
  const command = [...dropRights, process.execPath, print, from];
  const { entries, problems } = JSON.parse(execFileSync('env', command, { encoding: 'utf8' })) as Backup;
  assert.deepEqual(
    problems.map(({ code }) => code),
    ['unreadable', 'unreadable'],
  );
  assert.match(problems[0]!.text, /locked" cannot be read: EACCES/);
  assert.match(problems[1]!.text, /shut" cannot be read: EACCES/);
  assert.deepEqual(
    entries.slice(-2).map((entry) => `${entry.kind} ${basename(entry.path)}`),
    ['directory locked', 'file open'],
  );
});

test('what `exclude` matches is left out, and not even looked into', async (t) => {
  const from = scratch(t);
  for (const name of ['keep', 'cache/deep', '.hidden']) mkdirSync(join(from, name), { recursive: true });
  for (const name of ['a.bak', 'keep/b.bak', '.hidden/c.bak', 'cache/deep/d', 'keep/e'])
    writeFileSync(join(from, name), '');
  const backup = await Backup.of(from, { exclude: ['**/*.bak', `${from}/cache`] });
  const names = backup.entries.map((entry) => entry.path.slice(from.length));
  assert.deepEqual(names, ['', '/.hidden', '/keep', '/keep/e']);
  assert.deepEqual(backup.problems, []);
});

test('another file system is kept as an empty folder, unless it is asked for', async (t) => {
  const from = scratch(t);
  mkdirSync(join(from, 'mount'));
  try {
    run('mount', '-t', 'tmpfs', 'none', join(from, 'mount'));
  } catch {
    t.skip('cannot mount here');
    return;
  }
  try {
    writeFileSync(join(from, 'mount', 'inner'), '');
    const names = async (paths: string[], oneFileSystem: boolean): Promise<string[]> =>
      (await Backup.of(paths, { oneFileSystem })).entries.map((entry) => entry.path.slice(from.length));
    assert.deepEqual(await names([from], true), ['', '/mount']);
    assert.deepEqual(await names([from], false), ['', '/mount', '/mount/inner']);
    assert.deepEqual(await names([join(from, 'mount'), from], true), ['', '/mount', '/mount/inner']);
  } finally {
    run('umount', join(from, 'mount'));
  }
});

/** Folders within folders, as deep as only handles go. */
function digDown(folder: string, levels: number, name: string): void {
  let at = openFolder(folder);
  for (let level = 0; level < levels; level += 1) {
    mkdirSync(systemPath(inside(at, name)));
    const below = openFolder(inside(at, name));
    closeSync(at.fd);
    at = below;
  }
  writeFileSync(inside(at, 'last'), '');
  closeSync(at.fd);
}

test('a mount that root may not look at, as one of a user by FUSE, is noted where mounts are not asked for', async (t) => {
  const from = scratch(t);
  mkdirSync(join(from, 'mount'));
  const options = 'fd=3,rootmode=40000,user_id=65534,group_id=65534';
  try {
    run('sh', '-c', `exec 3<>/dev/fuse; mount -i -t fuse -o ${options} none '${from}/mount'`);
  } catch {
    t.skip('cannot mount here');
    return;
  }
  try {
    assert.deepEqual((await Backup.of(from)).codes(), ['special-file']);
    assert.deepEqual((await Backup.of(from, { oneFileSystem: false })).codes(), ['unreadable']);
    assert.deepEqual((await Backup.of([from, join(from, 'mount')])).codes(), ['unreadable']);
  } finally {
    run('umount', join(from, 'mount'));
  }
});

test('a tree that somebody made as deep as can be is saved down to a limit, with all that lies beside it', async (t) => {
  const [from, to] = [scratch(t), scratch(t)];
  mkdirSync(join(from, 'deep'));
  writeFileSync(join(from, 'later'), 'here');
  try {
    digDown(join(from, 'deep'), 80, '\xff'.repeat(255));
    const backup = await Backup.of(from);
    const [lost, ...others] = backup.problems.filter(({ code }) => code === 'unreadable');
    assert.match(
      lost?.text ?? '',
      /deep\/.*\.\.\." goes down to a path of 16\d{3} bytes, and what lies there/,
    );
    assert.deepEqual(others, []);
    await unpack(backup.tar, to);
    assert.equal(readFileSync(join(to, from, 'later'), 'utf8'), 'here');
  } finally {
    for (const folder of [from, to]) run('rm', '-rf', folder);
  }
});

test('of a deep tree few folders are open at a time', (t) => {
  const from = scratch(t);
  try {
    digDown(from, 1000, 'd');
    // What comes later, on the way up, where folders that were closed are open again.
    writeFileSync(join(from, 'd/'.repeat(500), 'middle'), '');
    writeFileSync(join(from, 'sibling'), '');
    const before = readdirSync('/proc/self/fd').length;
    const seen: string[] = [];
    let open = 0;
    for (const found of walk({ paths: [from], oneFileSystem: true, excluded: () => false })) {
      if (found.kind === 'problem') assert.fail(found.text);
      seen.push(basename(found.path));
      open = Math.max(open, readdirSync('/proc/self/fd').length - before);
    }
    assert.deepEqual(seen, [basename(from), ...Array<string>(1000).fill('d'), 'last', 'middle', 'sibling']);
    assert.ok(open < 120, `${open} are open`);
  } finally {
    run('rm', '-rf', from);
  }
});

test('a walk that goes up and down again in a deep tree leaves no folder open', (t) => {
  const from = scratch(t);
  try {
    digDown(from, 150, 'd');
    const middle = join(from, 'd/'.repeat(150));
    // Just so deep that the folder they lie in is closed meanwhile.
    for (const name of ['a', 'b', 'c', 'd']) {
      mkdirSync(join(middle, name));
      digDown(join(middle, name), openLevels - 1, name);
    }
    const before = readdirSync('/proc/self/fd').length;
    let files = 0;
    for (const found of walk({ paths: [from], oneFileSystem: true, excluded: () => false }))
      if (found.kind === 'file') files += 1;
    assert.deepEqual([files, readdirSync('/proc/self/fd').length], [5, before]);
  } finally {
    run('rm', '-rf', from);
  }
});

for (const what of ['a link', 'another folder'])
  test(`${what} that takes the place of a folder above, while a deep one is read, leads nowhere`, (t) => {
    const from = scratch(t);
    try {
      digDown(from, 300, 'd');
      for (const folder of [from, join(from, 'd'), join(from, 'd', 'd')])
        writeFileSync(join(folder, 'e'), 'mine');
      const seen: string[] = [];
      for (const found of walk({ paths: [from], oneFileSystem: true, excluded: () => false })) {
        if (found.kind === 'problem') seen.push(found.text.slice(from.length + 1));
        else if (found.kind === 'file') seen.push(found.path.slice(-3));
        if (found.kind !== 'file' || !found.path.endsWith('/last')) continue;
        renameSync(join(from, 'd', 'd'), join(from, 'moved'));
        mkdirSync(join(from, 'other'));
        writeFileSync(join(from, 'other', 'e'), 'of another');
        if (what === 'a link') symlinkSync('../other', join(from, 'd', 'd'));
        else renameSync(join(from, 'other'), join(from, 'd', 'd'));
      }
      assert.deepEqual(seen, [
        'ast',
        '/d/d" became something else before it was read',
        'd/e',
        `${from.slice(-1)}/e`,
      ]);
    } finally {
      run('rm', '-rf', from);
    }
  });

test('a path within another is saved once; a path that is missing is a problem', async (t) => {
  const from = scratch(t);
  mkdirSync(join(from, 'a', 'b'), { recursive: true });
  const backup = await Backup.of([join(from, 'a', 'b'), join(from, 'none'), `${from}/a/`, join(from, 'a')]);
  assert.deepEqual(
    backup.entries.map((entry) => entry.path.slice(from.length)),
    ['/a', '/a/b'],
  );
  assert.deepEqual(backup.codes(), ['unreadable']);
  assert.match(backup.problems[0]!.text, /none" cannot be read: ENOENT/);
});

test('a path that is a symlink is saved as a symlink, and what it points to is reported as missing', async (t) => {
  const from = scratch(t);
  symlinkSync('/etc', join(from, 'link'));
  const backup = await Backup.of(join(from, 'link'));
  assert.deepEqual(
    backup.entries.map((entry) => [entry.kind, entry.target]),
    [['symlink', '/etc']],
  );
  assert.deepEqual(backup.codes(), ['unreadable']);
});

test('and if that is asked for as well, in whatever way, nothing is missing', async (t) => {
  const from = scratch(t);
  mkdirSync(join(from, 'real', 'in'), { recursive: true });
  symlinkSync('real/in', join(from, 'link'));
  symlinkSync('link', join(from, 'second'));
  for (const also of ['real', 'real/in', '']) {
    const backup = await Backup.of([join(from, 'link'), join(from, 'second'), join(from, also)]);
    assert.deepEqual(backup.codes(), []);
    const names = backup.entries.map(({ path }) => path.slice(from.length + 1));
    assert.deepEqual(
      ['link', 'second'].filter((name) => !names.includes(name)),
      [],
    );
    assert.equal(new Set(names).size, names.length, 'each is saved once');
  }
  const onlyLinks = await Backup.of([join(from, 'link'), join(from, 'second')]);
  assert.deepEqual(onlyLinks.codes(), ['unreadable', 'unreadable']);
});

test('a source of which no path exists is an error that names it', async () => {
  await assert.rejects(Backup.of(['/none/one', '/none/two']), {
    code: 'source-unavailable',
    message: /"\/none\/one", "\/none\/two"/,
  });
});

test('a source whose paths all went away meanwhile is an error, not an empty tar', async (t) => {
  const from = scratch(t);
  const backup = await Backup.start(join(from));
  rmSync(from, { recursive: true });
  await assert.rejects(backup.rest(), { code: 'source-empty' });
});

test('a file of more than 8 GiB is announced in full', async (t) => {
  const from = scratch(t);
  const size = 9 * 1024 ** 3 + 7;
  writeFileSync(join(from, 'huge'), '');
  truncateSync(join(from, 'huge'), size);
  const backup = await Backup.start(from);
  await backup.take();
  await backup.take();
  backup.abort.abort();
  await assert.rejects(backup.rest());
  const file = join(scratch(t), 'files.tar');
  writeFileSync(file, backup.tar);
  const listing = execFileSync('sh', ['-c', `tar -tvf "$1" 2>/dev/null || true`, 'sh', file], {
    encoding: 'utf8',
  });
  assert.match(listing, new RegExp(` ${size} .*huge`));
});

const count = (): string => `${readdirSync('/proc/self/task').length} ${readdirSync('/proc/self/fd').length}`;

test('an aborted backup throws the reason and leaves no thread and no open file', async (t) => {
  const from = scratch(t);
  writeFileSync(join(from, 'large'), Buffer.alloc(32 * megabyte));
  await Backup.of(from);
  const before = count();
  for (const how of ['abort', 'return'] as const) {
    const backup = await Backup.start(from);
    await backup.take();
    if (how === 'abort') {
      backup.abort.abort(new Error('enough'));
      await assert.rejects(backup.rest(), /enough/);
    } else await backup.chunks.return!();
    assert.equal(count(), before);
  }
});

test('nothing is told of a tree after its consumer has turned away', async (t) => {
  const from = scratch(t);
  for (let index = 0; index < 3000; index += 1) writeFileSync(join(from, `f${index}`), 'x'.repeat(1000));
  const backup = await Backup.start(from);
  await backup.take();
  await backup.chunks.return!();
  const { length } = backup.entries;
  await sleep(300);
  assert.equal(backup.entries.length, length);
});

test('no file is open and measured while the thread waits for the consumer', async (t) => {
  const from = scratch(t);
  const names = Array.from({ length: 300 }, (_, index) => join(from, `f${index}`));
  for (const name of names) writeFileSync(name, Buffer.alloc(100_000, 'x'));
  const backup = await Backup.start(from);
  await backup.take();
  await sleep(300);
  for (const name of names) appendFileSync(name, 'more');
  await backup.rest();
  assert.deepEqual(backup.codes(), []);
});

test('a reading thread that dies after the abort does not take the process with it', (t) => {
  const from = scratch(t);
  writeFileSync(join(from, 'large'), Buffer.alloc(32 * megabyte));
  const script = join(import.meta.dirname, 'files-abort.ts');
  const dies = `data:text/javascript,${encodeURIComponent(`
    import { isMainThread } from 'node:worker_threads';
    if (!isMainThread) setTimeout(() => { throw new Error('the thread dies'); }, 600);
  `)}`;
  const told = execFileSync(process.execPath, ['--import', dies, script, from], { encoding: 'utf8' });
  assert.equal(told, 'enough\n');
});

test('no more than a few MiB are read ahead of the consumer', async (t) => {
  const from = scratch(t);
  for (let index = 0; index < 100; index += 1) writeFileSync(join(from, `f${index}`), Buffer.alloc(megabyte));
  const backup = await Backup.start(from);
  await backup.take();
  await sleep(300);
  for (const name of readdirSync(from)) unlinkSync(join(from, name));
  const tar = await backup.rest();
  assert.ok(tar.length < 10 * megabyte, `${tar.length} bytes`);
});
