import assert from 'node:assert/strict';
import fs, {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { entryIn, recordOf } from '../../src/sources/files-record.ts';
import { includer } from '../../src/sources/files-include.ts';
import { TreeSelection } from '../../src/sources/files-selection.ts';
import type { TreePart } from '../../src/sources/tree-part.ts';
import { type Unpacked, unpackTree } from '../../src/sources/unpack.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { inPieces } from '../support/bytes.ts';
import { Backup, describe, type Entry, isRoot, scratch, unpack } from './tree-fixture.ts';

/** A tree with everything that matters: links of both kinds, depth, empty things, names that are not UTF-8. */
function plant(root: string): void {
  const file = (name: string, sizeBytes: number, mode = 0o644): void => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), pseudoRandom(sizeBytes, sizeBytes));
    chmodSync(join(root, name), mode);
  };
  file('a/one.conf', 700, 0o600);
  file('a/b/c/two.conf', 0);
  file('a/b/c/large', 3_000_000);
  file('a-b/other', 512);
  file('m/first', 1000, 0o640);
  file('z/last.conf', 511);
  file('z/new\nline', 3);
  mkdirSync(join(root, 'empty'));
  linkSync(join(root, 'm/first'), join(root, 'n'));
  linkSync(join(root, 'm/first'), join(root, 'z/third'));
  linkSync(join(root, 'a/one.conf'), join(root, 'z/one-again.conf'));
  symlinkSync('../a/one.conf', join(root, 'z/link'));
  const bad = (text: string): Buffer => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(text, 'latin1')]);
  mkdirSync(bad('caf\xe9'));
  writeFileSync(bad('caf\xe9/b\xe9b\xe9'), 'x');
  linkSync(bad('caf\xe9/b\xe9b\xe9'), bad('z/\xff'));
  for (const [name, mode] of [
    ['a/b', 0o751],
    ['a', 0o700],
    ['m', 0o711],
    ['z', 0o2750],
  ] as const) {
    chmodSync(join(root, name), mode);
    if (isRoot) chownSync(join(root, name), 33, 34);
    if (isRoot) chmodSync(join(root, name), mode);
    utimesSync(join(root, name), 1_200_000_000 + mode, 1_200_000_000 + mode);
  }
}

function select(entries: readonly Entry[], ...patterns: string[]): TreePart | undefined {
  const selection = new TreeSelection(includer(patterns).covers);
  for (const entry of entries) selection.add({ ...entry });
  if (selection.lacks) for (const entry of entries) selection.complete({ ...entry });
  return selection.part();
}

const partOf = (tar: Buffer, part: TreePart): Buffer =>
  Buffer.concat(part.ranges.map(({ from, to }) => tar.subarray(from, to)));

function unpackPart(tar: Buffer, part: TreePart, target: string): Promise<Unpacked> {
  const { signal } = new AbortController();
  const options = { signal, sameOwner: isRoot, setuid: isRoot, overwrite: false };
  return unpackTree(inPieces(partOf(tar, part), 10_000), target, options, { part });
}

async function savedTree(t: TestContext) {
  const root = scratch(t);
  plant(root);
  const backup = await Backup.of(root);
  const whole = scratch(t);
  await unpack(backup.tar, whole);
  return { root, entries: backup.entries, tar: backup.tar, whole: describe(whole) };
}

test('what is included comes back as a whole restore brings it, within its folders, and nothing else', async (t) => {
  const { root, entries, tar, whole } = await savedTree(t);
  const paths = entries.map(({ path }) => path.slice(root.length)).filter((path) => path !== '');
  const pattern = fc.oneof(
    fc.constantFrom(...paths).map((path) => root + path.replaceAll('\\', '\\\\')),
    fc.constantFrom('*.conf', 'b', 'third', 'z', '**/c/*', `${root}/z/**`, '*', 'caf*', '%FF', 'first'),
  );
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(pattern, { minLength: 1, maxLength: 3 }), async (patterns) => {
      const { covers } = includer(patterns);
      const covered = entries.filter(({ path }) => covers(path));
      const part = select(entries, ...patterns);
      if (part === undefined) return assert.deepEqual(covered, []);
      const target = join(scratch(t), String(runs++));
      const { files, skipped } = await unpackPart(tar, part, target);
      assert.deepEqual(skipped, []);
      assert.equal(files, covered.filter(({ kind }) => kind !== 'directory').length);

      const names = covered.map(({ path, rawPath }) => nameOf(path, rawPath));
      const around = new Set(names.flatMap(foldersAround));
      const got = describe(target);
      assert.deepEqual(
        [...got.keys()].toSorted(),
        [...new Set(['.', ...around, ...names])].toSorted(),
        patterns.join(' '),
      );
      for (const [name, line] of got) {
        const expected = whole.get(name)!;
        if (names.includes(name)) assert.equal(withoutFirst(line), withoutFirst(expected), name);
        // Its time is that of the details, in whole seconds; above the tree nothing is known of folders.
        else if (name !== '.' && entries.some(({ path }) => `.${path}` === name))
          assert.equal(inSeconds(line), inSeconds(expected), name);
      }
      // What was one file is one file again.
      const linked = (tree: Map<string, string>): string[] =>
        names.map((name) => names.find((other) => sameFile(tree, name, other))!);
      assert.deepEqual(linked(got), linked(whole));
    }),
    { numRuns: 40 },
  );
});

/** As `describe` has it: a dot, and one character per byte. */
const nameOf = (path: string, rawPath: string | undefined): string =>
  `.${Buffer.from(rawPath ?? path, rawPath === undefined ? 'utf8' : 'base64').toString('latin1')}`;

const foldersAround = (name: string): string[] => {
  const parts = name.split('/');
  return parts.slice(1, -1).map((_, i) => parts.slice(0, i + 2).join('/'));
};

/** A line without the name that a hard link has first, which depends on what else is there. */
const withoutFirst = (line: string): string => line.replace(/(?<= [0-9a-f]{64}) .*$/su, '');
const inSeconds = (line: string): string => line.replace(/^(\S+ \S+ \d+)\d{6} /, '$1 ');

const firstOf = (tree: Map<string, string>, name: string): string =>
  / [0-9a-f]{64} (.*)$/su.exec(tree.get(name) ?? '')?.[1] ?? name;
const sameFile = (tree: Map<string, string>, a: string, b: string): boolean =>
  firstOf(tree, a) === firstOf(tree, b);

test('a hard link brings its content where the first name is not chosen, and no more than that', async (t) => {
  const { root, entries, tar } = await savedTree(t);
  const part = select(entries, `${root}/n`, `${root}/z/third`)!;
  const target = scratch(t);
  const { files, bytes } = await unpackPart(tar, part, target);
  assert.deepEqual([files, bytes], [2, 1000]);
  const tree = describe(join(target, root));
  assert.deepEqual([...tree.keys()].toSorted(), ['.', './n', './z', './z/third']);
  assert.match(tree.get('./z/third')!, / \.\/n$/);
  assert.match(tree.get('./n')!, /^100640 .* \.\/n$/);
});

test('a part that is not what the details say is refused, and nothing of it is written', async (t) => {
  const { root, entries, tar } = await savedTree(t);
  const lies: Record<string, (entry: Entry, all: readonly Entry[]) => Partial<Entry>> = {
    'another place': (entry) => ({ offset: entry.offset - 512, data: entry.data - 512 }),
    'the place of another file': (_, all) => {
      const { offset, data } = all.find(({ path }) => path.endsWith('/z/last.conf'))!;
      return { offset, data };
    },
    'another size': (entry) => ({ size: entry.size + 1 }),
    'a larger size': (entry) => ({ size: entry.size + 512 }),
    'another name': (entry) => ({ path: `${entry.path}x` }),
    'another kind': (entry) => ({ kind: 'symlink', target: entry.path }),
    'content that begins sooner': (entry) => ({ data: entry.data - 512 }),
    'content that begins later': (entry) => ({ data: entry.data + 512 }),
  };
  for (const [what, lie] of Object.entries(lies))
    await t.test(what, async (t) => {
      const path = entries.find(({ path }) => path.endsWith('/one.conf'))!.path;
      const changed = entries.map((entry) =>
        entry.path === path ? { ...entry, ...lie(entry, entries) } : entry,
      );
      const target = scratch(t);
      const part = select(changed, '*.conf*', 'one.confx')!;
      await assert.rejects(unpackPart(tar, part, target), { code: 'verify-failed' });
      assert.ok(![...describe(target).values()].some((line) => /one\.conf/.test(line)));
    });

  await t.test('an entry that is a field short', () => {
    const selection = new TreeSelection(() => true);
    assert.throws(() => selection.add({ path: '/x', kind: 'file', size: 1 }), {
      code: 'verify-failed',
      message: /"\/x".*offset/,
    });
    assert.throws(() => selection.add({ kind: 'file' }), { code: 'verify-failed' });
  });

  await t.test('a hard link whose first name is nowhere', () => {
    const without = entries.filter(({ path }) => !path.endsWith('/m/first'));
    assert.throws(() => select(without, `${root}/n`), { code: 'verify-failed' });
  });

  await t.test('a tar that ends too soon', async (t) => {
    const part = select(entries, `${root}/a`)!;
    const options = { signal: t.signal, sameOwner: false, setuid: false, overwrite: false };
    for (const drop of [1, 512, 5000, partOf(tar, part).length]) {
      const short = partOf(tar, part).subarray(0, -drop);
      await assert.rejects(unpackTree(inPieces(short, 100_000), scratch(t), options, { part }), {
        code: 'verify-failed',
      });
    }
  });
});

test('a record of the details says what the tar says, the time in whole seconds', async (t) => {
  const root = scratch(t);
  plant(root);
  truncateSync(join(root, 'a/one.conf'), 5);
  const { entries } = await Backup.of(root);
  for (const entry of entries) {
    const { source: _, type, ...read } = { source: '', ...entry, type: 'entry' };
    const again = recordOf(entryIn(read), { offset: entry.offset, data: entry.data });
    assert.deepEqual(again, { ...read, type });
  }
  assert.ok(entries.some(({ rawPath }) => rawPath !== undefined));
});

const refuse = (path: string | Buffer): void => {
  if (/\/no-\d$/.test(path.toString()))
    throw Object.assign(new Error('not here'), { code: 'EILSEQ', syscall: 'open' });
};

test('of the names of a file any that the target has bring it back, whichever comes first', async (t) => {
  const root = scratch(t);
  const names = ['no-1', 'no-2', 'no-3', 'yes-1', 'yes-2', 'no-4'];
  writeFileSync(join(root, 'no-1'), 'content');
  for (const name of names.slice(1)) linkSync(join(root, 'no-1'), join(root, name));
  const { entries, tar } = await Backup.of(root);
  const find = async (paths: ReadonlySet<string>) => {
    const part = select(entries, ...paths)!;
    return { part, body: inPieces(partOf(tar, part), 100_000) };
  };
  const { openSync, linkSync: link, renameSync: rename } = fs;
  t.mock.method(fs, 'openSync', (path: string, flags: number, mode?: number) => {
    if (typeof flags === 'number' && (flags & fs.constants.O_CREAT) !== 0) refuse(path);
    return openSync(path, flags, mode);
  });
  t.mock.method(fs, 'linkSync', (from: string, to: string) => (refuse(to), link(from, to)));
  t.mock.method(fs, 'renameSync', (from: string, to: string) => (refuse(to), rename(from, to)));
  syncBuiltinESMExports();
  try {
    for (const overwrite of [false, true]) {
      const target = scratch(t);
      const options = { signal: t.signal, sameOwner: isRoot, setuid: isRoot, overwrite };
      const { files, skipped } = await unpackTree(inPieces(tar, 100_000), target, options, { find });
      const back = join(target, root);
      assert.deepEqual([files, readdirSync(back).toSorted()], [2, ['yes-1', 'yes-2']]);
      assert.equal(readFileSync(join(back, 'yes-1'), 'utf8'), 'content');
      assert.equal(statSync(join(back, 'yes-2')).nlink, 2);
      assert.deepEqual(
        skipped.map(({ path, reason }) => `${path.slice(-4)} ${reason}`).toSorted(),
        ['no-1', 'no-2', 'no-3', 'no-4'].map((name) => `${name} cannot be made here: EILSEQ`),
      );
    }
  } finally {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  }
});
