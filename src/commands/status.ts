import { daysUntil, formatDuration, rfc3339 } from '../clock.ts';
import type { Config, JobConfig } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { asSealiftError, SealiftError, sentencesOf } from '../errors.ts';
import { printableLines } from '../output.ts';
import { judgeClocks } from '../policy/clock-check.ts';
import { scheduleOf } from '../policy/cron.ts';
import { decideRun, lateSince } from '../policy/schedule.ts';
import { loadHostKey } from '../seal/host-key.ts';
import { earliest, expiryWarningDays, inspectRecipients } from '../seal/recipients.ts';
import { readSnapshots, snapshotIds, storedIndex } from '../snapshot/catalog.ts';
import { partialProblems, type Index } from '../snapshot/index.ts';
import { parseSnapshotId, startOf } from '../snapshot/object-key.ts';
import { lastSequence, readState } from '../state.ts';
import type { StoredObject } from '../store/store.ts';
import type { Context, Outcome } from './context.ts';
import { lostSnapshots } from './host-store.ts';
import { openReaderSession, type ReaderSession } from './reader-session.ts';
import { pruneTry, readTry } from './tries.ts';

const dayMs = 86_400_000;
/** So long after its end a snapshot may still lie in the store where prune runs from cron. */
const pruneToleranceMs = 2 * 3_600_000;

/** How each job of this host fares, for people and for health checks. Exit code 3 if anything is wrong. */
export async function status(context: Context): Promise<Outcome> {
  await using session = await openReaderSession(context);
  const { config } = session;
  const { host } = config;
  if (host === undefined)
    throw new SealiftError('config-invalid', `${config.file} does not say which host this is`, {
      hint: '`sealift status` runs on a host. `sealift list` and `sealift audit` run anywhere.',
    });
  const ids = await snapshotIds(session.store, host, context.signal);
  const jobs: JobStatus[] = [];
  for (const job of config.jobs) jobs.push(await lookAtJob(context, session, host, job, ids));
  const keys = await lookAtKeys(context, session);
  const problems = [
    ...lookAtClock(context, session),
    ...(config.jobs.length === 0 ? [`${config.file} has no jobs`] : []),
    ...(await lookAtState(config, host)),
    ...keys.problems,
    ...(await lookAtPrune(session, { host, ids, signal: context.signal })),
  ];
  const ok = problems.length === 0 && jobs.every((job) => job.problems.length === 0);
  const report = {
    ok,
    checkedAt: rfc3339(session.now),
    host,
    store: session.store.address,
    jobs,
    recipients: { expiresAt: keys.expiresAt, daysToExpiry: keys.daysToExpiry },
    problems,
  };
  if (context.json) context.output.json(report);
  else print(context, report, keys.problems.length === 0);
  return ok ? undefined : 'partial';
}

interface JobStatus {
  readonly job: string;
  readonly schedule: string;
  readonly timezone: string;
  /** The newest that can be verified. */
  readonly snapshot: string | null;
  /** When the newest that is complete began. */
  readonly lastSuccessAt: string | null;
  /** Since then. */
  readonly ageSeconds: number | null;
  /** Of the newest. */
  readonly status: 'complete' | 'partial' | null;
  readonly nextRunAt: string | null;
  readonly late: boolean;
  readonly problems: readonly string[];
}

async function lookAtJob(
  context: Context,
  session: ReaderSession,
  host: string,
  job: JobConfig,
  ids: readonly string[],
): Promise<JobStatus> {
  const nowMs = session.now.getTime();
  const problems: string[] = [];
  const committed = lastSequence(session.config.stateDir, job.name);
  const indexes = readable(context, session, host, job.name, ids, problems);
  const { newest, success, sequence } = await lookThrough(indexes, committed);
  const successMs = success && Date.parse(success.startedAt);
  const newestMs = newest && Date.parse(newest.startedAt);
  const lastTry = await readTry(session.config.stateDir, job.name);
  const schedule = scheduleOf(job.schedule, job.timezone);
  const maxAgeMs = session.config.maxAgeSeconds * 1000;
  const decision = decideRun({ schedule, newestMs, lastTry, maxAgeMs, nowMs });
  const late = newestMs === undefined || lateSince(schedule, newestMs, nowMs) !== undefined;
  if (newestMs === undefined) problems.unshift('there is no snapshot yet');
  else if (late) problems.unshift(`late: nothing since ${rfc3339(newestMs)}. Does \`sealift daemon\` run?`);
  const lost = lostSnapshots(job.name, committed, sequence);
  if (lost !== undefined) problems.push(lost);
  if (newest?.status === 'partial') {
    const sources = [...new Set(partialProblems(newest).map(({ source }) => source))];
    problems.push(`the newest snapshot is partial: ${sources.join(', ')} (sealift show ${newest.snapshot})`);
  }
  // Snapshots are dated in whole seconds; what failed after the newest was made was the hook `after` of that run.
  const sinceMs = (newestMs ?? 0) + (lastTry?.failures === 0 ? 0 : 1000);
  if (lastTry?.error && lastTry.endedMs >= sinceMs)
    problems.push(`failed at ${rfc3339(lastTry.endedMs)}: ${lastTry.error.message}`);
  const nextMs = decision.due ? nowMs : decision.nextMs;
  return {
    job: job.name,
    schedule: job.schedule,
    timezone: job.timezone,
    snapshot: newest?.snapshot ?? null,
    lastSuccessAt: success?.startedAt ?? null,
    ageSeconds: successMs === undefined ? null : Math.max(0, Math.floor((nowMs - successMs) / 1000)),
    status: newest?.status ?? null,
    nextRunAt: nextMs === undefined ? null : rfc3339(nextMs),
    late,
    problems,
  };
}

/** The newest, the newest that is complete, and the highest sequence: no further back than all three need. */
async function lookThrough(
  indexes: AsyncIterable<Index>,
  committed: number,
): Promise<{ newest: Index | undefined; success: Index | undefined; sequence: number }> {
  let [newest, success]: (Index | undefined)[] = [];
  let sequence = 0;
  for await (const index of indexes) {
    newest ??= index;
    if (index.status === 'complete') success ??= index;
    sequence = Math.max(sequence, index.sequence);
    if (success && sequence >= committed) break;
  }
  return { newest, success, sequence };
}

/** The indexes that can be verified, newest first; what lies between them is a problem each. */
async function* readable(
  { signal }: Context,
  session: ReaderSession,
  host: string,
  job: string,
  ids: readonly string[],
  problems: string[],
): AsyncGenerator<Index, void, void> {
  const { store, now } = session;
  for (const id of ids.toReversed()) {
    if (parseSnapshotId(id)?.job !== job) continue;
    if (startOf(id) > now.getTime() + dayMs) {
      problems.push(`${id} is dated in the future`);
      continue;
    }
    const index = await storedIndex(store, host, id, signal);
    if (!index) continue;
    const read = await readOne(session, host, id, index, signal);
    problems.push(...read.unreadable.map(({ error }) => sentencesOf(error)));
    yield* read.snapshots.map((found) => found.index);
  }
}

/** One snapshot, verified. */
const readOne = (
  { store, trust, cache }: ReaderSession,
  host: string,
  id: string,
  index: StoredObject,
  signal: AbortSignal,
) =>
  readSnapshots(store, host, new Map([[id, { index, segments: new Map() }]]), trust.get(host) ?? [], {
    signal,
    cache,
  });

/** Readers do without the state; without all of it this host makes no backup any more, which would show when one is late. */
async function lookAtState({ stateDir }: Config, host: string): Promise<string[]> {
  try {
    const { hostKeyFile } = readState(stateDir);
    await loadHostKey(hostKeyFile, host);
    return [];
  } catch (error) {
    const { message, hint = 'see `sealift doctor`' } = asSealiftError(error);
    return [`${message}; no backup can be made: ${hint}`];
  }
}

async function lookAtKeys({ clock }: Context, { config }: ReaderSession) {
  const now = clock();
  const reports = await inspectRecipients(config.recipients, now);
  const first = earliest(reports.map(({ expiresAt }) => expiresAt));
  const days = first && daysUntil(first, now);
  const problems = reports.flatMap((report) => report.problems.map((text) => `${report.file}: ${text}`));
  if (reports.length === 0) problems.push('there are no recipients: no backup can be made');
  if (problems.length === 0 && days !== undefined && days < expiryWarningDays)
    problems.push(
      `a recipient's key expires in ${days} days; after that no backup is made (sealift keys check)`,
    );
  return { expiresAt: first ? rfc3339(first) : null, daysToExpiry: days ?? null, problems };
}

function lookAtClock({ clock }: Context, { now }: ReaderSession): string[] {
  const local = clock();
  const verdict = judgeClocks(now, local);
  if (verdict === 'fine') return [];
  const refused = verdict === 'refuse' ? '; backups and prune refuse to run' : '';
  return [`the store says it is ${rfc3339(now)}, this machine ${rfc3339(local)}${refused}`];
}

async function lookAtPrune(
  session: ReaderSession,
  { host, ids, signal }: { host: string; ids: readonly string[]; signal: AbortSignal },
): Promise<string[]> {
  const { store, config, now } = session;
  const overdueMs = now.getTime() - pruneToleranceMs;
  let past = 0;
  // From the oldest on, until one still has its time.
  for (const id of ids) {
    // The folder of one that has ended may hold segments that younger ones name.
    const index = await storedIndex(store, host, id, signal);
    if (!index) continue;
    if (startOf(id) + config.maxAgeSeconds * 1000 >= overdueMs) {
      // It may have been promised a shorter life than the configuration gives now.
      const [found] = (await readOne(session, host, id, index, signal)).snapshots;
      if (!found || Date.parse(found.index.expiresAt) >= overdueMs) break;
    }
    past += 1;
  }
  const last = await readTry(config.stateDir, pruneTry);
  const ended = countOf(past, 'snapshot past its end is', 'snapshots past their end are');
  return [
    ...(past > 0 ? [`${ended} still in the store: does prune run?`] : []),
    ...(last?.error ? [describePrune(last.error, new Date(last.endedMs))] : []),
  ];
}

const describePrune = ({ code, message }: { code: string; message: string }, at: Date): string =>
  `prune ${code === 'partial' ? 'was incomplete' : 'failed'} at ${rfc3339(at)}: ${message}`;

function print(
  { output }: Context,
  report: {
    checkedAt: string;
    host: string;
    store: string;
    jobs: readonly JobStatus[];
    recipients: { daysToExpiry: number | null };
    problems: readonly string[];
    ok: boolean;
  },
  keysAreGood: boolean,
): void {
  const nowMs = Date.parse(report.checkedAt);
  output.text(`${output.paint('strong', report.host)}  ${output.paint('faint', report.store)}`);
  if (report.jobs.length > 0)
    output.table(
      [
        { title: 'JOB' },
        { title: 'STATE' },
        { title: 'LAST SUCCESS' },
        { title: 'AGE', align: 'right' },
        { title: 'NEXT RUN' },
        { title: 'SCHEDULE', shrinkTo: 8 },
      ],
      report.jobs.map((job) => [
        job.job,
        job.problems.length > 0
          ? output.paint('bad', job.snapshot === null ? 'none' : job.late ? 'late' : 'look')
          : output.paint('good', 'ok'),
        job.lastSuccessAt ?? '-',
        job.ageSeconds === null ? '-' : formatDuration(job.ageSeconds),
        job.nextRunAt === null ? 'never' : Date.parse(job.nextRunAt) <= nowMs ? 'now' : job.nextRunAt,
        `${job.schedule} ${job.timezone}`,
      ]),
    );
  const { daysToExpiry } = report.recipients;
  const keys = daysToExpiry === null ? 'do not expire' : `are good for ${daysToExpiry} more days`;
  if (keysAreGood) output.text(output.paint('faint', `Recipients' keys ${keys}.`));
  for (const { job, problems } of report.jobs)
    for (const problem of problems)
      output.text(`${output.paint('bad', 'wrong')} job ${job}: ${printableLines(problem)}`);
  for (const problem of report.problems)
    output.text(`${output.paint('bad', 'wrong')} ${printableLines(problem)}`);
  if (report.ok) output.text(output.paint('good', 'All is well.'));
}
