import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { Budget } from '../../src/segments/budget.ts';

/** Asks for bytes and notes when they are granted. */
function ask(budget: Budget, granted: string[], name: string, bytes: number): void {
  void budget.take(bytes).then(() => granted.push(name));
}

test('requests are granted while there is room, and the next one waits for as much as it needs', async () => {
  const budget = new Budget(10);
  const granted: string[] = [];
  ask(budget, granted, 'a', 6);
  ask(budget, granted, 'b', 4);
  ask(budget, granted, 'c', 5);
  await turn();
  assert.deepEqual(granted, ['a', 'b']);
  budget.give(4);
  await turn();
  assert.deepEqual(granted, ['a', 'b']);
  budget.give(6);
  await turn();
  assert.deepEqual(granted, ['a', 'b', 'c']);
});

test('a small request does not overtake a large one that came first', async () => {
  const budget = new Budget(10);
  const granted: string[] = [];
  ask(budget, granted, 'first', 8);
  ask(budget, granted, 'large', 9);
  ask(budget, granted, 'small', 1);
  await turn();
  assert.deepEqual(granted, ['first']);
  budget.give(8);
  await turn();
  assert.deepEqual(granted, ['first', 'large', 'small']);
});

test('a request for more than everything is granted alone, and gives back what it got', async () => {
  const budget = new Budget(10);
  const granted: string[] = [];
  ask(budget, granted, 'one', 1);
  ask(budget, granted, 'huge', 1000);
  ask(budget, granted, 'next', 1);
  await turn();
  assert.deepEqual(granted, ['one']);
  budget.give(1);
  await turn();
  assert.deepEqual(granted, ['one', 'huge']);
  budget.give(1000);
  await turn();
  assert.deepEqual(granted, ['one', 'huge', 'next']);
  ask(budget, granted, 'nine', 9);
  ask(budget, granted, 'ten', 1);
  await turn();
  assert.deepEqual(granted.slice(3), ['nine']);
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
          await budget.take(size);
          order.push(i);
          out += Math.min(size, 100);
          assert.ok(out <= 100);
          await turn();
          out -= Math.min(size, 100);
          budget.give(size);
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
