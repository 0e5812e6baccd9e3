import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { piecesOf, type ByteRange } from '../../src/segments/ranges.ts';

/** Ascending ranges that do not overlap: gap, length, gap, length; both may be nothing. */
const rangesFrom = (steps: readonly (readonly [gap: number, length: number])[]): ByteRange[] => {
  let at = 0;
  return steps.map(([gap, length]) => {
    const from = at + gap;
    at = from + length;
    return { from, to: at };
  });
};

const small = fc.integer({ min: 0, max: 9 });
const lengths = fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 12 });
const steps = fc.array(fc.tuple(small, small), { maxLength: 8 });

test('the pieces are the ranges, from just the segments that hold them', () => {
  fc.assert(
    fc.property(lengths, steps, (segmentBytes, steps) => {
      // Every byte of the stream knows where it lies.
      const stream = segmentBytes.flatMap((length, segment) =>
        Array.from({ length }, (_, at) => ({ segment, at })),
      );
      const ranges = rangesFrom(steps);
      const pieces = [...piecesOf(segmentBytes, ranges)];
      const got = pieces.flatMap(({ segment, from, to }) =>
        Array.from({ length: to - from }, (_, i) => ({ segment, at: from + i })),
      );
      assert.deepEqual(
        got,
        ranges.flatMap(({ from, to }) => stream.slice(from, to)),
      );
      assert.ok(pieces.every(({ from, to }) => from < to));
    }),
    { numRuns: 3000 },
  );
});

const touched = (from: number, to: number) =>
  [...piecesOf([10, 10, 10], [{ from, to }])].map(({ segment }) => segment);

test('a range that ends where a segment ends does not touch the next one', () => {
  assert.deepEqual(touched(0, 10), [0]);
  assert.deepEqual(touched(9, 10), [0]);
  assert.deepEqual(touched(10, 20), [1]);
  assert.deepEqual(touched(9, 11), [0, 1]);
  assert.deepEqual(touched(0, 30), [0, 1, 2]);
  assert.deepEqual(touched(20, 30), [2]);
  assert.deepEqual(touched(10, 10), []);
});
