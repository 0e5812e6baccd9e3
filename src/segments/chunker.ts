import { hkdfSync } from 'node:crypto';
import { endianness } from 'node:os';

/**
 * Content-defined chunking with a keyed Gear hash (Xia et al., "FastCDC", USENIX ATC 2016, with normalised chunking):
 * where a segment ends depends on the last 32 bytes alone, so an insertion moves the cuts near it and no others.
 * Restore does not depend on any of this; only re-use does.
 */

/** Sizes in bytes. `strict` is the mask before `normal`, `loose` the one from there on; both test the top bits. */
export interface CutSizes {
  readonly min: number;
  readonly normal: number;
  readonly max: number;
  readonly strict: number;
  readonly loose: number;
}

const MiB = 2 ** 20;
const topBits = (count: number): number => (-1 << (32 - count)) | 0;

const smallSizes: CutSizes = {
  min: MiB / 2,
  normal: MiB,
  max: 4 * MiB,
  strict: topBits(22),
  loose: topBits(18),
};
const largeSizes: CutSizes = {
  min: MiB,
  normal: 4 * MiB,
  max: 16 * MiB,
  strict: topBits(23),
  loose: topBits(21),
};

/** The longest segment that any stream is cut into. */
export const longestSegmentBytes = largeSizes.max;

/** Streams are cut finely up to here, coarsely after it, so that large ones keep their object count sane. */
export const fineUpTo = 2 ** 30;

/** The sizes for a segment that starts at this offset of its stream. */
export const sizesAt = (startOffset: number): CutSizes => (startOffset < fineUpTo ? smallSizes : largeSizes);

/** The host's 256 values of the Gear hash: HKDF-SHA256 of the host secret, read as little-endian integers. */
export function gearTable(hostSecret: Uint8Array): Int32Array {
  const bytes = new DataView(hkdfSync('sha256', hostSecret, '', 'sealift/1/chunker', 1024));
  return Int32Array.from({ length: 256 }, (_, i) => bytes.getInt32(4 * i, true));
}

const littleEndian = endianness() === 'LE';
const none = new Int32Array(0);

/** The hash forgets a byte after 32 shifts, so hashing may begin this far before the first possible cut. */
const memory = 32;

/** Bytes that belong to the open segment; with `cut` they are its last ones. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly cut: boolean;
}

/**
 * Finds where one stream is cut. `push` takes bytes as they come, in amounts of any size, and divides them at the cuts;
 * what has been pushed since the last cut is the open segment, which ends with the stream at the latest.
 */
export class Cutter {
  readonly #gear: Int32Array;
  #length = 0;
  #hash = 0;
  #start = 0;
  #sizes: CutSizes = sizesAt(0);

  constructor(gear: Int32Array) {
    this.#gear = gear;
  }

  /** Room that is enough for a segment that begins here. */
  get longestBytes(): number {
    return this.#sizes.max;
  }

  *push(bytes: Uint8Array): Generator<Piece> {
    let rest = bytes;
    while (rest.length > 0) {
      const { count, cut } = this.#scan(rest);
      this.#length += count;
      if (cut) this.#next();
      yield { bytes: rest.subarray(0, count), cut };
      rest = rest.subarray(count);
    }
  }

  /** How many of these bytes belong to the open segment, and whether it ends there. */
  #scan(bytes: Uint8Array): { count: number; cut: boolean } {
    const { min, normal, max, strict, loose } = this.#sizes;
    const gear = this.#gear;
    const length = this.#length;
    const end = Math.min(bytes.length, max - length);
    let hash = this.#hash;
    let i = Math.min(Math.max(0, min - memory - length), end);
    const warm = Math.min(Math.max(i, min - 1 - length), end);
    for (; i < warm; i++) hash = ((hash << 1) + gear[bytes[i]!]!) | 0;
    const middle = Math.min(Math.max(warm, normal - 1 - length), end);
    for (const [from, to, mask] of [
      [warm, middle, strict],
      [middle, end, loose],
    ] as const) {
      const found = find(gear, hash, mask, bytes.subarray(from, to));
      if (found.count !== undefined) return { count: from + found.count, cut: true };
      hash = found.hash;
    }
    this.#hash = hash;
    return { count: end, cut: length + end === max };
  }

  #next(): void {
    this.#start += this.#length;
    this.#length = 0;
    this.#hash = 0;
    this.#sizes = sizesAt(this.#start);
  }
}

/**
 * Rolls the hash over all of these bytes: how many there are up to the first after which the bits under the mask are
 * zero, or, without one, the hash at their end. Eight bytes at a time are a fifth faster than four, and those nearly twice
 * as fast as one.
 */
function find(
  gear: Int32Array,
  hashBefore: number,
  mask: number,
  bytes: Uint8Array,
): { count?: number; hash: number } {
  const { length } = bytes;
  const odd = littleEndian ? Math.min(-bytes.byteOffset & 3, length) : length;
  let hash = hashBefore;
  let i = 0;
  for (; i < odd; i++) {
    hash = ((hash << 1) + gear[bytes[i]!]!) | 0;
    if ((hash & mask) === 0) return { count: i + 1, hash };
  }
  // Without a byte left there may be no place for a word to begin.
  const words =
    odd < length ? new Int32Array(bytes.buffer, bytes.byteOffset + odd, (length - odd) >>> 2) : none;
  // Asked for once: V8 looks at the memory each time, since it might have been given away.
  const pairs = words.length & ~1;
  let word = 0;
  for (; word < pairs; word += 2) {
    const first = words[word]!;
    const a = ((hash << 1) + gear[first & 255]!) | 0;
    const b = ((a << 1) + gear[(first >>> 8) & 255]!) | 0;
    const c = ((b << 1) + gear[(first >>> 16) & 255]!) | 0;
    const d = ((c << 1) + gear[first >>> 24]!) | 0;
    // The loop below finds the exact place.
    if ((a & mask) === 0 || (b & mask) === 0 || (c & mask) === 0 || (d & mask) === 0) break;
    const second = words[word + 1]!;
    const e = ((d << 1) + gear[second & 255]!) | 0;
    const f = ((e << 1) + gear[(second >>> 8) & 255]!) | 0;
    const g = ((f << 1) + gear[(second >>> 16) & 255]!) | 0;
    const h = ((g << 1) + gear[second >>> 24]!) | 0;
    if ((e & mask) === 0 || (f & mask) === 0 || (g & mask) === 0 || (h & mask) === 0) break;
    hash = h;
  }
  for (i = odd + 4 * word; i < length; i++) {
    hash = ((hash << 1) + gear[bytes[i]!]!) | 0;
    if ((hash & mask) === 0) return { count: i + 1, hash };
  }
  return { hash };
}
