import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  rmdirSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SealiftError } from '../../src/errors.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import type { Store } from '../../src/store/store.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put, temporary } from '../support/temporary.ts';
import { storeContract } from './contract.ts';

async function freshStore(t: TestContext) {
  const root = temporary(t);
  return { root, store: await openDirectoryStore(root) };
}

storeContract('a directory', {}, async (t) => {
  const { root, store } = await freshStore(t);
  return {
    store,
    plant: async (key, bytes) => {
      mkdirSync(dirname(join(root, key)), { recursive: true });
      writeFileSync(join(root, key), bytes);
    },
    hide: async (key) => rmSync(dirname(join(root, key)), { recursive: true }),
    begin: async (key) => {
      mkdirSync(join(root, '.tmp'), { recursive: true });
      writeFileSync(join(root, '.tmp', key.replaceAll('/', '-')), 'x');
    },
  };
});

const filesIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);

test('a directory that does not exist, or is a file, is not found and not made', async (t) => {
  const dir = temporary(t);
  await assert.rejects(openDirectoryStore(join(dir, 'none')), { code: 'store-not-found' });
  assert.deepEqual(readdirSync(dir), []);
  await assert.rejects(openDirectoryStore(put(join(dir, 'file'), '')), { code: 'store-not-found' });
});

test('what is no file has no content, and is not waited for', async (t) => {
  const { root, store } = await freshStore(t);
  mkdirSync(join(root, 'folder'));
  symlinkSync('loop', join(root, 'loop'));
  symlinkSync('/dev/zero', join(root, 'device'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
  for (const key of ['folder', 'loop', 'device', 'pipe']) {
    assert.deepEqual(await Array.fromAsync(store.versions(key)), [], key);
    if (key === 'pipe') await assert.rejects(store.put(key, Buffer.from('1')), { code: 'store-conflict' });
  }
});

test('a directory that goes away is not found: it is neither empty nor made anew', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('a/b', Buffer.from('1'));
  rmSync(root, { recursive: true });
  const questions: Record<string, () => Promise<unknown>> = {
    versions: () => Array.fromAsync(store.versions('a/b')),
    list: () => Array.fromAsync(store.list('')),
    'list below': () => Array.fromAsync(store.list('a/')),
    folders: () => store.folders(''),
    now: () => store.now(),
    put: () => store.put('a/c', Buffer.from('2')),
    listVersions: () => Array.fromAsync(store.listVersions('')),
    remove: () => store.remove({ key: 'a/b', version: undefined }),
    settle: () => store.settle(),
    unfinished: () => Array.fromAsync(store.unfinished()),
    abandon: () => store.abandon({ key: '.tmp/x', upload: 'x', startedAt: new Date() }),
  };
  for (const [what, ask] of Object.entries(questions)) {
    await assert.rejects(ask(), { code: 'store-not-found' }, what);
    assert.ok(!existsSync(root), `${what} made it anew`);
  }
});

test('a directory that has got another number on the same device is the store all the same', async (t) => {
  const { root, store } = await freshStore(t);
  renameSync(root, `${root}-before`);
  t.after(() => rmSync(`${root}-before`, { recursive: true }));
  mkdirSync(root);
  await store.put('a', Buffer.from('1'));
});

test('no temporary file is left by writes, conflicts and questions for the time', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('a', Buffer.from('1'));
  await store.put('a', Buffer.from('1'));
  await assert.rejects(store.put('a', Buffer.from('2')));
  await store.now();
  assert.deepEqual(filesIn(join(root, '.tmp')), []);
});

test('what a killed writer left is swept after an hour, and not what somebody is writing', async (t) => {
  const { root, store } = await freshStore(t);
  mkdirSync(join(root, '.tmp'));
  const old = put(join(root, '.tmp', 'old'), 'x');
  put(join(root, '.tmp', 'young'), 'x');
  const hourAgo = Date.now() / 1000 - 3601;
  utimesSync(old, hourAgo, hourAgo);
  await store.put('a', Buffer.from('1'));
  assert.deepEqual(filesIn(join(root, '.tmp')), ['young']);
});

test('what once kept the temporary folder from being made ready is asked for again', async (t) => {
  const { root, store } = await freshStore(t);
  const inTheWay = put(join(root, '.tmp'), '');
  await assert.rejects(store.put('a', Buffer.from('1')), { code: 'store-unavailable' });
  rmSync(inTheWay);
  await store.put('a', Buffer.from('1'));
  assert.deepEqual(await Array.fromAsync(store.list(''), ({ key }) => key), ['a']);
});

test('a run does not count as settled while another is settling its folder, nor after that failed', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('h1/snap/a', Buffer.from('1'));
  const folder = join(root, 'h1/snap');
  const { open } = fsPromises;
  const begun = Promise.withResolvers<void>();
  const { promise: mayFail, resolve: fail } = Promise.withResolvers<void>();
  const opened: string[] = [];
  const mocked = t.mock.method(fsPromises, 'open', async (...args: Parameters<typeof open>) => {
    opened.push(String(args[0]));
    if (args[0] !== folder || opened.filter((path) => path === folder).length > 1) return open(...args);
    begun.resolve();
    await mayFail;
    throw Object.assign(new Error('a disk error'), { code: 'EIO' });
  });
  syncBuiltinESMExports();
  t.after(() => {
    mocked.mock.restore();
    syncBuiltinESMExports();
  });
  const first = store.settle();
  await begun.promise;
  const second = store.settle();
  fail();
  await assert.rejects(first, SealiftError);
  await second;
  assert.equal(opened.filter((path) => path === folder).length, 2, 'the second run has synced it itself');
});

test('a run is settled while others go on writing', async (t) => {
  const { store } = await freshStore(t);
  const over = new AbortController();
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let n = 0; !over.signal.aborted; n++) await store.put(`h1/snap/${writer}/${n}`, Buffer.from('1'));
  });
  await sleep(100);
  const settled = store.settle().then(() => 'settled');
  const said = await Promise.race([settled, sleep(5000, 'it waits for them', { ref: false })]);
  over.abort();
  await Promise.all(writers);
  assert.equal(said, 'settled');
});

test('closing one store leaves the others that write into the same directory alone', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('a', Buffer.from('1'));
  const other = await openDirectoryStore(root);
  await other.put('b', Buffer.from('2'));
  await other[Symbol.asyncDispose]();
  await store.put('c', Buffer.from('3'));
  assert.deepEqual(await Array.fromAsync(store.list(''), ({ key }) => key), ['a', 'b', 'c']);
});

test('the time of a directory is that of its files', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('a', Buffer.from('1'));
  const [listed] = await Array.fromAsync(store.list(''));
  assert.equal(listed?.lastModified.getTime(), statSync(join(root, 'a')).mtime.getTime());
});

test('the folder of a host stays when its last object is removed, and so does what others laid there', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('h/snap/a/index', Buffer.from('1'));
  await store.put('h/snap/b/index', Buffer.from('1'));
  mkdirSync(join(root, 'h/snap/b/empty'));
  put(join(root, 'outside'), 'x');
  for (const key of ['h/snap/a/index', 'h/snap/b/index']) await store.remove({ key, version: undefined });
  assert.deepEqual(readdirSync(join(root, 'h/snap')), ['b']);
  rmdirSync(join(root, 'h/snap/b/empty'));
  await store.remove({ key: 'h/snap/b/index', version: undefined });
  assert.deepEqual(readdirSync(join(root, 'h')), []);
  await store.remove({ key: 'outside', version: undefined });
  assert.deepEqual(readdirSync(root), ['.tmp', 'h']);
});

test('a folder that a prune finds empty, and removes, just before it is filled is made again', async (t) => {
  const { root, store } = await freshStore(t);
  const pruner = await openDirectoryStore(root);
  const keys = Array.from({ length: 100 }, (_, i) => `h/snap/a/s/${i}`);
  const written = new AbortController();
  const pruning = (async () => {
    while (!written.signal.aborted) await pruner.remove({ key: 'h/snap/a/s/none', version: undefined });
  })();
  try {
    for (const key of keys) {
      await store.put(key, Buffer.from(key));
      await store.remove({ key, version: undefined });
    }
  } finally {
    written.abort();
    await pruning;
  }
});

test('only temporary files can be abandoned', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('a', Buffer.from('1'));
  await store.abandon({ key: '.tmp/../a', upload: '../a', startedAt: new Date() });
  assert.ok(existsSync(join(root, 'a')));
});

test('unfinished are the files of the temporary folder, which all can be abandoned, and not what lies deeper', async (t) => {
  const { root, store } = await freshStore(t);
  mkdirSync(join(root, '.tmp/sub'), { recursive: true });
  put(join(root, '.tmp/sub/x'), 'x');
  put(join(root, '.tmp/y'), 'y');
  const unfinished = await Array.fromAsync(store.unfinished());
  assert.deepEqual(
    unfinished.map(({ key }) => key),
    ['.tmp/y'],
  );
  for (const write of unfinished) await store.abandon(write);
  assert.deepEqual(await Array.fromAsync(store.unfinished()), []);
  assert.ok(existsSync(join(root, '.tmp/sub/x')));
});

test('symbolic links are listed as what they are, and not followed', async (t) => {
  const { root, store } = await freshStore(t);
  mkdirSync(join(root, 'h'));
  put(join(root, 'file'), 'a file');
  for (const [target, link] of [
    ['loop', 'h/loop'],
    ['none', 'h/broken'],
    ['../file', 'h/link'],
    ['h', 'folder'],
  ] as const)
    symlinkSync(target, join(root, link));
  const listed = await Array.fromAsync(store.list(''), ({ key, sizeBytes }) => [key, sizeBytes]);
  const keys = ['file', 'folder', 'h/broken', 'h/link', 'h/loop'];
  assert.deepEqual(
    listed,
    keys.map((key) => [key, lstatSync(join(root, key)).size]),
  );
});

/** Asks without the rights of root, which may read everything. */
async function asNobody<T>(root: string, ask: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return ask();
  chownSync(root, 65534, 65534);
  process.seteuid?.(65534);
  try {
    return await ask();
  } finally {
    process.seteuid?.(0);
  }
}

test('a folder of others that may not be read is passed over, and one of a host is an error', async (t) => {
  const { root, store } = await freshStore(t);
  await store.put('h/a', Buffer.from('1'));
  const list = () => asNobody(root, () => Array.fromAsync(store.list(''), ({ key }) => key));
  for (const folder of ['lost+found', 'Mine/deep']) mkdirSync(join(root, folder), { recursive: true });
  put(join(root, 'lost+found/x'), 'x');
  chmodSync(join(root, 'lost+found'), 0);
  chmodSync(join(root, 'Mine/deep'), 0);
  assert.deepEqual(await list(), ['h/a']);
  chmodSync(join(root, 'lost+found'), 0o444);
  assert.deepEqual(await list(), ['h/a'], 'names that may be read, of files that may not be looked at');
  mkdirSync(join(root, 'h/snap'), { mode: 0 });
  await assert.rejects(list(), { code: 'store-denied', message: /h\/snap/ });
});

/** A file system of its own in memory; only root may have one, and not in every container. */
function mounted(t: TestContext, options: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sl-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder], { stdio: 'pipe' });
  t.after(() => {
    execFileSync('umount', [folder]);
    rmdirSync(folder);
  });
  return folder;
}

const mayMount = (): boolean => {
  try {
    return (
      execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'ignore' }) !==
      undefined
    );
  } catch {
    return false;
  }
};

test(
  'what lies below the mount of a disk does not take the place of the store on it',
  { skip: mayMount() ? false : 'mounting a file system needs root' },
  async (t) => {
    const below = mkdtempSync(join(tmpdir(), 'sl-'));
    t.after(() => rmSync(below, { recursive: true }));
    const root = join(below, 'store');
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', below], { stdio: 'pipe' });
    let store: Store;
    try {
      mkdirSync(root);
      store = await openDirectoryStore(root);
      await store.put('a/b', Buffer.from('1'));
    } finally {
      execFileSync('umount', [below]);
    }
    // As another process leaves it that asked for the time in between.
    mkdirSync(join(root, '.tmp'), { recursive: true });
    for (const ask of [
      () => store.put('a/c', Buffer.from('2')),
      () => store.now(),
      () => Array.fromAsync(store.versions('a/b')),
      () => Array.fromAsync(store.list('')),
    ])
      await assert.rejects(ask(), { code: 'store-not-found', hint: /mounted/ });
    assert.deepEqual(readdirSync(root, { recursive: true }), ['.tmp']);
  },
);

test(
  'another disk does not take the place of the store on the first, though the roots of both have the same number',
  { skip: mayMount() ? false : 'mounting a file system needs root' },
  async (t) => {
    const root = mounted(t, 'size=1m');
    const store = await openDirectoryStore(root);
    await store.put('a/b', Buffer.from('1'));
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', root], { stdio: 'pipe' });
    try {
      mkdirSync(join(root, '.tmp')); // of a backup before
      await assert.rejects(store.put('a/c', Buffer.from('2')), { code: 'store-not-found', hint: /mounted/ });
      assert.deepEqual(readdirSync(root), ['.tmp']);
    } finally {
      execFileSync('umount', [root]);
    }
    await store.put('a/c', Buffer.from('2'));
  },
);

suite('a disk that refuses', { skip: mayMount() ? false : 'mounting a file system needs root' }, () => {
  test('a full one says so, keeps what it has, and holds no part of the new object', async (t) => {
    const root = mounted(t, 'size=1m');
    const store = await openDirectoryStore(root);
    const small = pseudoRandom(1, 300_000);
    await store.put('a/small', small);
    await assert.rejects(store.put('a/large', pseudoRandom(2, 2 * 2 ** 20)), {
      code: 'store-full',
      message: /a\/large/,
    });
    assert.deepEqual(await Array.fromAsync(store.list(''), ({ key }) => key), ['a/small']);
    assert.deepEqual(filesIn(join(root, '.tmp')), []);
    assert.ok(readFileSync(join(root, 'a/small')).equals(small));
    await store.put('a/another', pseudoRandom(3, 300_000));
  });

  test('one without room for another folder is full, too', async (t) => {
    const store = await openDirectoryStore(mounted(t, 'size=1m,nr_inodes=4'));
    await store.put('a', Buffer.from('1'));
    await assert.rejects(store.put('b/c/d', Buffer.from('2')), { code: 'store-full' });
  });

  test('a read-only one denies writing and can be read', async (t) => {
    const root = mounted(t, 'size=1m');
    const store = await openDirectoryStore(root);
    await store.put('a/b', Buffer.from('1'));
    execFileSync('mount', ['-o', 'remount,ro', root]);
    const again = await openDirectoryStore(root);
    for (const each of [store, again]) {
      await assert.rejects(each.put('a/c', Buffer.from('2')), { code: 'store-denied' });
      await assert.rejects(each.replace('a/b', Buffer.from('2')), { code: 'store-denied' });
      await assert.rejects(each.now(), { code: 'store-denied' });
      await assert.rejects(each.remove({ key: 'a/b', version: undefined }), { code: 'store-denied' });
      assert.deepEqual(await Array.fromAsync(each.versions('a/b'), String), ['1']);
      assert.deepEqual(await each.folders(''), ['a']);
    }
  });
});

test('no other user may write into the folders of a store, whatever the umask is', async (t) => {
  const { root, store } = await freshStore(t);
  const before = process.umask(0);
  try {
    await store.now();
    await store.put('web/snap/x', Buffer.from('x'));
  } finally {
    process.umask(before);
  }
  for (const folder of ['.tmp', 'web', 'web/snap'])
    assert.equal(statSync(join(root, folder)).mode & 0o7777, 0o775, folder);
});
