import { release } from '../memory.ts';
import { longestSegmentBytes } from './chunker.ts';

/**
 * Memory that a segment is gathered in, handed to a worker thread and handed back by it, a large one only until it is
 * sealed: with no copy, and nothing for the garbage collector. (Shared memory would not have to be handed about, but V8
 * copies into it at a fifth of the speed unless both sides are aligned.)
 */
export interface Slab {
  /** Address space for a long segment; the system gives memory only to what is written. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How much of it is filled. */
  readonly length: number;
}

/**
 * What a full slab counts until its segment is sealed: what is made of it takes room as well, and what earlier segments
 * filled stays in memory, too.
 */
const weight = (lengthBytes: number, roomBytes: number): number => lengthBytes + roomBytes / 2;

export const weightOf = ({ bytes, length }: Slab): number => weight(length, bytes.length);

/** Of the longest segment. */
export const largestWeight = weight(longestSegmentBytes, longestSegmentBytes);

export const filled = ({ bytes, length }: Slab): Uint8Array<ArrayBuffer> => bytes.subarray(0, length);

/**
 * Room that nine of ten segments do with, and that is tried first. V8 counts room as memory, filled or not, and collects
 * garbage all the time where there is too much of it.
 */
const usualBytes = longestSegmentBytes / 2;

/**
 * Of a stream that is cut coarsely. What a thread holds of one segment would be most of the memory of a run: for 8 GiB
 * 231 MiB where the slab stayed while the object was made, 218 where it goes before (for 1 GiB 205).
 */
export const isLarge = ({ bytes }: Slab): boolean => bytes.length >= usualBytes;

/** Room of slabs that lie on the shelf unused; more of them are given back to the system. */
const keptBytes = usualBytes;

/**
 * Slabs that are used again and again. Whoever gathers a segment has one at once (a stream that waited for one while
 * others hold theirs half-full could wait for ever); how much of full ones is worked on at a time is bounded.
 */
export class SlabShelf {
  #free: Uint8Array<ArrayBuffer>[] = [];

  /**
   * `longestBytes`: of the longest segment that may come, though the slab may turn out too small for it. Slabs of
   * another size are given back: a stream passes from the small ones to the large ones once, and does not return.
   */
  take(longestBytes: number): Uint8Array<ArrayBuffer> {
    const sizeBytes = Math.min(longestBytes, usualBytes);
    const { fits = [], others = [] } = Object.groupBy(this.#free, ({ length }) =>
      length === sizeBytes ? 'fits' : 'others',
    );
    for (const bytes of others) release(bytes);
    this.#free = fits;
    return this.#free.pop() ?? new Uint8Array(sizeBytes);
  }

  /** A slab that is large enough for any segment, with what was gathered, in place of one that is not. */
  enlarge({ bytes, length }: Slab): Uint8Array<ArrayBuffer> {
    const larger = new Uint8Array(longestSegmentBytes);
    larger.set(bytes.subarray(0, length));
    this.give(bytes);
    return larger;
  }

  give(bytes: Uint8Array<ArrayBuffer>): void {
    const kept = this.#free.reduce((sum, { length }) => sum + length, 0);
    if (bytes.length <= usualBytes && kept + bytes.length <= keptBytes) this.#free.push(bytes);
    else release(bytes);
  }
}
