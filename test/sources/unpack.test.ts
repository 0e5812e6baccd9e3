import assert from 'node:assert/strict';
import fs, {
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { type Header, pack } from 'tar-stream';
import { SealiftError } from '../../src/errors.ts';
import { Inodes } from '../../src/sources/inode.ts';
import { TreePart } from '../../src/sources/tree-part.ts';
import { timeForNode } from '../../src/sources/unpack-attributes.ts';
import { unpackTree } from '../../src/sources/unpack.ts';
import { collect, inPieces } from '../support/bytes.ts';
import { isRoot, run, scratch, unpack } from './tree-fixture.ts';

const nobody = 65534;

type Item = Partial<Header> & { name: string; body?: string };

const link = (name: string, linkname: string): Item => ({ name, type: 'link', linkname });

async function tarOf(...items: Item[]): Promise<Buffer> {
  const packer = pack();
  for (const { body, ...header } of items) packer.entry({ mode: 0o644, ...header }, body ?? '');
  packer.finalize();
  return collect(packer as AsyncIterable<Uint8Array>);
}

test('of a deep tree few folders are open at a time, and all that lies around it comes back', async (t) => {
  const to = scratch(t);
  const folders = Array.from({ length: 500 }, (_, depth) => 'd/'.repeat(depth + 1));
  const tar = await tarOf(
    ...folders.map((name): Item => ({ name, type: 'directory', mode: 0o750 })),
    ...folders.toReversed().map((folder): Item => ({ name: `${folder}e`, body: 'x' })),
    link('first', folders.at(-1)! + 'e'),
  );
  const options = { signal: new AbortController().signal, sameOwner: false, setuid: false, overwrite: false };
  const before = readdirSync('/proc/self/fd').length;
  let open = 0;
  const body = async function* () {
    for await (const piece of inPieces(tar, 10_000)) {
      open = Math.max(open, readdirSync('/proc/self/fd').length - before);
      yield piece;
    }
  };
  const { files, skipped } = await unpackTree(body(), to, options);
  assert.deepEqual({ files, skipped }, { files: 501, skipped: [] });
  assert.ok(open < 250, `${open} are open`);
  const at = (depth: number): string => join(to, folders[depth]!);
  for (const depth of [0, 250, 499]) assert.equal(statSync(at(depth)).mode & 0o777, 0o750);
  assert.equal(statSync(join(to, 'first')).ino, statSync(join(at(499), 'e')).ino);
});

test('names that lead outside are skipped with the reason, and what is sound is unpacked', async (t) => {
  const outer = scratch(t);
  const target = join(outer, 'target');
  const raw = Buffer.from('../raw').toString('base64');
  const items: Item[] = [
    { name: '../dots', body: 'x' },
    { name: '/absolute', body: 'x' },
    { name: 'a/../../dots', body: 'x' },
    { name: 'a/..', type: 'directory' },
    { name: 'innocent', pax: { 'SEALIFT.path': raw }, body: 'x' },
    { name: 'innocent', pax: { path: `${outer}/absolute` }, body: 'x' },
    { name: 'zero', pax: { 'SEALIFT.path': Buffer.from('a\0b').toString('base64') }, body: 'x' },
    { name: './good//name', body: 'x' },
    { name: './', type: 'directory', mode: 0o777 },
    { name: '.', body: 'x' },
  ];
  const result = await unpack(await tarOf(...items), target);
  assert.deepEqual(
    result.skipped.map(({ reason }) => reason),
    [
      'a path that leads outside',
      'an absolute path',
      'a path that leads outside',
      'a path that leads outside',
      'a path that leads outside',
      'an absolute path',
      'a zero byte in the name',
      'has no name',
    ],
  );
  assert.deepEqual(readdirSync(outer), ['target']);
  assert.deepEqual(readdirSync(target, { recursive: true }), ['good', 'good/name']);
  assert.equal(result.files, 1);
  assert.equal(statSync(target).mode & 0o777, 0o700);
});

test('nothing is written through a symlink of the archive', async (t) => {
  const outer = scratch(t);
  mkdirSync(join(outer, 'victim'));
  const target = join(outer, 'target');
  const result = await unpack(
    await tarOf(
      { name: 'door', type: 'symlink', linkname: '../victim' },
      { name: 'door/file', body: 'x' },
      { name: 'file-door', type: 'symlink', linkname: '../victim/new' },
      { name: 'file-door', body: 'x' },
      { name: 'other', type: 'symlink', linkname: join(outer, 'victim') },
      { name: 'other', type: 'directory', mode: 0o777 },
      { name: 'sound', type: 'symlink', linkname: 'anywhere/../at all' },
    ),
    target,
  );
  assert.deepEqual(readdirSync(join(outer, 'victim')), []);
  assert.deepEqual(
    result.skipped.map(({ path }) => path),
    ['door', 'file-door', 'other'],
  );
  assert.equal(readFileSync(join(target, 'door', 'file'), 'utf8'), 'x');
  assert.equal(readlinkSync(join(target, 'sound')), 'anywhere/../at all');
  assert.equal(result.files, 3);
});

test('hard links are made to files of the archive only', async (t) => {
  const outer = scratch(t);
  writeFileSync(join(outer, 'secret'), 'secret');
  const target = join(outer, 'target');
  mkdirSync(target);
  writeFileSync(join(target, 'old'), 'old');
  symlinkSync(join(outer, 'secret'), join(target, 'way'));
  const result = await unpack(
    await tarOf(
      link('1', '../secret'),
      link('2', join(outer, 'secret')),
      link('3', 'old'),
      link('4', 'way'),
      link('5', 'late'),
      { name: 'a/late', body: 'x' },
      link('b/6', './a/late'),
      link('7', 'b/6'),
    ),
    target,
  );
  assert.deepEqual(
    result.skipped.map(({ path }) => path),
    ['1', '2', '3', '4', '5'],
  );
  assert.equal(statSync(join(target, '7')).nlink, 3);
  assert.equal(result.files, 3);
});

test('devices and pipes are skipped', async (t) => {
  const target = scratch(t);
  const items: Item[] = (['character-device', 'block-device', 'fifo'] as const).map((type) => ({
    name: type,
    type,
  }));
  const result = await unpack(await tarOf(...items, { name: 'file', body: 'x' }), target);
  assert.deepEqual(
    result.skipped.map(({ path }) => path),
    ['character-device', 'block-device', 'fifo'],
  );
  assert.deepEqual(readdirSync(target), ['file']);
});

test('what is there stays, and the error names it, unless it is to be overwritten', async (t) => {
  const target = scratch(t);
  writeFileSync(join(target, 'file'), 'old');
  linkSync(join(target, 'file'), join(target, 'other-name'));
  const tar = await tarOf({ name: 'file', body: 'new' });
  await assert.rejects(unpack(tar, target), {
    code: 'restore-failed',
    message: '"file": EEXIST',
    hint: /--force/,
  });
  assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'old');
  await unpack(tar, target, { overwrite: true });
  assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'new');
  assert.equal(readFileSync(join(target, 'other-name'), 'utf8'), 'old');
});

test('what is to be overwritten stays until the new file is whole', async (t) => {
  const target = scratch(t);
  const old = { name: 'old', mode: 0o640, body: 'x'.repeat(3000) };
  for (const make of [
    () => writeFileSync(join(target, 'old'), 'mine'),
    () => symlinkSync('elsewhere', join(target, 'old')),
    () => mkdirSync(join(target, 'old')),
  ]) {
    make();
    const before = lstatSync(join(target, 'old'));
    const cut = (await tarOf(old)).subarray(0, 1024);
    await assert.rejects(unpack(cut, target, { overwrite: true }), { code: 'verify-failed' });
    assert.deepEqual(readdirSync(target), ['old']);
    const after = lstatSync(join(target, 'old'));
    assert.deepEqual([after.ino, after.mode, after.size], [before.ino, before.mode, before.size]);
    await unpack(await tarOf(old), target, { overwrite: true });
    assert.deepEqual(readdirSync(target), ['old']);
    assert.equal(readFileSync(join(target, 'old'), 'utf8'), old.body);
    rmSync(join(target, 'old'));
  }
});

test('what the target cannot hold is told, and all else comes back', async (t) => {
  const long = 'l'.repeat(256);
  const tar = await tarOf(
    { name: long, body: 'x' },
    { name: `${long}-folder`, type: 'directory' },
    { name: `${long}-folder/within`, body: 'x' },
    { name: `${long}-link`, type: 'symlink', linkname: 'rest' },
    { name: 'rest', body: 'y' },
    link(`${long}-name`, 'rest'),
  );
  for (const overwrite of [false, true]) {
    const target = scratch(t);
    const { files, skipped } = await unpack(tar, target, { overwrite });
    assert.deepEqual([files, readdirSync(target)], [1, ['rest']]);
    assert.deepEqual(
      skipped.map(({ path, reason }) => path.replace(long, 'long') + reason.replace(/.*: /, ' ')).toSorted(),
      ['', '-folder', '-folder/within', '-link', '-name'].map((rest) => `long${rest} ENAMETOOLONG`),
    );
  }
});

test(
  'whoever may write to the folder of a symlink cannot make the file of another theirs',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const target = scratch(t);
    writeFileSync(join(target, 'of-root'), 'x', { mode: 0o600 });
    const { symlinkSync: make } = fs;
    t.mock.method(fs, 'symlinkSync', (to: string, at: string) => {
      make(to, at);
      renameSync(join(target, 'of-root'), at);
    });
    syncBuiltinESMExports();
    try {
      const mine: Item = { name: 'link', type: 'symlink', linkname: 'x', uid: nobody, gid: nobody };
      await unpack(await tarOf(mine), target);
    } finally {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    }
    assert.equal(statSync(join(target, 'link')).uid, 0);
  },
);

test(
  'a file that the target can hold only the beginning of is told, and what comes after it is unpacked',
  { timeout: 20_000 },
  async (t) => {
    const target = scratch(t);
    const { writeSync: write } = fs;
    t.mock.method(fs, 'writeSync', (fd: number, data: Uint8Array, ...rest: [number, number, number]) => {
      if (rest[2] > 0) throw Object.assign(new Error('too large'), { code: 'EFBIG', syscall: 'write' });
      return write(fd, data, ...rest);
    });
    syncBuiltinESMExports();
    try {
      const large: Item = { name: 'large', body: 'x'.repeat(8_000_000) };
      const tar = await tarOf(large, { name: 'small', body: 'x' });
      const result = await unpack(tar, target);
      assert.deepEqual(result.skipped, [{ path: 'large', reason: 'cannot be made here: EFBIG' }]);
    } finally {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    }
    assert.deepEqual(readdirSync(target), ['small']);
  },
);

test('a mode that the target does not keep, as FAT no sticky bit, is told, and all comes back', async (t) => {
  const target = scratch(t);
  const { fchmodSync: change } = fs;
  t.mock.method(fs, 'fchmodSync', (fd: number, mode: number) => {
    if (mode > 0o777) throw Object.assign(new Error('not here'), { code: 'EPERM', syscall: 'fchmod' });
    change(fd, mode);
  });
  syncBuiltinESMExports();
  try {
    const tmp: Item = { name: 'tmp', type: 'directory', mode: 0o1777 };
    const result = await unpack(await tarOf(tmp, { name: 'tmp/file', body: 'x' }), target);
    assert.deepEqual([result.files, result.withoutAttributes, result.withoutSetuid], [1, 1, []]);
  } finally {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
});

test('a mode that the target passes over in silence is told', async (t) => {
  const target = scratch(t);
  t.mock.method(fs, 'fchmodSync', () => {});
  syncBuiltinESMExports();
  try {
    const items: Item[] = [
      { name: 'secret', mode: 0o600 },
      { name: 'public', mode: 0o644 },
    ];
    const { files, withoutAttributes } = await unpack(await tarOf(...items), target);
    assert.deepEqual([files, withoutAttributes], [2, 1]);
  } finally {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
});

test('what a target that takes no change of owner or mode has of them anyway is not told', async (t) => {
  const target = scratch(t);
  const { uid, gid } = statSync(target);
  for (const name of ['fchownSync', 'fchmodSync'] as const)
    t.mock.method(fs, name, () => {
      throw Object.assign(new Error('not here'), { code: 'ENOSYS', syscall: 'fchown' });
    });
  syncBuiltinESMExports();
  try {
    const items: Item[] = [
      { name: 'folder', type: 'directory', mode: 0o700, uid, gid },
      { name: 'file', mode: 0o600, uid, gid },
      { name: 'of-another', mode: 0o600, uid: uid + 1, gid },
      { name: 'public', mode: 0o644, uid, gid },
    ];
    const { withoutAttributes } = await unpack(await tarOf(...items), target, { sameOwner: true });
    assert.equal(withoutAttributes, 2);
  } finally {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
});

test(
  'an owner that the target passes over in silence is told, and lends nobody the rights of another',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const target = scratch(t);
    t.mock.method(fs, 'fchownSync', () => {});
    syncBuiltinESMExports();
    try {
      const tool: Item = { name: 'tool', mode: 0o4755, uid: nobody, gid: nobody, body: 'x' };
      const result = await unpack(await tarOf(tool), target, { sameOwner: true, setuid: true });
      assert.deepEqual([result.withoutAttributes, result.withoutSetuid], [1, ['tool']]);
    } finally {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    }
    assert.equal(statSync(join(target, 'tool')).mode & 0o7777, 0o755);
  },
);

test('what a link is to replace stays if the link cannot be made', async (t) => {
  const target = scratch(t);
  writeFileSync(join(target, 'a'), 'old');
  const tooFar: Item = { name: 'a', type: 'symlink', pax: { linkpath: 'x'.repeat(5000) } };
  await unpack(await tarOf(tooFar), target, { overwrite: true }).catch(() => undefined);
  assert.equal(readFileSync(join(target, 'a'), 'utf8'), 'old');
  assert.deepEqual(readdirSync(target), ['a']);
});

test('existing symlinks are replaced, never written through', async (t) => {
  const outer = scratch(t);
  for (const name of ['victim', 'target']) mkdirSync(join(outer, name));
  writeFileSync(join(outer, 'victim', 'file'), 'safe');
  const target = join(outer, 'target');
  symlinkSync('../victim', join(target, 'folder'));
  symlinkSync('../victim/file', join(target, 'file'));
  symlinkSync('../victim', join(target, 'implied'));
  const tar = await tarOf(
    { name: 'folder/', type: 'directory', mode: 0o755 },
    { name: 'folder/file', body: 'new' },
    { name: 'file', body: 'new' },
    { name: 'implied/file', body: 'new' },
  );
  await assert.rejects(unpack(tar, target), { code: 'restore-failed', message: '"folder/": ENOTDIR' });
  const { unlinked } = await unpack(tar, target, { overwrite: true });
  assert.deepEqual(unlinked, ['folder', 'implied'], 'what lay behind them is not there any more');
  assert.deepEqual(readdirSync(join(outer, 'victim')), ['file']);
  assert.equal(readFileSync(join(outer, 'victim', 'file'), 'utf8'), 'safe');
  for (const name of ['folder', 'implied']) assert.ok(lstatSync(join(target, name)).isDirectory());
  assert.ok(lstatSync(join(target, 'file')).isFile());
});

test('a closed folder of an earlier restore is written again by its owner', { skip: !isRoot }, async (t) => {
  t.after(() => process.seteuid!(0));
  for (const mode of [0o555, 0o300, 0o1000]) {
    const target = scratch(t);
    const tar = await tarOf(
      { name: 'shut/within', type: 'directory', mode },
      { name: 'shut', type: 'directory', mode },
      { name: 'shut/within/file', body: 'new', mode: 0o444 },
      link('shut/again', 'shut/within/file'),
    );
    chownSync(target, nobody, nobody);
    process.seteuid!(nobody);
    const options = { overwrite: true, sameOwner: false, setuid: false };
    for (let restore = 0; restore < 2; restore++) await unpack(tar, target, options);
    process.seteuid!(0);
    for (const name of ['shut', 'shut/within'])
      assert.equal(statSync(join(target, name)).mode & 0o7777, mode);
  }
});

test('a second entry for the same place is an error, and with --force it takes the place alone', async (t) => {
  const tars = {
    'two files': [
      { name: 'a', body: 'x' },
      { name: 'a', body: 'yy' },
    ],
    'a file that was linked': [{ name: 'first', body: 'x' }, link('a', 'first'), { name: 'a', body: 'yy' }],
    'a file for an empty folder': [
      { name: 'a', type: 'directory', mode: 0o755 },
      { name: 'a', body: 'yy' },
    ],
    'a hard link for a file': [{ name: 'a', body: 'x' }, { name: 'first', body: 'yy' }, link('a', 'first')],
  } satisfies Record<string, Item[]>;
  for (const [what, items] of Object.entries(tars)) {
    const tar = await tarOf(...items);
    await assert.rejects(unpack(tar, scratch(t)), { code: 'restore-failed', message: '"a": EEXIST' }, what);
    const target = scratch(t);
    await unpack(tar, target, { overwrite: true });
    assert.equal(readFileSync(join(target, 'a'), 'utf8'), 'yy', what);
    if (what === 'a file that was linked')
      assert.equal(readFileSync(join(target, 'first'), 'utf8'), 'x', 'the other name keeps its content');
  }
});

test(
  'of two entries that the target takes for one the first stays, and the other is told',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    // A folder of two names, in place of a file system that knows no upper and lower case.
    const target = scratch(t);
    for (const name of ['D', 'd']) mkdirSync(join(target, name));
    try {
      run('mount', '--bind', join(target, 'D'), join(target, 'd'));
    } catch {
      return t.skip('cannot mount here');
    }
    try {
      const tar = await tarOf(
        { name: 'D/file', body: 'first' },
        { name: 'D/link', body: 'first' },
        { name: 'd/file', body: 'second' },
        { name: 'd/more', body: 'more' },
        { name: 'd/link', type: 'symlink', linkname: 'x' },
        link('d/file', 'd/more'),
        link('d/far', 'D/file'),
      );
      for (const overwrite of [false, true]) {
        const { files, skipped } = await unpack(tar, target, { overwrite });
        assert.deepEqual(skipped.map(({ path }) => path).toSorted(), ['d/far', 'd/file', 'd/file', 'd/link']);
        assert.match(skipped.find(({ path }) => path === 'd/far')!.reason, /EXDEV/);
        assert.equal(files, 3);
        for (const name of ['file', 'link'])
          assert.equal(readFileSync(join(target, 'D', name), 'utf8'), 'first');
      }
      const folder = await tarOf({ name: 'D/file', body: 'first' }, { name: 'd/file/x', body: 'x' });
      await assert.rejects(unpack(folder, target, { overwrite: true }), { message: '"d/file/x": ENOTDIR' });
    } finally {
      run('umount', join(target, 'd'));
    }
    return undefined;
  },
);

test('a file where the archive then has a folder is an error, and with --force gives way to it', async (t) => {
  const tar = await tarOf({ name: 'a', body: 'x' }, { name: 'a/b', body: 'y' });
  const target = scratch(t);
  await assert.rejects(unpack(tar, target), { code: 'restore-failed', message: '"a/b": ENOTDIR' });
  assert.equal(readFileSync(join(target, 'a'), 'utf8'), 'x');
  await unpack(tar, target, { overwrite: true });
  assert.equal(readFileSync(join(target, 'a/b'), 'utf8'), 'y');
});

test('a huge claimed size takes no room, is noticed, and leaves nothing', async (t) => {
  const honest = await tarOf({ name: 'small', body: 'x' }, { name: 'huge', body: 'y'.repeat(600) });
  const header = 1024;
  const target = scratch(t);
  for (const size of [600 + 1024, 2 ** 40, 2 ** 52]) {
    const tar = Buffer.from(honest);
    claim(tar.subarray(header, header + 512), size);
    const before = process.memoryUsage.rss();
    await assert.rejects(unpack(tar.subarray(0, -1024), target, { overwrite: true }), {
      code: 'verify-failed',
      message: /^"huge": /,
    });
    assert.ok(process.memoryUsage.rss() - before < 200 * 2 ** 20, 'nothing is set aside for it');
    assert.deepEqual(readdirSync(target), ['small']);
  }
});

/** Writes a size into a header block, in octal or GNU's base-256, and the checksum over it. */
function claim(block: Buffer, size: number): void {
  block.fill(0, 124, 136);
  if (size < 8 ** 11) block.write(size.toString(8).padStart(11, '0'), 124);
  else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
}

test('a folder with something in it never gives way to a file or a symlink', async (t) => {
  const target = scratch(t);
  mkdirSync(join(target, 'full', 'of'), { recursive: true });
  for (const item of [
    { name: 'full', body: 'x' },
    { name: 'full', type: 'symlink', linkname: 'x' } as const,
  ]) {
    const tar = await tarOf(item);
    await assert.rejects(unpack(tar, target, { overwrite: true }), {
      code: 'restore-failed',
      message: '"full": ENOTEMPTY',
    });
  }
  assert.ok(existsSync(join(target, 'full', 'of')));
});

test('setuid and setgid come back only with the owner and for who asked, and what lost them is named', async (t) => {
  const tar = await tarOf(
    { name: 'tool', mode: 0o6755, body: 'x' },
    { name: 'group', type: 'directory', mode: 0o2770 },
    { name: 'tmp', type: 'directory', mode: 0o1777 },
  );
  const modes = async (options: { sameOwner: boolean; setuid: boolean }): Promise<string[]> => {
    const target = scratch(t);
    const { withoutSetuid } = await unpack(tar, target, options);
    const names = ['tool', 'group', 'tmp'];
    const kept = names.map((name) => (statSync(join(target, name)).mode & 0o7777).toString(8));
    return [...kept, ...withoutSetuid];
  };
  const without = ['755', '770', '1777', 'tool', 'group'];
  assert.deepEqual(await modes({ sameOwner: false, setuid: false }), without);
  assert.deepEqual(await modes({ sameOwner: false, setuid: true }), without);
  if (!isRoot) return;
  assert.deepEqual(await modes({ sameOwner: true, setuid: false }), without);
  assert.deepEqual(await modes({ sameOwner: true, setuid: true }), ['6755', '2770', '1777']);
});

test('a folder without an entry of its own is closed to others', async (t) => {
  const target = scratch(t);
  await unpack(await tarOf({ name: 'a/b', body: 'x' }), target);
  assert.equal(statSync(join(target, 'a')).mode & 0o7777, 0o700);
});

test('attributes of folders are right whatever the order of the entries', async (t) => {
  const target = scratch(t);
  const mtime = new Date(1_000_000_000_000);
  await unpack(
    await tarOf(
      { name: 'a/b/c', body: 'x' },
      { name: 'a', type: 'directory', mode: 0o500, mtime },
      { name: 'a/b', type: 'directory', mode: 0o700, mtime },
      { name: 'a/b', type: 'directory', mode: 0o550, mtime },
      { name: 'a/b/link', type: 'symlink', linkname: 'c' },
    ),
    target,
  );
  for (const [name, mode] of [
    ['a', 0o500],
    ['a/b', 0o550],
  ] as const) {
    const stats = statSync(join(target, name));
    assert.deepEqual([stats.mode & 0o7777, stats.mtimeMs], [mode, mtime.getTime()]);
  }
});

test('an archive that is cut off or damaged fails, and leaves no partial file', async (t) => {
  const tar = await tarOf({ name: 'one', body: 'x' }, { name: 'two', body: 'y'.repeat(5000) });
  for (const length of [700, 1024 + 300, 2048 + 10, 1024 + 512 + 4999]) {
    const target = scratch(t);
    await assert.rejects(unpack(tar.subarray(0, length), target), { code: 'verify-failed' }, `${length}`);
    assert.ok(!existsSync(join(target, 'two')));
  }
  const damaged = Buffer.from(tar);
  damaged[1024 + 3]! ^= 1;
  await assert.rejects(unpack(damaged, scratch(t)), { code: 'verify-failed', message: /archive is damaged/ });
});

test('an error of what delivers the archive rises as it is', async (t) => {
  const tar = await tarOf({ name: 'file', body: 'y'.repeat(50_000) });
  const target = scratch(t);
  const broken = new SealiftError('verify-failed', 'segment 2 is damaged');
  async function* body(): AsyncGenerator<Uint8Array> {
    yield tar.subarray(0, 20_000);
    throw broken;
  }
  const options = { signal: new AbortController().signal, sameOwner: false, setuid: false, overwrite: false };
  await assert.rejects(unpackTree(body(), target, options), (error) => error === broken);
  assert.deepEqual(readdirSync(target), []);
});

test('an abort throws the reason, ends the delivery and leaves no partial file', async (t) => {
  const tar = await tarOf({ name: 'first', body: 'x' }, { name: 'file', body: 'y'.repeat(50_000) });
  const target = scratch(t);
  const abort = new AbortController();
  let ended = false;
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      yield* inPieces(tar.subarray(0, 20_000), 4000);
      abort.abort(new Error('enough'));
      yield* inPieces(tar.subarray(20_000), 4000);
    } finally {
      ended = true;
    }
  }
  await assert.rejects(
    unpackTree(body(), target, { signal: abort.signal, sameOwner: false, setuid: false, overwrite: false }),
    /enough/,
  );
  assert.ok(ended);
  assert.ok(!existsSync(join(target, 'file')));
});

test('a target that cannot be made is an error that names it', async (t) => {
  const target = scratch(t);
  writeFileSync(join(target, 'file'), '');
  await assert.rejects(unpack(await tarOf(), join(target, 'file')), {
    code: 'restore-failed',
    message: /file"/,
  });
});

test('a failed write ends the delivery and names the file', { skip: !isRoot && 'needs root' }, async (t) => {
  const target = scratch(t);
  run('mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', target);
  try {
    const tar = await tarOf({ name: 'fits', body: 'x' }, { name: 'does-not', body: 'y'.repeat(3_000_000) });
    await assert.rejects(unpack(tar, target), { code: 'restore-failed', message: '"does-not": ENOSPC' });
    assert.deepEqual(readdirSync(target), ['fits']);
  } finally {
    run('umount', target);
  }
});

test('long runs of zeros take no room', async (t) => {
  const target = scratch(t);
  const body = `${'\0'.repeat(4_000_000)}x${'\0'.repeat(4_000_000)}`;
  await unpack(await tarOf({ name: 'sparse', body }), target);
  assert.equal(readFileSync(join(target, 'sparse'), 'latin1'), body);
  assert.ok(statSync(join(target, 'sparse')).blocks * 512 < 1_000_000);
});

test('the same result whatever the pieces in which the archive arrives', async (t) => {
  const tar = await tarOf(
    { name: 'a', body: 'x'.repeat(513) },
    { name: 'é'.repeat(90), body: '' },
    { name: 'b', body: 'y' },
  );
  for (const size of [1, 7, 511, 512, 513, 10_000]) {
    const target = scratch(t);
    const options = {
      signal: new AbortController().signal,
      sameOwner: false,
      setuid: false,
      overwrite: false,
    };
    const result = await unpackTree(inPieces(tar, size), target, options);
    assert.deepEqual(result, {
      files: 3,
      bytes: 514,
      skipped: [],
      withoutSetuid: [],
      withoutAttributes: 0,
      lost: [],
      unlinked: [],
    });
    assert.equal(readFileSync(join(target, 'a'), 'utf8'), 'x'.repeat(513));
  }
});

test('files of GNU tar are read', async (t) => {
  const [from, target] = [scratch(t), scratch(t)];
  writeFileSync(join(from, 'n'.repeat(150)), 'long');
  symlinkSync('t'.repeat(150), join(from, 'link'));
  for (const format of ['gnu', 'pax', 'ustar']) {
    if (format === 'ustar') run('sh', '-c', 'rm "$1"/*', 'sh', from);
    run('tar', `--format=${format}`, '-cf', join(target, format), '-C', from, '.');
    const to = join(target, `from-${format}`);
    await unpack(readFileSync(join(target, format)), to);
    assert.equal(run('diff', '-r', '--no-dereference', from, to), '');
  }
});

test('the microsecond of a time survives the way through floating seconds', () => {
  for (let index = 0; index < 20_000; index += 1) {
    const ns = 1_700_000_000_000_000_000n + BigInt(index) * 50_123n + BigInt(index % 1000);
    const seconds = timeForNode(ns) as number;
    const got =
      BigInt(Math.trunc(seconds)) * 1_000_000n + BigInt(Math.floor(Math.trunc((seconds % 1) * 1e9) / 1000));
    assert.equal(got, ns / 1000n);
  }
  assert.deepEqual(timeForNode(-1_500_000_000n), new Date(-1500));
  assert.equal(timeForNode(0n), 0);
});

test('files whose numbers differ only by what a double cannot hold are not taken for one another', (t) => {
  const stats = lstatSync(scratch(t), { bigint: true });
  const numbered = (ino: bigint) => Object.assign(stats, { ino });
  const inodes = new Inodes();
  const large = 2n ** 57n; // as on Lustre and CIFS
  for (const ino of [5n, large]) inodes.add(numbered(ino));
  for (const ino of [5n, large]) assert.ok(inodes.has(numbered(ino)));
  for (const ino of [6n, large + 1n]) assert.ok(!inodes.has(numbered(ino)));
});

test('where the content of hard links to a file that cannot be made is lost, they are named, and all else comes back', async (t) => {
  const target = join(scratch(t), 'out');
  const long = 'n'.repeat(300);
  const tar = await tarOf({ name: long, body: 'x' }, link('one', long), link('two', long), {
    name: 'symlink',
    type: 'symlink',
    linkname: 'anywhere',
  });
  const entry = { offset: 0, data: 512, end: 1024, sizeBytes: 1 };
  const part = new TreePart(
    [
      { ...entry, kind: 'file', name: long, as: { name: 'one' } },
      { ...entry, kind: 'link', name: 'two', target: long, as: { name: 'two', target: 'one' } },
    ],
    [],
  );
  const options = { signal: t.signal, sameOwner: false, setuid: false, overwrite: false };
  const result = await unpackTree(inPieces(tar, 512), target, options, {
    find: async () => ({ part, body: fails() }),
    around: async (error, found) => {
      assert.match((error as Error).message, /lost/);
      assert.equal(found, part);
      return { part: new TreePart([], []), lost: ['one', 'two'], body: Readable.from([]) };
    },
  });
  assert.deepEqual(result.lost, ['one', 'two']);
  assert.deepEqual(
    result.skipped.map(({ path }) => path),
    [long],
  );
  assert.deepEqual(readdirSync(target), ['symlink']);
});

test('a hard link that gets its content at the second try is there', async (t) => {
  const target = join(scratch(t), 'out');
  const long = 'n'.repeat(300);
  const whole = await tarOf({ name: long, body: 'x' }, link('one', long));
  const content = (await tarOf({ name: long, body: 'x' })).subarray(0, -1024);
  const place = { offset: 0, data: content.length - 512, end: content.length };
  const part = new TreePart([{ ...place, sizeBytes: 1, kind: 'file', name: long, as: { name: 'one' } }], []);
  const options = { signal: t.signal, sameOwner: false, setuid: false, overwrite: false };
  const result = await unpackTree(inPieces(whole, 512), target, options, {
    find: async () => ({ part, body: fails(content.subarray(0, -512)) }),
    around: async () => ({ part, lost: [], body: inPieces(content, 512) }),
  });
  assert.deepEqual(result.lost, []);
  assert.equal(readFileSync(join(target, 'one'), 'utf8'), 'x');
});

async function* fails(first?: Uint8Array): AsyncGenerator<Uint8Array> {
  if (first !== undefined) yield first;
  throw new Error('lost');
}
