import type { Worker } from 'node:worker_threads';
import { SealiftError } from './errors.ts';

/**
 * What waits in a system call that does not return, as for a disk of a server that is away, cannot be ended: neither a
 * thread, nor a promise of Node's that one of its own threads works on. It is left behind, so that the rest goes on, and the
 * process ends all the same.
 */
const left = new Map<Promise<unknown>, string>();

/** Programs that were told to stop are killed after 5 s. */
const graceMs = 10_000;
const threadGraceMs = 5000;

/** Whether this process would not come to its end by itself. */
export const isAnythingLeft = (): boolean => left.size > 0;

/**
 * Throws `source-timeout` where something is still waited for that was left behind under this name: whoever asks the same
 * again would be one more that waits, and of those a process can have few.
 */
export function refuseLeftBehind(what: string): void {
  if (![...left.values()].includes(what)) return;
  throw new SealiftError('source-timeout', `an earlier question to ${what} has no answer yet`, {
    hint: 'it goes on by itself once that answers, such as a disk of a server that was away',
  });
}

/** What the work gives; or throws the reason of the signal if that has aborted and the work has not ended soon after. */
export async function orLeave<T>(
  work: Promise<T>,
  what: string,
  signal: AbortSignal,
  patienceMs = graceMs,
): Promise<T> {
  using patience = new Patience(what, signal, patienceMs);
  return await patience.await(work);
}

/** The same for each piece of a stream. */
export async function* eachOrLeave<T>(
  body: AsyncIterable<T>,
  what: string,
  signal: AbortSignal,
  patienceMs = graceMs,
): AsyncGenerator<T, void, void> {
  using patience = new Patience(what, signal, patienceMs);
  const iterator = body[Symbol.asyncIterator]();
  let isAtEnd = false;
  try {
    for (;;) {
      const next = await patience.await(iterator.next());
      isAtEnd = next.done === true;
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    if (!isAtEnd && iterator.return) await patience.await(iterator.return());
  }
}

/**
 * Waits for one thing after the other; when the signal has aborted, for each no longer than `patienceMs`. One listener for
 * them all: with one for each, a dump took three percent longer.
 */
class Patience implements Disposable {
  readonly #what: string;
  readonly #signal: AbortSignal;
  readonly #patienceMs: number;
  readonly #listen = (): void => this.#countDown?.();
  /** For what is waited for now. */
  #countDown: (() => void) | undefined;
  #hasLeft = false;

  constructor(what: string, signal: AbortSignal, patienceMs: number) {
    this.#what = what;
    this.#signal = signal;
    this.#patienceMs = patienceMs;
    signal.addEventListener('abort', this.#listen);
  }

  await<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const leave = (): void => {
        this.#hasLeft = true;
        leaveBehind(work, this.#what);
        reject(this.#signal.reason);
      };
      const over = (): void => {
        this.#countDown = undefined;
        clearTimeout(timer);
      };
      work.finally(over).then(resolve, reject);
      this.#countDown = () => (timer = setTimeout(leave, this.#patienceMs));
      // What stands behind what was left would wait as long.
      if (this.#hasLeft) leave();
      else if (this.#signal.aborted) this.#countDown();
    });
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#listen);
  }
}

/** Ends a thread, or leaves it behind. */
export async function endThread(worker: Worker, what: string): Promise<void> {
  const ended = worker.terminate();
  worker.unref();
  await orLeave(ended, what, AbortSignal.abort(), threadGraceMs).catch(() => {});
}

function leaveBehind(work: Promise<unknown>, what: string): void {
  if (left.size === 0) process.on('exit', becomeItsEnd);
  left.set(work, what);
  const forget = (): void => {
    left.delete(work);
    if (left.size === 0) process.off('exit', becomeItsEnd);
  };
  work.then(forget, forget);
}

/** Ends the process with its exit code, whatever of it waits. */
export function exitNow(): never {
  process.on('exit', becomeItsEnd);
  process.exit();
}

/** Of a process that becomes another one all threads are killed; one that ends waits for them. */
function becomeItsEnd(status: number): void {
  process.execve?.('/bin/sh', ['sh', '-c', `exit ${process.exitCode ?? status}`], {});
}
