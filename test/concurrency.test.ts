import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { mapAhead, mapConcurrent } from '../src/concurrency.ts';

/** Counts the calls that are under way. */
function gauge() {
  let now = 0;
  let most = 0;
  return {
    now: () => now,
    most: () => most,
    async during<T>(work: () => Promise<T>): Promise<T> {
      most = Math.max(most, ++now);
      try {
        return await work();
      } finally {
        now--;
      }
    },
  };
}

const someMs = (n: number): number => (n * 7919) % 5;

suite('mapConcurrent', () => {
  test('gives results in the order of the items, never more than the limit under way', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(50), { maxLength: 30 }),
        fc.integer({ min: 1, max: 8 }),
        async (items, limit) => {
          const meter = gauge();
          const results = await mapConcurrent(items, limit, (n) =>
            meter.during(() => delay(someMs(n), n * 2)),
          );
          assert.deepEqual(
            results,
            items.map((n) => n * 2),
          );
          assert.equal(meter.most(), Math.min(limit, items.length));
        },
      ),
      { numRuns: 20 },
    );
  });

  test('rejects with the first error', async () => {
    const failing = mapConcurrent([1, 2, 3], 2, async (n) => {
      if (n === 2) throw new Error('two');
      await delay(20);
    });
    await assert.rejects(failing, { message: 'two' });
  });

  test('begins nothing new after an error', async () => {
    const begun: number[] = [];
    const failing = mapConcurrent(Array(100).keys(), 2, async (n) => {
      begun.push(n);
      await delay(5);
      if (n === 1) throw new Error('one');
    });
    await assert.rejects(failing, { message: 'one' });
    await delay(100);
    assert.ok(begun.length <= 4, `${begun.length} were begun`);
  });
});

const cost = (n: number): number => n;

suite('mapAhead', () => {
  test('gives results in order and works ahead as far as the costs allow', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 20 }), async (items) => {
        let spent = 0;
        const results: number[] = [];
        for await (const n of mapAhead(items, 50, cost, async (n) => {
          spent += n;
          assert.ok(spent <= 50 || spent === n, `${spent} are under way`);
          await delay(someMs(n));
          return n;
        })) {
          results.push(n);
          spent -= n;
        }
        assert.deepEqual(results, items);
      }),
      { numRuns: 20 },
    );
  });

  test('takes an item that costs more than everything alone', async () => {
    const meter = gauge();
    const all = await Array.fromAsync(
      mapAhead([100, 200, 300], 50, cost, (n) => meter.during(() => delay(2, n))),
    );
    assert.deepEqual(all, [100, 200, 300]);
    assert.equal(meter.most(), 1);
  });

  test('reports an error when its turn comes, after what came before it', async () => {
    const seen: number[] = [];
    await assert.rejects(
      async () => {
        for await (const n of mapAhead([1, 2, 3], 50, cost, async (n) => {
          if (n === 2) throw new Error('two');
          await delay(20);
          return n;
        }))
          seen.push(n);
      },
      { message: 'two' },
    );
    assert.deepEqual(seen, [1]);
  });

  test('waits for what is under way when the consumer stops, or an error ends it', async () => {
    const meter = gauge();
    for await (const _ of mapAhead([1, 2, 3, 4], 50, cost, () => meter.during(() => delay(20)))) break;
    assert.equal(meter.now(), 0);
    await assert.rejects(
      Array.fromAsync(
        mapAhead([1, 2, 3], 50, cost, (n) =>
          meter.during(() => (n === 1 ? Promise.reject(new Error('one')) : delay(20))),
        ),
      ),
    );
    assert.equal(meter.now(), 0);
    assert.equal(meter.most(), 4);
  });
});
