import { formatDuration } from '../clock.ts';
import type { JobConfig } from '../config/config.ts';
import { hintOf, messageOf, SealiftError } from '../errors.ts';
import { findStartable } from '../interpreter.ts';
import type { Log } from '../log.ts';
import type { Problem } from '../problems.ts';
import { perform } from '../process.ts';
import { TimeLimit } from '../time-limit.ts';

/**
 * The programs of the operator's that run around a job. They see the small environment of every child and what is said
 * here, nothing of sealift's own: it may hold the keys of the store.
 *
 * - `before` runs when all is ready to save, just before the first source is read. If it fails, nothing is saved.
 * - `after` runs last, once for each run that holds the lock of its job, whatever became of it and whether or not
 *   `before` was reached: it undoes what `before` did, and tells the outcome, so it waits for the commit. Only the end
 *   of sealift itself (SIGKILL, a second Ctrl-C, a power cut) keeps it from running.
 */
export interface Hooks {
  readonly host: string;
  readonly job: JobConfig;
  /** Names the job. */
  readonly log: Log;
  /** What interrupts the run. */
  readonly signal: AbortSignal;
}

/** How a run ended. */
export type RunOutcome =
  | { readonly status: 'complete' | 'partial'; readonly snapshot: string }
  | { readonly status: 'failed'; readonly error: unknown };

/** After an interruption somebody waits for the end: a person, or systemd, which kills after 90 s. */
const afterInterruptionMs = 30_000;

/** Throws `hook-failed`, or the reason of `signal`. */
export async function runBefore(hooks: Hooks, signal: AbortSignal): Promise<void> {
  const { before } = hooks.job;
  if (before === undefined) return;
  using limit = limitOf(hooks.job, 'before');
  try {
    await limit.measure(() => run(hooks, 'before', before, {}, AbortSignal.any([signal, limit.signal])));
  } catch (cause) {
    signal.throwIfAborted();
    throw new SealiftError('hook-failed', `nothing was saved: ${describe('before', hooks.job, cause)}`, {
      hint: hintOf(cause),
      cause,
    });
  }
}

/** What went wrong, which by then has been logged; nothing can be thrown that the run would be lost for. */
export async function runAfter(hooks: Hooks, outcome: RunOutcome): Promise<Problem | undefined> {
  const { job, log } = hooks;
  const { after } = job;
  if (after === undefined) return undefined;
  using limit = limitOf(job, 'after');
  using patience = patienceAfter(hooks);
  try {
    const ends = AbortSignal.any([limit.signal, patience.signal]);
    await limit.measure(() => run(hooks, 'after', after, variablesOf(outcome), ends));
    return undefined;
  } catch (cause) {
    const text = describe('after', job, cause);
    log.error({ code: 'hook-failed', hint: hintOf(cause) }, text);
    log.debug({ err: cause }, 'the cause');
    return { source: '_', code: 'hook-failed', text };
  }
}

async function run(
  { host, job, log }: Hooks,
  hook: 'before' | 'after',
  argv: readonly string[],
  more: Record<string, string>,
  signal: AbortSignal,
): Promise<void> {
  log.debug(`job ${job.name}: ${hook}: ${argv.join(' ')}`);
  await findStartable(argv[0] ?? ''); // one that is missing is told by its start
  const env = { SEALIFT_HOST: host, SEALIFT_JOB: job.name, ...more };
  await perform({ argv, env }, signal, (line) => log.info({ hook }, line));
}

function variablesOf(outcome: RunOutcome): Record<string, string> {
  if (outcome.status !== 'failed')
    return { SEALIFT_STATUS: outcome.status, SEALIFT_SNAPSHOT: outcome.snapshot };
  const code = outcome.error instanceof SealiftError ? outcome.error.code : 'failed';
  const status = code === 'interrupted' ? 'interrupted' : 'failed';
  return { SEALIFT_STATUS: status, SEALIFT_ERROR: code };
}

const describe = (hook: string, { name }: JobConfig, cause: unknown): string =>
  `the hook \`${hook}\` of job ${name} failed: ${messageOf(cause)}`;

function limitOf({ hookTimeLimitSeconds }: JobConfig, hook: string): TimeLimit {
  const reason = `\`${hook}\` took longer than the hookTimeLimit of ${formatDuration(hookTimeLimitSeconds)}`;
  return new TimeLimit(hookTimeLimitSeconds * 1000, () => new SealiftError('hook-failed', reason));
}

/** Aborts by itself, until it is disposed of. Begins to count when the run is interrupted, before this or from now on. */
function patienceAfter({ signal }: Hooks): Disposable & { readonly signal: AbortSignal } {
  const reason = `it was given ${afterInterruptionMs / 1000} s after the interruption, and took longer`;
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const begin = (): void => {
    timer = setTimeout(() => abort.abort(new SealiftError('hook-failed', reason)), afterInterruptionMs);
  };
  if (signal.aborted) begin();
  else signal.addEventListener('abort', begin, { once: true });
  return {
    signal: abort.signal,
    [Symbol.dispose]() {
      signal.removeEventListener('abort', begin);
      clearTimeout(timer);
    },
  };
}
