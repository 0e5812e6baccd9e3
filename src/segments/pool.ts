import { Worker } from 'node:worker_threads';
import { SealiftError } from '../errors.ts';
import { transferable } from '../memory.ts';
import { sibling } from '../sibling.ts';
import type { Reply, Results, Task } from './worker.ts';

const workerUrl = sibling(import.meta.url, 'worker');

interface Pending {
  readonly task: Task;
  readonly resolve: (value: Results[Task['type']]) => void;
  readonly reject: (error: unknown) => void;
}

interface Member {
  readonly worker: Worker;
  /** Sent to it and not yet answered, oldest first; it answers in this order. */
  readonly sent: Pending[];
}

/** Tasks that a thread has at hand: the next one starts while the main thread is busy cutting. */
const tasksAhead = 2;

/** One in which no thread was ever without work. Shorter times come with any source, whose pace is uneven. */
const usualPatienceMs = 250;

/**
 * Worker threads that hash, compress, encrypt and open, so that the main thread only reads and cuts. Every job of the
 * process shares one pool. A thread starts when those before it have not kept up for a while (a source that one thread keeps
 * up with has the other cores for itself); the first by `start`, before there is anything to do.
 */
export class WorkerPool implements AsyncDisposable {
  readonly size: number;
  readonly #members: Member[] = [];
  #queue: Pending[] = [];
  #closed = false;
  readonly #patienceMs: number;
  /** When a thread last came to have work that had none. */
  #idleUntilMs = 0;

  constructor(size: number, patienceMs = usualPatienceMs) {
    this.size = size;
    this.#patienceMs = patienceMs;
  }

  run<T extends Task['type']>(task: Extract<Task, { type: T }>): Promise<Results[T]> {
    const { promise, resolve, reject } = Promise.withResolvers<Results[T]>();
    if (this.#closed) return Promise.reject(new SealiftError('failed', 'the worker pool is closed'));
    this.#queue.push({ task, resolve: resolve as Pending['resolve'], reject });
    this.#dispatch();
    return promise;
  }

  start(): void {
    if (this.#members.length === 0) this.#begin();
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const member = this.#member();
      const next = member && this.#queue.shift();
      if (!next) return;
      if (member.sent.length === 0) this.#idleUntilMs = performance.now();
      member.sent.push(next);
      const { task } = next;
      const bytes = 'slab' in task ? task.slab.bytes : task.object;
      member.worker.postMessage(task, transferable(bytes));
    }
  }

  /** A thread that is idle, else the first that has room, else a new one if it is time for that. */
  #member(): Member | undefined {
    return (
      this.#members.find(({ sent }) => sent.length === 0) ??
      this.#members.find(({ sent }) => sent.length < tasksAhead) ??
      this.#another()
    );
  }

  #another(): Member | undefined {
    const keepsUp = performance.now() - this.#idleUntilMs < this.#patienceMs;
    return this.#members.length > 0 && keepsUp ? undefined : this.#begin();
  }

  #begin(): Member | undefined {
    if (this.#members.length >= this.size) return undefined;
    const member: Member = { worker: new Worker(workerUrl), sent: [] };
    member.worker.on('message', (reply: Reply) => {
      const done = member.sent.shift();
      if (reply.ok) done?.resolve(reply.value);
      else done?.reject(new SealiftError(reply.code, reply.message));
      this.#dispatch();
    });
    // The thread is gone (out of memory, most likely). Its tasks fail; the next task gets a new thread.
    const lost = (reason: string, cause?: Error): void => {
      const place = this.#members.indexOf(member);
      if (place === -1) return;
      this.#members.splice(place, 1);
      const died = new SealiftError('failed', `a worker thread died: ${reason}`, { cause });
      for (const { reject } of member.sent) reject(died);
      this.#dispatch();
    };
    member.worker.on('error', (cause) => lost(cause.message, cause));
    member.worker.on('exit', (status) => lost(`it ended with status ${status}`));
    this.#members.push(member);
    return member;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const closed = new SealiftError('failed', 'the worker pool is closed');
    for (const { reject } of this.#queue) reject(closed);
    this.#queue = [];
    await Promise.all(
      this.#members.splice(0).map(async ({ worker, sent }) => {
        await worker.terminate();
        for (const { reject } of sent) reject(closed);
      }),
    );
  }
}
