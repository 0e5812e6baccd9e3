import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { SlabShelf } from '../../src/segments/slabs.ts';

const MiB = 2 ** 20;
const slab = (roomBytes: number, length: number) => ({ bytes: new Uint8Array(roomBytes), length });

test('a slab that turns out too small is replaced by one for any segment, with what it held', () => {
  const shelf = new SlabShelf(16 * MiB);
  const bytes = shelf.take(16 * MiB);
  assert.equal(bytes.length, 8 * MiB);
  bytes.fill(7);
  const larger = shelf.enlarge({ bytes, length: 5 * MiB });
  assert.equal(larger.length, 16 * MiB);
  assert.equal(larger.indexOf(0), 5 * MiB);
  assert.equal(shelf.take(16 * MiB), bytes, 'the smaller one is used again');
});

test('the shelf keeps slabs of one size, of 8 MiB together, and none of the largest', () => {
  const shelf = new SlabShelf(16 * MiB);
  const small = Array.from({ length: 3 }, () => shelf.take(4 * MiB));
  for (const bytes of small) shelf.give(bytes);
  assert.deepEqual(
    small.map(({ length }) => length / MiB),
    [4, 4, 0],
    'the third was given back',
  );
  const large = shelf.take(16 * MiB);
  assert.ok(small.every(({ length }) => length === 0));
  const largest = shelf.enlarge({ bytes: large, length: 0 });
  shelf.give(largest);
  assert.equal(largest.length, 0);
});

test('what is worked on is bounded by bytes, and a large slab counts as a quarter full', async () => {
  const shelf = new SlabShelf(8 * MiB);
  const leave = await shelf.enter(slab(8 * MiB, 1));
  await shelf.enter(slab(4 * MiB, 4 * MiB));
  const entered: string[] = [];
  const third = shelf.enter(slab(4 * MiB, 3 * MiB)).then(() => entered.push('third'));
  await turn();
  assert.equal(entered.length, 0);
  leave();
  leave();
  await third;
  void shelf.enter(slab(4 * MiB, 2 * MiB)).then(() => entered.push('fourth'));
  await turn();
  assert.deepEqual(entered, ['third'], 'a place is given up once');
});
