/**
 * A share of something bounded (bytes, slabs) that all jobs of the process draw from, first come, first served. Waiting
 * for it is the back-pressure from the store to the dump.
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
  async take(amount: number): Promise<void> {
    const wanted = Math.min(amount, this.#total);
    if (this.#waiting.length === 0 && wanted <= this.#free) {
      this.#free -= wanted;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ amount: wanted, start: resolve });
    await promise;
  }

  give(amount: number): void {
    this.#free += Math.min(amount, this.#total);
    for (let next = this.#waiting[0]; next && next.amount <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.amount;
      next.start();
    }
  }
}
