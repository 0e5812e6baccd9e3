import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SealiftError } from '../../src/errors.ts';
import { commitSnapshot, listHost, readSnapshots } from '../../src/snapshot/catalog.ts';
import { openIndexCache } from '../../src/snapshot/index-cache.ts';
import { formatKey } from '../../src/snapshot/object-key.ts';
import { surveyHost } from '../../src/snapshot/survey.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import type { Store } from '../../src/store/store.ts';
import { makeKey } from '../support/keys.ts';
import { temporary } from '../support/temporary.ts';
import { makeIndex } from './fixture.ts';

const { privateKey, publicKey } = await makeKey();
const signer = publicKey.getFingerprint().toUpperCase();

async function stored(t: TestContext) {
  const root = join(temporary(t), 'store');
  mkdirSync(root);
  const real = await openDirectoryStore(root);
  const index = { ...makeIndex(), signer };
  await commitSnapshot(real, index, privateKey);
  let fetched = 0;
  const store: Store = { ...real, versions: (key, signal) => (fetched++, real.versions(key, signal)) };
  const dir = join(root, '../cache');
  const cache = openIndexCache(dir, 'the store');
  const { host, snapshot } = index;
  const read = async (trusted = [publicKey]) => {
    const { snapshots, unreadable } = await readSnapshots(store, host, await listHost(store, host), trusted, {
      cache,
    });
    return { ids: snapshots.map((found) => found.index.snapshot), snapshots, unreadable };
  };
  const file = join(root, formatKey({ type: 'index', host, snapshot }));
  return { root, dir, store, cache, index, file, read, fetched: () => fetched };
}

const filesIn = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(dir, name)).isFile(),
  );

test('an index is fetched once, and says the same afterwards', async (t) => {
  const { read, fetched } = await stored(t);
  const first = await read();
  assert.equal(first.ids.length, 1);
  assert.deepEqual(await read(), first);
  assert.equal(fetched(), 1);
});

test('an index that once comes in part is fetched again, and one that stays so is unreadable', async (t) => {
  const { store, index } = await stored(t);
  const { host, snapshot } = index;
  const fetch = async (times: number) => {
    const short: Store = {
      ...store,
      async *versions(key, signal) {
        for await (const bytes of store.versions(key, signal))
          yield times-- > 0 ? bytes.subarray(0, 200) : bytes;
      },
    };
    return readSnapshots(short, host, await listHost(short, host), [publicKey]);
  };
  assert.equal((await fetch(1)).snapshots.length, 1);
  const { snapshots, unreadable } = await fetch(2);
  assert.deepEqual([snapshots, unreadable.map((one) => one.snapshot)], [[], [snapshot]]);
});

test('an index that could not be read while the store was away is not one that cannot be read', async (t) => {
  const { store, index } = await stored(t);
  const { host, snapshot } = index;
  const hostKey = formatKey({ type: 'host-key', host, fingerprint: signer });
  await store.put(hostKey, Buffer.from(publicKey.armor()));
  const look = async (failures: number, isHit = (key: string) => key !== hostKey) => {
    const failing: Store = {
      ...store,
      async *versions(key, signal) {
        if (isHit(key) && failures-- > 0) throw new SealiftError('store-unavailable', 'the store is away');
        yield* store.versions(key, signal);
      },
    };
    return readSnapshots(failing, host, await listHost(failing, host), [publicKey]);
  };
  await assert.rejects(look(1), { code: 'store-unavailable' });
  await assert.rejects(
    look(Infinity, () => true),
    { code: 'store-unavailable' },
    'though it lists',
  );
  const { unreadable } = await look(Infinity);
  assert.deepEqual(
    unreadable.map((one) => one.snapshot),
    [snapshot],
  );
});

test('an index that has changed in the store is fetched again, and judged by what it is now', async (t) => {
  const { file, read, fetched } = await stored(t);
  await read();
  writeFileSync(file, 'forged');
  const { ids, unreadable } = await read();
  assert.deepEqual([ids, unreadable.length], [[], 1]);
  assert.ok(fetched() > 1);
});

test('so is one with another time', async (t) => {
  const { file, read, fetched } = await stored(t);
  await read();
  utimesSync(file, 1, 1);
  await read();
  assert.equal(fetched(), 2);
});

test('a key that is trusted no longer does not count because of a copy', async (t) => {
  const { read } = await stored(t);
  await read();
  const { publicKey: other } = await makeKey();
  const { ids, unreadable } = await read([other]);
  assert.deepEqual([ids, unreadable[0]?.error.code], [[], 'key-untrusted']);
});

test('a copy that a power cut left half is fetched again', async (t) => {
  const { dir, read, fetched } = await stored(t);
  await read();
  for (const name of filesIn(dir)) truncateSync(join(dir, name), 600);
  assert.equal((await read()).ids.length, 1);
  assert.equal(fetched(), 2);
});

test('a copy that is damaged, and a cache that others can write to, are as if they were not there', async (t) => {
  const { dir, read, fetched, store, index } = await stored(t);
  await read();
  for (const name of filesIn(dir)) writeFileSync(join(dir, name), 'garbage');
  assert.equal((await read()).ids.length, 1);
  assert.equal(fetched(), 2);
  chmodSync(dir, 0o777);
  const { snapshots } = await readSnapshots(
    store,
    index.host,
    await listHost(store, index.host),
    [publicKey],
    { cache: openIndexCache(dir, 'the store') },
  );
  assert.equal(snapshots.length, 1);
  assert.equal(fetched(), 3);
});

test('a snapshot that is in the store no longer is forgotten when the host is surveyed', async (t) => {
  const { dir, read, store, cache, index, file } = await stored(t);
  await read();
  assert.equal(filesIn(dir).length, 1);
  await surveyHost(store, index.host, [publicKey], { cache });
  assert.equal(filesIn(dir).length, 1);
  await store.remove({
    key: formatKey({ type: 'index', host: index.host, snapshot: index.snapshot }),
    version: undefined,
  });
  assert.ok(!filesIn(join(file, '../../..')).includes(file));
  await surveyHost(store, index.host, [publicKey], { cache });
  assert.deepEqual(filesIn(dir), []);
});
