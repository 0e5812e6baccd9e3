import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { Cutter, fineUpTo, gearTable, longestSegmentBytes, sizesAt } from '../../src/segments/chunker.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { referenceCuts, referenceTable } from './reference-cuts.ts';

const MiB = 2 ** 20;
const secret = Uint8Array.from({ length: 32 }, (_, i) => i);
const gear = gearTable(secret);
const table = referenceTable(secret);
const stream = pseudoRandom(1, 24 * MiB);

/** Cuts a stream that arrives in amounts of these sizes, over and over. */
function cut(bytes: Uint8Array, amounts: readonly number[] = [65_536], gearValues = gear): Buffer[] {
  const cutter = new Cutter(gearValues);
  const segments: Buffer[] = [];
  const open: Uint8Array[] = [];
  for (let i = 0, turn = 0; i < bytes.length; turn++) {
    const size = amounts[turn % amounts.length]!;
    for (const piece of cutter.push(bytes.subarray(i, i + size))) {
      open.push(piece.bytes);
      if (piece.cut) segments.push(Buffer.concat(open.splice(0)));
    }
    i += size;
  }
  return open.length > 0 ? [...segments, Buffer.concat(open)] : segments;
}

const lengths = (segments: readonly Uint8Array[]): number[] => segments.map(({ length }) => length);
const ends = (list: readonly number[]): Set<number> => {
  let end = 0;
  return new Set(list.slice(0, -1).map((length) => (end += length)));
};
const hashes = (segments: readonly Uint8Array[]): string[] =>
  segments.map((segment) => createHash('sha256').update(segment).digest('hex'));

/** Where the bytes were cut when format 1 was made. These numbers must never change. */
const goldenLengths = [
  1519192, 1473776, 1375475, 1104126, 1240575, 1054980, 2106879, 1542953, 1247934, 1089892, 723386, 1229260,
  900386, 1111916, 2126703, 1338371, 1159333, 1280198, 1052589, 487900,
];

suite('the cuts of format 1', () => {
  test('the gear table of a known secret is the known one', () => {
    assert.deepEqual(
      [...gear].map((value) => value >>> 0),
      table,
    );
    assert.deepEqual(table.slice(0, 4), [4162828209, 1350994144, 1787845674, 614744956]);
    assert.equal(table[255], 4237562322);
  });

  test('24 MiB that look random are cut where they always were', () => {
    assert.deepEqual(lengths(cut(stream)), goldenLengths);
  });

  test('a naive implementation of the rules cuts at the same places', () => {
    assert.deepEqual(referenceCuts(table, stream), goldenLengths);
  });

  test('zeros are cut at the maximum', () => {
    const zeros = Buffer.alloc(10 * MiB);
    assert.deepEqual(lengths(cut(zeros)), [4 * MiB, 4 * MiB, 2 * MiB]);
    assert.deepEqual(referenceCuts(table, zeros), [4 * MiB, 4 * MiB, 2 * MiB]);
  });

  test('another secret cuts elsewhere', () => {
    const other = gearTable(Uint8Array.from({ length: 32 }, (_, i) => 31 - i));
    const before = ends(goldenLengths);
    assert.deepEqual(
      [...ends(lengths(cut(stream, [MiB], other)))].filter((end) => before.has(end)),
      [],
    );
  });
});

test('a cut is possible at the minimum and not one byte before it', () => {
  // With a table of zeros every byte would end a segment, so the first one that may do so does.
  const segments = lengths(cut(Buffer.alloc(MiB + 1), [1000], new Int32Array(256)));
  assert.deepEqual(segments, [MiB / 2, MiB / 2, 1]);
});

test('without a byte that ends it a segment has the maximum', () => {
  // Only the lowest bit of every value is set, so the 32 bits of the hash are all ones after 32 bytes.
  const never = new Int32Array(256).fill(1);
  for (const size of [4 * MiB - 1, 4 * MiB, 4 * MiB + 1]) {
    const expected = size > 4 * MiB ? [4 * MiB, 1] : [size];
    assert.deepEqual(lengths(cut(Buffer.alloc(size), [65_537], never)), expected);
  }
});

test('the strict mask holds before the normal size and the loose one from there on', () => {
  // Zeros keep all bits of the hash set; a one makes it 10,000, which the loose mask accepts and the strict one does not.
  const values = new Int32Array(256).fill(1);
  values[1] = 10_002;
  const marked = (at: number): Buffer => {
    const bytes = Buffer.alloc(2 * MiB);
    bytes[at - 1] = 1;
    return bytes;
  };
  assert.deepEqual(lengths(cut(marked(MiB - 1), [MiB], values)), [2 * MiB]);
  assert.deepEqual(lengths(cut(marked(MiB), [MiB], values)), [MiB, MiB]);
  assert.deepEqual(lengths(cut(marked(MiB + 1), [MiB], values)), [MiB + 1, MiB - 1]);
});

test('the hash looks back 32 bytes, also from the first byte that may end a segment', () => {
  // Only a one leaves a trace in the hash, which is gone after 32 shifts.
  const values = new Int32Array(256);
  values[1] = 1;
  const marked = (at: number): Buffer => {
    const bytes = Buffer.alloc(MiB / 2 + 10);
    bytes[at] = 1;
    return bytes;
  };
  const first = (at: number): number => lengths(cut(marked(at), [4096], values))[0]!;
  assert.equal(first(MiB / 2 - 33), MiB / 2);
  assert.equal(first(MiB / 2 - 32), MiB / 2 + 1);
});

test('a stream that is empty or shorter than the minimum has no cut', () => {
  for (const size of [0, 1, MiB / 2 - 1, MiB / 2])
    assert.deepEqual(lengths(cut(stream.subarray(0, size))), size === 0 ? [] : [size]);
});

test('the pieces in which a stream arrives do not change its cuts, and no byte is lost', () => {
  const sizes = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 3 * MiB }), fc.constantFrom(1, 31, 32, 33, 511)),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 6 * MiB }), (pieceSizes, from) => {
      // Enough large pieces that a case ends soon.
      const bytes = stream.subarray(from, from + 5 * MiB);
      const segments = cut(bytes, [...pieceSizes, 200_000]);
      assert.ok(Buffer.concat(segments).equals(bytes));
      assert.deepEqual(lengths(segments), lengths(cut(bytes, [5 * MiB])));
    }),
    { numRuns: 40 },
  );
});

test('a stream that arrives byte by byte is cut at the same places', () => {
  const [first = 0, second = 0] = goldenLengths;
  assert.deepEqual(lengths(cut(stream.subarray(0, first + second + 1), [1])), [first, second, 1]);
});

test('an insertion changes the segment that it falls into and at most two more', () => {
  for (const [at, inserted] of [
    [0, 'at the start'],
    [10 * MiB, 'x'],
    [10 * MiB, 'y'.repeat(100_000)],
    [24 * MiB, 'at the end'],
  ] as const) {
    const changed = Buffer.concat([stream.subarray(0, at), Buffer.from(inserted), stream.subarray(at)]);
    const before = new Set(hashes(cut(stream)));
    const fresh = hashes(cut(changed)).filter((hash) => !before.has(hash));
    assert.ok(
      fresh.length >= 1 && fresh.length <= 3,
      `${fresh.length} new segments for an insertion at ${at}`,
    );
  }
});

suite('the coarse sizes', () => {
  test('begin with the first segment that starts at 1 GiB or later', () => {
    assert.equal(fineUpTo, 1_073_741_824);
    assert.equal(longestSegmentBytes, 16 * MiB);
    const sizes = (offset: number): number[] => {
      const { min, normal, max } = sizesAt(offset);
      return [min / MiB, normal / MiB, max / MiB];
    };
    for (const offset of [0, 1, 2 ** 30 - 1]) assert.deepEqual(sizes(offset), [0.5, 1, 4]);
    for (const offset of [2 ** 30, 2 ** 30 + 1, 2 ** 40]) assert.deepEqual(sizes(offset), [1, 4, 16]);
  });

  test('a stream of more than 1 GiB is cut as the rules say on both sides of it', () => {
    const part = stream.subarray(0, 16 * MiB);
    const cutter = new Cutter(gear);
    let offset = 0;
    let length = 0;
    let coarse: { start: number; lengths: number[] } | undefined;
    for (let i = 0; i < 67; i++)
      for (const { bytes, cut } of cutter.push(part)) {
        length += bytes.length;
        if (!cut) continue;
        if (offset >= 2 ** 30) coarse ??= { start: offset, lengths: [] };
        if (coarse) coarse.lengths.push(length);
        else assert.ok(length >= MiB / 2 && length <= 4 * MiB);
        offset += length;
        length = 0;
      }
    assert.ok(coarse && coarse.lengths.length > 5);
    assert.ok(coarse.start - 2 ** 30 < 4 * MiB);
    const rest = Buffer.concat(Array.from({ length: 4 }, () => part)).subarray(coarse.start % part.length);
    const expected = referenceCuts(table, rest, coarse.start);
    assert.deepEqual(coarse.lengths, expected.slice(0, coarse.lengths.length));
    assert.ok(coarse.lengths.every((length) => length >= MiB && length <= 16 * MiB));
  });
});
