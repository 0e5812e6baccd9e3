import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { rfc3339 } from '../../src/clock.ts';
import { commitSnapshot } from '../../src/snapshot/catalog.ts';
import { formatKey } from '../../src/snapshot/object-key.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';
import { ada, after, host, idOf, makeIndex, noon, segments } from './fixture.ts';

const { privateKey } = await makeKey();

/** A snapshot that names again one segment of an earlier run, of which this many bytes are in the store. */
async function commit(t: TestContext, storedBytes: number | undefined, hours = 0) {
  const root = join(temporary(t), 'store');
  mkdirSync(root);
  const store = await openDirectoryStore(root);
  const earlier = makeIndex().snapshot;
  const startedAt = after(7200, noon);
  const own = makeIndex({ startedAt }).snapshot;
  const index = makeIndex({
    startedAt,
    finishedAt: rfc3339(after(hours * 3600, startedAt)),
    folders: [own, earlier].map((snapshot) => ({ snapshot, recipients: [ada] })),
    streams: [{ segments: [...segments(['kept'], 1), ...segments(['new'])] }],
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

test('a run of half a day looks for its own segments too: a pruner with shorter limits may have taken them', async (t) => {
  const short = await commit(t, 4096, 11.9);
  await short.done;
  const long = await commit(t, 4096, 12);
  const message = new RegExp(`s/${idOf('new')}.*was deleted while it ran`);
  await assert.rejects(long.done, { code: 'segments-gone', message });
  assert.ok(!long.isMade());
});
