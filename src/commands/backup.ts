import { formatDuration } from '../clock.ts';
import type { JobConfig } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { asSealiftError, type SealiftError } from '../errors.ts';
import { formatSize, printable } from '../output.ts';
import { isPartial } from '../problems.ts';
import { progressOf, type Context, type Outcome } from './context.ts';
import { openHostSession, selectJobs, type HostSession } from './host-session.ts';
import { isWhole, runJob, type JobResult } from './run-job.ts';
import { hookFailure, readTry, rememberTry, type Failure, type Try } from './tries.ts';

/** Runs the named jobs now, one after the other; all of them if none is named. Never prunes. */
export async function backup(context: Context, names: readonly string[]): Promise<Outcome> {
  await using session = await openHostSession(context);
  const jobs = selectJobs(session.config, names);
  const results: JobResult[] = [];
  const failures: { job: string; error: SealiftError }[] = [];
  for (const job of jobs) {
    try {
      const result = await runAndRemember(context, session, job);
      results.push(result);
      if (!context.json) report(context, result);
    } catch (error) {
      if (jobs.length === 1) throw error;
      const failure = asSealiftError(context.signal.aborted ? context.signal.reason : error);
      failures.push({ job: job.name, error: failure });
      context.log.error(
        { job: job.name, code: failure.code, hint: failure.hint },
        `job ${job.name}: ${failure.message}`,
      );
      context.log.debug({ err: error }, 'the cause');
      if (context.signal.aborted) break;
    }
  }
  if (context.json) {
    const failed = failures.map(({ job, error: { code, message, hint } }) => ({ job, code, message, hint }));
    context.output.jsonLine({ type: 'summary', snapshots: results, failed });
  }
  // A signal that came when the last job was as good as done interrupted nothing.
  if (failures.some(({ error }) => error === context.signal.reason)) throw context.signal.reason;
  // Several jobs failed in the same way: that is what happened. Otherwise the whole was done in part.
  const [first] = failures;
  if (first && results.length === 0 && failures.every(({ error }) => error.code === first.error.code))
    return first.error.code;
  return first || !results.every(isWhole) ? 'partial' : undefined;
}

/** As the daemon does, so that `status` tells of what failed whoever ran it. */
async function runAndRemember(context: Context, session: HostSession, job: JobConfig): Promise<JobResult> {
  const { config } = session;
  const startedMs = context.clock().getTime();
  const remember = async (failures: number, error: Failure | undefined, made: Try['made']): Promise<void> =>
    rememberTry(context, config, job.name, {
      startedMs,
      endedMs: context.clock().getTime(),
      failures,
      error,
      made,
    });
  try {
    const result = await runWithProgress(context, session, job);
    await remember(0, hookFailure(result), { snapshot: result.snapshot, startedMs });
    return result;
  } catch (thrown) {
    const { code, message } = asSealiftError(thrown);
    const isOurs = !context.signal.aborted && code !== 'lock-held';
    if (isOurs) {
      const last = await readTry(config.stateDir, job.name).catch(() => undefined);
      await remember((last?.failures ?? 0) + 1, { code, message }, last?.made);
    }
    throw thrown;
  }
}

async function runWithProgress(context: Context, session: HostSession, job: JobConfig): Promise<JobResult> {
  const { signal, clock } = context;
  const log = context.log.child({ job: job.name });
  using progress = await progressOf(context, `backing up ${job.name}`);
  return await runJob(session, job, { signal, clock, log, progress });
}

function report({ output }: Context, result: JobResult): void {
  const { problems, status } = result;
  const mark = output.paint(status === 'complete' ? 'good' : 'warning', status);
  const seconds = result.durationSeconds;
  const facts = [
    `${formatSize(result.bytes)} in ${countOf(result.streams, 'stream')}`,
    `${formatSize(result.newBytes)} new in ${result.newSegments} of ${countOf(result.segments, 'segment')}`,
    seconds < 10 ? `${seconds.toFixed(1)}s` : formatDuration(seconds),
  ];
  output.text(`${output.paint('strong', result.snapshot)}  ${mark}`);
  output.text(output.paint('faint', `  ${facts.join(', ')}`));
  for (const problem of problems) {
    const style = isPartial(problem) || problem.code === 'hook-failed' ? 'bad' : 'faint';
    output.text(`  ${output.paint(style, problem.code)} ${problem.source}: ${printable(problem.text)}`);
  }
}
