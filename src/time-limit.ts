/** How often it is looked at: the limit is kept to this. */
const lookMs = 200;

/**
 * A limit on the time that something takes, of which only what is measured counts: a tool that hangs is ended, and one
 * that waits for a slow store is not. What is measured side by side counts once.
 */
export class TimeLimit implements Disposable {
  readonly #limitMs: number;
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #usedMs = 0;
  #sinceMs = 0;
  #running = 0;

  /** `reason` is what `signal` is aborted with. */
  constructor(limitMs: number, reason: () => Error) {
    this.#limitMs = limitMs;
    this.#timer = setInterval(() => {
      if (this.usedMs <= this.#limitMs) return;
      clearInterval(this.#timer);
      this.#abort.abort(reason());
    }, lookMs).unref();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get usedMs(): number {
    return this.#usedMs + (this.#running > 0 ? performance.now() - this.#sinceMs : 0);
  }

  async measure<T>(act: () => Promise<T>): Promise<T> {
    if (this.#running++ === 0) this.#sinceMs = performance.now();
    try {
      return await act();
    } finally {
      this.#usedMs += this.#running === 1 ? performance.now() - this.#sinceMs : 0;
      this.#running--;
    }
  }

  /** Passes on what comes, and measures the time until it comes. */
  async *measureEach<T>(body: AsyncIterable<T>): AsyncGenerator<T, void, void> {
    const iterator = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.measure(() => iterator.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
