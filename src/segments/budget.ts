/**
 * A share of memory in bytes that all jobs of the process draw from, first come, first served. It bounds what is in
 * flight between reading and the store's answer, whatever the amount of data: this is the back-pressure from the store
 * to the dump.
 */
export class ByteBudget {
  readonly #total: number;
  #free: number;
  readonly #waiting: { bytes: number; start: () => void }[] = [];

  constructor(totalBytes: number) {
    this.#total = totalBytes;
    this.#free = totalBytes;
  }

  /** Waits until there is room. A request for more than the whole budget gets it alone. */
  async take(bytes: number): Promise<void> {
    const wanted = Math.min(bytes, this.#total);
    if (this.#waiting.length === 0 && wanted <= this.#free) {
      this.#free -= wanted;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ bytes: wanted, start: resolve });
    await promise;
  }

  give(bytes: number): void {
    this.#free += Math.min(bytes, this.#total);
    for (let next = this.#waiting[0]; next && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.start();
    }
  }
}
