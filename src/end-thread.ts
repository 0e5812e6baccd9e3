import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';

const patienceMs = 5000;

/**
 * Ends a thread. One that waits in a system call, as for a disk of a server that is away, cannot be ended: it is left
 * behind, and so that the process can end all the same, which would wait for it, it then becomes another program.
 */
export async function endThread(worker: Worker): Promise<void> {
  process.on('exit', becomeItsEnd);
  const ended = worker.terminate().then(() => void process.off('exit', becomeItsEnd));
  worker.unref();
  const waiting = new AbortController();
  const patience = delay(patienceMs, undefined, { signal: waiting.signal }).catch(() => {});
  await Promise.race([ended, patience]);
  waiting.abort();
}

/** Of a process that becomes another one all threads are killed. */
function becomeItsEnd(status: number): void {
  process.execve?.('/bin/sh', ['sh', '-c', `exit ${process.exitCode ?? status}`], {});
}
