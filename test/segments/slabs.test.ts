import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SlabShelf } from '../../src/segments/slabs.ts';

const MiB = 2 ** 20;

test('a slab that turns out too small is replaced by one for any segment, with what it held', () => {
  const shelf = new SlabShelf();
  const bytes = shelf.take(16 * MiB);
  assert.equal(bytes.length, 8 * MiB);
  bytes.fill(7);
  const larger = shelf.enlarge({ bytes, length: 5 * MiB });
  assert.equal(larger.length, 16 * MiB);
  assert.equal(larger.indexOf(0), 5 * MiB);
  assert.equal(shelf.take(16 * MiB), bytes, 'the smaller one is used again');
});

test('the shelf keeps slabs of one size, of 8 MiB together, and none of the largest', () => {
  const shelf = new SlabShelf();
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
