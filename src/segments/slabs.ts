import { Budget } from './budget.ts';

/**
 * Memory that a segment is gathered in, handed to a worker thread and handed back by it: with no copy, and nothing for
 * the garbage collector. (Shared memory would not have to be handed about, but V8 copies into it at a fifth of the
 * speed unless both sides are aligned.)
 */
export interface Slab {
  /** Address space for the longest segment; the system gives memory only to what is written. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How much of it is filled. */
  readonly length: number;
}

export const filled = ({ bytes, length }: Slab): Uint8Array<ArrayBuffer> => bytes.subarray(0, length);

/**
 * Slabs that are used again and again. Whoever gathers a segment has one at once (a stream that waited for one while
 * others hold theirs half-full could wait for ever); how much of full ones is worked on at a time is bounded.
 */
export class SlabShelf {
  readonly #free = new Map<number, Uint8Array<ArrayBuffer>[]>();
  readonly #atWork: Budget;

  /** `atWorkBytes`: of full slabs, by the room that they have, that may be worked on at a time. */
  constructor(atWorkBytes: number) {
    this.#atWork = new Budget(atWorkBytes);
  }

  /** `sizeBytes`: of the longest segment that may come; the few sizes that there are do not serve each other. */
  take(sizeBytes: number): Uint8Array<ArrayBuffer> {
    return this.#free.get(sizeBytes)?.pop() ?? new Uint8Array(sizeBytes);
  }

  /** Waits until a full slab of this size may be worked on. */
  enter(sizeBytes: number): Promise<void> {
    return this.#atWork.take(sizeBytes);
  }

  leave(sizeBytes: number): void {
    this.#atWork.give(sizeBytes);
  }

  give(bytes: Uint8Array<ArrayBuffer>): void {
    const free = this.#free.get(bytes.length) ?? [];
    this.#free.set(bytes.length, free);
    free.push(bytes);
  }
}
