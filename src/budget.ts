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
  readonly #waiting: { amount: number; start: () => void }[] = [];

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
  }

  /** Waits until there is room. A request for more than the whole budget gets it alone. */
  async take(amount: number): Promise<Share> {
    let held = Math.min(amount, this.#total);
    if (this.#waiting.length === 0 && held <= this.#free) this.#free -= held;
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push({ amount: held, start: resolve });
      await promise;
    }
    const shrinkTo = (rest: number): void => {
      if (rest >= held) return;
      this.#give(held - rest);
      held = rest;
    };
    return { shrinkTo, giveBack: () => shrinkTo(0) };
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
