import { Worker } from 'node:worker_threads';
import { SealiftError } from '../errors.ts';
import type { Reply, Results, Task } from './worker.ts';

/** As compiled the worker is JavaScript, in a checkout TypeScript; `new URL` is not rewritten by the compiler. */
const workerUrl = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);

interface Pending {
  readonly task: Task;
  readonly resolve: (value: Results[Task['type']]) => void;
  readonly reject: (error: unknown) => void;
}

interface Member {
  readonly worker: Worker;
  current: Pending | undefined;
}

/**
 * Worker threads that hash, compress, encrypt and open, so that the main thread only reads and cuts. Every job of the
 * process shares one pool. Threads start when they are first needed.
 */
export class WorkerPool implements AsyncDisposable {
  readonly size: number;
  readonly #members: Member[] = [];
  #queue: Pending[] = [];
  #closed = false;

  constructor(size: number) {
    this.size = size;
  }

  run<T extends Task['type']>(task: Extract<Task, { type: T }>): Promise<Results[T]> {
    const { promise, resolve, reject } = Promise.withResolvers<Results[T]>();
    if (this.#closed) return Promise.reject(new SealiftError('failed', 'the worker pool is closed'));
    this.#queue.push({ task, resolve: resolve as Pending['resolve'], reject });
    this.#dispatch();
    return promise;
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const member = this.#members.find(({ current }) => current === undefined) ?? this.#start();
      const next = member && this.#queue.shift();
      if (!next) return;
      member.current = next;
      member.worker.postMessage(next.task);
    }
  }

  #start(): Member | undefined {
    if (this.#members.length >= this.size) return undefined;
    const member: Member = { worker: new Worker(workerUrl), current: undefined };
    member.worker.on('message', (reply: Reply) => {
      const { current } = member;
      member.current = undefined;
      if (reply.ok) current?.resolve(reply.value);
      else current?.reject(new SealiftError(reply.code, reply.message));
      this.#dispatch();
    });
    // The thread is gone (out of memory, most likely). Its task fails; the next task gets a new thread.
    const lost = (reason: string, cause?: Error): void => {
      const place = this.#members.indexOf(member);
      if (place === -1) return;
      this.#members.splice(place, 1);
      member.current?.reject(new SealiftError('failed', `a worker thread died: ${reason}`, { cause }));
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
      this.#members.splice(0).map(async ({ worker, current }) => {
        await worker.terminate();
        current?.reject(closed);
      }),
    );
  }
}
