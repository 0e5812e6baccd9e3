import assert from 'node:assert/strict';
import { test } from 'node:test';
import { largestWeight, SlabShelf, weightOf } from '../../src/segments/slabs.ts';

const MiB = 2 ** 20;

const give = (shelf: SlabShelf, bytes: Uint8Array<ArrayBuffer>, length = bytes.length) =>
  shelf.give({ bytes, length });

test('the shelf keeps slabs of one size, of 8 MiB together', () => {
  const shelf = new SlabShelf();
  const small = Array.from({ length: 3 }, () => shelf.take(4 * MiB));
  for (const bytes of small) give(shelf, bytes);
  assert.deepEqual(
    small.map(({ length }) => length / MiB),
    [4, 4, 0],
    'the third was given back',
  );
  assert.equal(shelf.take(4 * MiB), small[1], 'the second is used again');
  shelf.take(16 * MiB);
  assert.ok(small[0]!.length === 0);
});

test('of the large slabs the shelf keeps one, of which no more than half has been filled', () => {
  const shelf = new SlabShelf();
  const [full, half, other] = [shelf.take(16 * MiB), shelf.take(16 * MiB), shelf.take(16 * MiB)];
  give(shelf, full, 8 * MiB);
  give(shelf, half, 8 * MiB - 1);
  give(shelf, other, 1);
  assert.deepEqual(
    [full, half, other].map(({ length }) => length / MiB),
    [0, 16, 0],
  );
  assert.equal(shelf.take(16 * MiB), half);
  give(shelf, half, 9 * MiB);
  assert.equal(half.length, 0);
});

test('a slab counts what it holds and half of what it may have of memory', () => {
  const weigh = (room: number, length: number) =>
    weightOf({ bytes: new Uint8Array(room * MiB), length: length * MiB }) / MiB;
  assert.deepEqual([weigh(4, 1), weigh(4, 4), weigh(16, 1), weigh(16, 8), weigh(16, 16)], [3, 6, 5, 16, 24]);
  assert.equal(largestWeight / MiB, 24);
});
