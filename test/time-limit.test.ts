import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { TimeLimit } from '../src/time-limit.ts';

const reason = () => new Error('too long');

test('what takes longer than the limit is told to stop, with the reason', async () => {
  using limit = new TimeLimit(100, reason);
  await assert.rejects(
    limit.measure(() => delay(5000, undefined, { signal: limit.signal })),
    ({ cause }: Error) => cause instanceof Error && cause.message === 'too long',
  );
});

test('time that is not measured does not count', async () => {
  using limit = new TimeLimit(100, reason);
  await limit.measure(() => delay(10));
  await delay(500);
  assert.equal(limit.signal.aborted, false);
  assert.ok(limit.usedMs < 100, String(limit.usedMs));
});

test('of a stream, the time until each piece comes counts, and not what its consumer does', async () => {
  using limit = new TimeLimit(300, reason);
  const body = (async function* () {
    for (let i = 0; i < 3; i++) {
      await delay(20);
      yield i;
    }
  })();
  const got: number[] = [];
  for await (const piece of limit.measureEach(body)) {
    got.push(piece);
    await delay(200);
  }
  assert.deepEqual(got, [0, 1, 2]);
  assert.ok(limit.usedMs >= 50 && limit.usedMs < 300, String(limit.usedMs));
});

test('what runs side by side counts once', async () => {
  using limit = new TimeLimit(10_000, reason);
  await Promise.all(Array.from({ length: 5 }, () => limit.measure(() => delay(100))));
  assert.ok(limit.usedMs >= 99 && limit.usedMs < 300, String(limit.usedMs));
});

test('a consumer that stops early ends the stream', async () => {
  using limit = new TimeLimit(1000, reason);
  let ended = false;
  const body = (async function* () {
    try {
      yield 1;
      yield 2;
    } finally {
      ended = true;
    }
  })();
  for await (const piece of limit.measureEach(body)) if (piece === 1) break;
  assert.ok(ended);
});
