import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { Budget, type Share } from '../src/budget.ts';

/** Asks for bytes and notes when they are granted. */
function asker(budget: Budget) {
  const granted: string[] = [];
  const shares: Record<string, Share> = {};
  const ask = (name: string, bytes: number): void => {
    void budget.take(bytes).then((share) => {
      granted.push(name);
      shares[name] = share;
    });
  };
  return { ask, granted, shares };
}

test('requests are granted while there is room, and the next one waits for as much as it needs', async () => {
  const { ask, granted, shares } = asker(new Budget(10));
  ask('a', 6);
  ask('b', 4);
  ask('c', 5);
  await turn();
  assert.deepEqual(granted, ['a', 'b']);
  shares['b']!.giveBack();
  shares['b']!.giveBack();
  await turn();
  assert.deepEqual(granted, ['a', 'b']);
  shares['a']!.giveBack();
  await turn();
  assert.deepEqual(granted, ['a', 'b', 'c']);
});

test('a share that shrinks gives back the difference, and never grows', async () => {
  const { ask, granted, shares } = asker(new Budget(10));
  ask('a', 10);
  ask('b', 6);
  await turn();
  shares['a']!.shrinkTo(5);
  shares['a']!.shrinkTo(8);
  await turn();
  assert.deepEqual(granted, ['a']);
  shares['a']!.shrinkTo(4);
  await turn();
  assert.deepEqual(granted, ['a', 'b']);
  shares['b']!.giveBack();
  shares['a']!.giveBack();
  ask('all', 10);
  await turn();
  assert.deepEqual(granted, ['a', 'b', 'all']);
});

test('a small request does not overtake a large one that came first', async () => {
  const { ask, granted, shares } = asker(new Budget(10));
  ask('first', 8);
  ask('large', 9);
  ask('small', 1);
  await turn();
  assert.deepEqual(granted, ['first']);
  shares['first']!.giveBack();
  await turn();
  assert.deepEqual(granted, ['first', 'large', 'small']);
});

test('a request for more than everything is granted alone, and gives back what it got', async () => {
  const { ask, granted, shares } = asker(new Budget(10));
  ask('one', 1);
  ask('huge', 1000);
  ask('next', 1);
  await turn();
  assert.deepEqual(granted, ['one']);
  shares['one']!.giveBack();
  await turn();
  assert.deepEqual(granted, ['one', 'huge']);
  shares['huge']!.giveBack();
  await turn();
  assert.deepEqual(granted, ['one', 'huge', 'next']);
  ask('nine', 9);
  ask('ten', 1);
  await turn();
  assert.deepEqual(granted.slice(3), ['nine']);
});

test('who gives up while he waits gets nothing, and those behind him do not wait for him', async () => {
  const budget = new Budget(10);
  const { ask, granted, shares } = asker(budget);
  const abort = new AbortController();
  const givingUp = (bytes: number): void =>
    void budget.take(bytes, abort.signal).catch((error: unknown) => granted.push(String(error)));
  ask('first', 8);
  givingUp(9);
  ask('small', 2);
  await turn();
  assert.deepEqual(granted, ['first']);
  abort.abort();
  givingUp(9);
  await turn();
  assert.deepEqual(granted.slice(1).toSorted(), [
    'AbortError: given up before its turn',
    'AbortError: given up before its turn',
    'small',
  ]);
  shares['first']!.giveBack();
  shares['small']!.giveBack();
  const late = new AbortController();
  const share = await budget.take(10, late.signal);
  late.abort();
  share.giveBack();
  ask('all', 10);
  await turn();
  assert.equal(granted.at(-1), 'all');
});

test('whatever is asked in whatever order: never more than the budget is out, everyone gets a turn in order', async () => {
  const requests = fc.array(fc.integer({ min: 0, max: 150 }), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(requests, async (sizes) => {
      const budget = new Budget(100);
      const order: number[] = [];
      let out = 0;
      await Promise.all(
        sizes.map(async (size, i) => {
          const share = await budget.take(size);
          order.push(i);
          out += Math.min(size, 100);
          assert.ok(out <= 100);
          await turn();
          out -= Math.min(size, 100);
          share.giveBack();
        }),
      );
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
      );
    }),
    { numRuns: 50 },
  );
});
