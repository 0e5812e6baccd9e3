import { longestSegmentBytes } from './chunker.ts';

/**
 * Memory that a segment is gathered in and that worker threads read where it is, with no copy and nothing for the
 * garbage collector. Address space for the longest segment; the system gives memory only to what is written.
 */
export interface Slab {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** How much of it is filled. */
  length: number;
}

/** Slabs that are used again and again. How many there are follows from what is in flight, which a budget bounds. */
export class SlabShelf {
  readonly #free: Slab[] = [];

  take(): Slab {
    return (
      this.#free.pop() ?? { bytes: new Uint8Array(new SharedArrayBuffer(longestSegmentBytes)), length: 0 }
    );
  }

  give(slab: Slab): void {
    slab.length = 0;
    this.#free.push(slab);
  }
}
