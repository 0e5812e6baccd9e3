/** What somebody has of a budget, until it is given back. */
export interface Share {
  /** Gives back what is more than this. */
  shrinkTo(amount: number): void;
  /** All that is left of it; once, however often it is called. */
  giveBack(): void;
}

/**
 * Something bounded (bytes, connections) that is drawn from, first come, first served. Waiting for bytes is the
 * back-pressure from the store to the dump.
 */
export class Budget {
  readonly #total: number;
  #free: number;
  #waiting: { amount: number; start: () => void }[] = [];

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
  }

  /**
   * Waits until there is room; an `AbortError` when the signal aborts before. A request for more than the whole budget gets
   * it alone.
   */
  async take(amount: number, signal?: AbortSignal): Promise<Share> {
    let held = Math.min(amount, this.#total);
    if (this.#waiting.length === 0 && held <= this.#free) this.#free -= held;
    else await this.#turn(held, signal);
    const shrinkTo = (rest: number): void => {
      if (rest >= held) return;
      this.#give(held - rest);
      held = rest;
    };
    return { shrinkTo, giveBack: () => shrinkTo(0) };
  }

  async #turn(amount: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const place = { amount, start: resolve };
    // Who does not wait any longer holds up nobody behind him.
    const leave = (): void => {
      this.#waiting = this.#waiting.filter((one) => one !== place);
      this.#give(0);
      reject(new DOMException('given up before its turn', 'AbortError'));
    };
    this.#waiting.push(place);
    if (signal?.aborted === true) leave();
    signal?.addEventListener('abort', leave, { once: true });
    await promise.finally(() => signal?.removeEventListener('abort', leave));
  }

  #give(amount: number): void {
    this.#free += amount;
    for (let next = this.#waiting[0]; next && next.amount <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.amount;
      next.start();
    }
  }
}
