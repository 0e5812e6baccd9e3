import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WorkerPool } from '../../src/segments/pool.ts';
import { segmentId } from '../../src/segments/segment-id.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { makeKey } from '../support/keys.ts';
import { freshPool } from './station.ts';

const idKey = new Uint8Array(32);
const content = pseudoRandom(1, 100_000);
const identify = (pool: WorkerPool, plaintext = content) =>
  pool.run<'identify'>({
    type: 'identify',
    slab: { bytes: new Uint8Array(plaintext), length: plaintext.length },
    idKey,
  });

/** Makes its thread die: a task that the worker does not know leaves it without an answer to send. */
const kill = (pool: WorkerPool) => pool.run<'identify'>({ type: 'nonsense' } as never);

test('more tasks than threads all get their own answer', async (t) => {
  const pool = freshPool(t);
  const contents = Array.from({ length: 40 }, (_, i) => pseudoRandom(i, 1000 + i));
  const answers = await Promise.all(contents.map((bytes) => identify(pool, bytes)));
  contents.forEach((bytes, i) => {
    assert.equal(answers[i]!.id, segmentId(idKey, bytes));
  });
});

test('only the filled part of a slab counts, and the slab comes back', async (t) => {
  const pool = freshPool(t, 1);
  const { id, slab } = await pool.run<'identify'>({
    type: 'identify',
    slab: { bytes: new Uint8Array(content), length: 10 },
    idKey,
  });
  assert.equal(id, segmentId(idKey, content.subarray(0, 10)));
  assert.deepEqual(slab.bytes, new Uint8Array(content));
});

test('a slab comes back when its segment is sealed, but for a large one, of which only the object is kept', async (t) => {
  const pool = freshPool(t, 1);
  const seal = await createSeal([(await makeKey()).publicKey], new Date());
  for (const [sizeBytes, isBack] of [
    [4 * 2 ** 20, true],
    [16 * 2 ** 20, false],
  ] as const) {
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(content);
    const sealed = await pool.run<'seal'>({ type: 'seal', slab: { bytes, length: content.length }, seal });
    assert.equal(sealed.slab?.bytes.length, isBack ? sizeBytes : undefined);
    const { object } = sealed;
    const { plaintext } = await pool.run<'open'>({ type: 'open', object, sessionKey: seal.sessionKey });
    assert.deepEqual(plaintext, new Uint8Array(content));
  }
});

test('a task that fails rejects with its code, and its thread goes on', async (t) => {
  const pool = freshPool(t, 1);
  const sessionKey = new Uint8Array(32);
  await assert.rejects(pool.run<'open'>({ type: 'open', object: new Uint8Array(100), sessionKey }), {
    code: 'verify-failed',
  });
  assert.equal((await identify(pool)).id, segmentId(idKey, content));
});

test('a thread that dies rejects the tasks that it has at hand, and later ones get a new thread', async (t) => {
  const pool = freshPool(t, 1);
  const died = { code: 'failed', message: /a worker thread died/ };
  const lost = [assert.rejects(kill(pool), died), assert.rejects(identify(pool), died)];
  const queued = identify(pool);
  await Promise.all(lost);
  assert.equal((await queued).id, segmentId(idKey, content));
});

/** How many threads were started while these tasks were done. */
async function threadsFor(tasks: () => Promise<unknown>): Promise<number> {
  let count = 0;
  const add = () => void count++;
  process.on('worker', add);
  try {
    await tasks();
  } finally {
    process.off('worker', add);
  }
  return count;
}

test('a thread that is behind for a moment is left to catch up', async (t) => {
  const pool = freshPool(t, 2, 60_000);
  const many = () => Promise.all(Array.from({ length: 40 }, () => identify(pool)));
  assert.equal(await threadsFor(many), 1);
});

test('a second thread starts when the first has had no pause for a while', async (t) => {
  const pool = freshPool(t, 2, 20);
  const large = Buffer.alloc(2 ** 24);
  const many = () => Promise.all(Array.from({ length: 20 }, () => identify(pool, large)));
  assert.equal(await threadsFor(many), 2);
});

test('a pause counts however long ago the thread had started', async (t) => {
  const pool = freshPool(t, 2, 1000);
  await identify(pool);
  await delay(1100);
  const many = () => Promise.all(Array.from({ length: 10 }, () => identify(pool)));
  assert.equal(await threadsFor(many), 0);
});

test('a thread has two tasks at hand, and the other does not notice when it dies', async (t) => {
  const pool = freshPool(t, 2, 0);
  const results = await Promise.allSettled([
    kill(pool),
    identify(pool),
    identify(pool),
    identify(pool),
    identify(pool),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled'],
  );
});

test('a thread that has started and is idle comes first', async (t) => {
  const pool = freshPool(t, 2, 0);
  await Promise.all(Array.from({ length: 4 }, () => identify(pool))); // so both have started
  const results = await Promise.allSettled([kill(pool), identify(pool)]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  );
});

test('closing rejects what waits and what is under way, and later tasks', async () => {
  const pool = new WorkerPool(1);
  const tasks = Promise.allSettled([identify(pool), identify(pool), identify(pool)]);
  await pool[Symbol.asyncDispose]();
  for (const result of await tasks) {
    assert.equal(result.status, 'rejected');
    assert.match(String(result.reason), /the worker pool is closed/);
  }
  await assert.rejects(identify(pool), { message: 'the worker pool is closed' });
});

test('a pool that nobody used closes', async () => {
  await new WorkerPool(4)[Symbol.asyncDispose]();
});
