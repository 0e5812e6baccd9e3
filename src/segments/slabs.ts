import { release } from '../memory.ts';
import { longestSegmentBytes } from './chunker.ts';

/**
 * Memory that a segment is gathered in, handed to a worker thread and handed back by it, a large one only until it is
 * sealed: with no copy, and nothing for the garbage collector. (Shared memory would not have to be handed about, but V8
 * copies into it at a fifth of the speed unless both sides are aligned.)
 */
export interface Slab {
  /** Address space for the longest segment that may come; the system gives memory only to what is written. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How much of it is filled. */
  readonly length: number;
}

export const filled = ({ bytes, length }: Slab): Uint8Array<ArrayBuffer> => bytes.subarray(0, length);

/**
 * Of a stream that is cut coarsely. What a thread holds of one segment would be most of the memory of a run, so such a slab
 * does not stay while the object is made of its content.
 */
export const isLarge = ({ bytes }: Slab): boolean => bytes.length === longestSegmentBytes;

/** Nine of ten segments of a stream that is cut coarsely are shorter. */
const usualBytes = longestSegmentBytes / 2;

/** What a slab is taken to have of memory: a small one has been full before, and a large one mostly not beyond its half. */
const touched = (slab: Slab): number =>
  isLarge(slab) && slab.length < usualBytes ? usualBytes : slab.bytes.length;

/**
 * What a full slab counts until its segment is sealed: what is made of it takes room as well, and what earlier segments
 * filled stays in memory, too.
 */
export const weightOf = (slab: Slab): number => slab.length + touched(slab) / 2;

/** Of the longest segment. */
export const largestWeight = longestSegmentBytes * 1.5;

/** Memory of slabs that lie on the shelf unused; more of them are given back to the system. */
const keptBytes = usualBytes;

/**
 * Slabs that are used again and again. Whoever gathers a segment has one at once (a stream that waited for one while
 * others hold theirs half-full could wait for ever); how much of full ones is worked on at a time is bounded.
 */
export class SlabShelf {
  #free: Slab[] = [];

  /**
   * Room for a segment of `longestBytes`. Slabs of another size are given back: a stream passes from the small ones to the
   * large ones once, and does not return.
   */
  take(longestBytes: number): Uint8Array<ArrayBuffer> {
    const { fits = [], others = [] } = Object.groupBy(this.#free, ({ bytes }) =>
      bytes.length === longestBytes ? 'fits' : 'others',
    );
    for (const { bytes } of others) release(bytes);
    this.#free = fits;
    return this.#free.pop()?.bytes ?? new Uint8Array(longestBytes);
  }

  give(slab: Slab): void {
    const kept = this.#free.reduce((sum, free) => sum + touched(free), 0);
    if (kept + touched(slab) <= keptBytes) this.#free.push(slab);
    else release(slab.bytes);
  }
}
