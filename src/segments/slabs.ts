import { Budget } from './budget.ts';
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

/**
 * Slabs that are used again and again. Whoever gathers a segment has one at once (a stream that waited for one while
 * others hold theirs half-full could wait for ever); how many full ones are worked on at a time is bounded.
 */
export class SlabShelf {
  readonly #free: Slab[] = [];
  readonly #places: Budget;

  /** `atWork`: full slabs that may be worked on at a time. */
  constructor(atWork: number) {
    this.#places = new Budget(atWork);
  }

  take(): Slab {
    return (
      this.#free.pop() ?? { bytes: new Uint8Array(new SharedArrayBuffer(longestSegmentBytes)), length: 0 }
    );
  }

  /** Waits for a place to work on a full slab. */
  enter(): Promise<void> {
    return this.#places.take(1);
  }

  leave(): void {
    this.#places.give(1);
  }

  give(slab: Slab): void {
    slab.length = 0;
    this.#free.push(slab);
  }
}
