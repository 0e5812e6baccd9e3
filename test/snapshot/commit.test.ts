import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { commitSnapshot } from '../../src/snapshot/catalog.ts';
import { formatKey } from '../../src/snapshot/object-key.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';
import { ada, after, host, idOf, makeIndex, noon, segments } from './fixture.ts';

const { privateKey } = await makeKey();

/** A snapshot that names again one segment of an earlier run, of which this many bytes are in the store. */
async function commit(t: TestContext, storedBytes: number | undefined) {
  const root = join(temporary(t), 'store');
  mkdirSync(root);
  const store = await openDirectoryStore(root);
  const earlier = makeIndex().snapshot;
  const startedAt = after(7200, noon);
  const own = makeIndex({ startedAt }).snapshot;
  const index = makeIndex({
    startedAt,
    folders: [own, earlier].map((snapshot) => ({ snapshot, recipients: [ada] })),
    streams: [{ segments: segments(['kept'], 1) }],
  });
  const key = formatKey({ type: 'segment', host, snapshot: earlier, id: idOf('kept') });
  if (storedBytes !== undefined) {
    mkdirSync(join(root, dirname(key)), { recursive: true });
    put(join(root, key), Buffer.alloc(storedBytes));
  }
  const made = join(root, formatKey({ type: 'index', host, snapshot: own }));
  return { done: commitSnapshot(store, index, privateKey), key, isMade: () => existsSync(made) };
}

test('a snapshot is made when what it names again is still there', async (t) => {
  const { done, isMade } = await commit(t, 4096);
  await done;
  assert.ok(isMade());
});

for (const [what, storedBytes] of [
  ['has gone', undefined],
  ['has another size', 4095],
] as const)
  test(`none is made when it ${what}`, async (t) => {
    const { done, key, isMade } = await commit(t, storedBytes);
    await assert.rejects(done, { code: 'segments-gone', message: new RegExp(key) });
    assert.ok(!isMade());
  });
