import { join } from 'node:path';
import { rfc3339, type Clock } from '../clock.ts';
import { abortedLater } from '../concurrency.ts';
import type { JobConfig } from '../config/config.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { takeLock } from '../lock.ts';
import type { Log } from '../log.ts';
import { limitsOf, runLimitSeconds } from '../policy/retention.ts';
import { isPartial, type Problem } from '../problems.ts';
import type { Progress } from '../progress.ts';
import { loadRecipients, type Recipients } from '../seal/recipients.ts';
import { createSeal } from '../seal/seal.ts';
import { signText } from '../seal/sign.ts';
import { gearTable } from '../segments/chunker.ts';
import { padme } from '../segments/padding.ts';
import { segmentIdKey } from '../segments/segment-id.ts';
import { createSegmentWriter, type WrittenStream } from '../segments/writer.ts';
import { commitSnapshot, type Snapshot } from '../snapshot/catalog.ts';
import { storedSizes, type Index, type IndexStream } from '../snapshot/index.ts';
import { forgetJournals, openJournal, readJournals } from '../snapshot/journal.ts';
import { detailsStream, formatSnapshotId, randomTag, segmentKey } from '../snapshot/object-key.ts';
import { reusableSegments } from '../snapshot/reuse.ts';
import { openTemporary } from '../temporary.ts';
import { toolVersion } from '../version.ts';
import { refuseUnsafeBucket } from './bucket.ts';
import type { HostSession } from './host-session.ts';
import {
  checkedStoreTime,
  nextInChain,
  publishHost,
  readOwnHost,
  refuseBareFolder,
  rememberMount,
} from './host-store.ts';
import { runAfter, runBefore } from './hooks.ts';
import { saveSources, type Saved } from './save-sources.ts';

/** Node fires longer timers at once. Such a limit is held by the look at the store's time before the commit. */
const longestTimerMs = 2 ** 31 - 1;

export interface JobResult {
  readonly job: string;
  readonly snapshot: string;
  readonly status: 'complete' | 'partial';
  /** Plaintext of the data streams, exact. */
  readonly bytes: number;
  /** Objects that this run added. */
  readonly newBytes: number;
  /** All objects that the snapshot names. */
  readonly storedBytes: number;
  readonly segments: number;
  readonly newSegments: number;
  readonly streams: number;
  readonly expiresAt: string;
  readonly durationSeconds: number;
  readonly problems: readonly Problem[];
}

/** Complete, and nothing else went wrong that somebody has to look at. */
export const isWhole = ({ status, problems }: JobResult): boolean =>
  status === 'complete' && !problems.some(({ code }) => code === 'hook-failed');

export interface RunContext {
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** Names the job. */
  readonly log: Log;
  readonly progress: Progress;
}

/** Who wants to stop waits so long for the store's word on the index, so that what is told is what is. */
const commitGraceMs = 10_000;

/** The lock of one run per job and host. Throws `lock-held`. */
export const lockJob = ({ state }: HostSession, job: JobConfig): Promise<Disposable> =>
  takeLock(join(state.dir, 'lock', job.name), `job ${job.name} on this host`);

/**
 * One run of one job: sources → segments → seal → store → snapshot. Afterwards there is a whole new snapshot, or none
 * and an error; segments that a failed run left are adopted by the next one.
 */
export async function runJob(session: HostSession, job: JobConfig, context: RunContext): Promise<JobResult> {
  using _lock = await lockJob(session, job);
  return await runLockedJob(session, job, context);
}

/** The same for a caller who holds the lock of the job. */
export async function runLockedJob(
  session: HostSession,
  job: JobConfig,
  context: RunContext,
): Promise<JobResult> {
  const hooks = { host: session.host, job, log: context.log, signal: context.signal };
  let result: JobResult;
  try {
    result = await saveJob(session, job, context, (signal) => runBefore(hooks, signal));
  } catch (thrown) {
    const error: unknown = context.signal.aborted ? context.signal.reason : thrown;
    await runAfter(hooks, { status: 'failed', error });
    throw error;
  }
  const problem = await runAfter(hooks, result);
  return problem === undefined ? result : { ...result, problems: [...result.problems, problem] };
}

async function saveJob(
  session: HostSession,
  job: JobConfig,
  context: RunContext,
  before: (signal: AbortSignal) => Promise<void>,
): Promise<JobResult> {
  const { store, host, state, config } = session;
  const startedMs = performance.now();
  await using temporary = await openTemporary(`${state.dir} ${job.name}`);
  const startedAt = await checkedStoreTime(session, context);
  await refuseUnsafeBucket(config, host, context);
  const run = new AbortController();
  const limitSeconds = runLimitSeconds(limitsOf(config));
  const overtime = setTimeout(
    () => run.abort(tooLong(job, limitSeconds)),
    Math.min(limitSeconds * 1000, longestTimerMs),
  ).unref();
  const signal = AbortSignal.any([context.signal, run.signal]);
  signal.throwIfAborted();

  try {
    const recipients = await loadRecipients(config.recipients, startedAt);
    for (const warning of recipients.warnings) context.log.warn(warning);
    await refuseBareFolder(session, signal);
    const stored = await readOwnHost(session, { signal, now: startedAt });
    for (const { snapshot, error } of stored.unreadable) context.log.warn({ snapshot }, error.message);
    const snapshot = formatSnapshotId({ startedAt, job: job.name, random: randomTag() });
    const sign = (text: string): Promise<string> => signText(text, session.hostKey.privateKey, startedAt);
    await publishHost(session, sign, stored.listing, { log: context.log, signal });

    await using journal = await openJournal(state.journalDir, snapshot, recipients.ids);
    const writer = createSegmentWriter({
      pool: session.pool,
      budget: session.budget,
      shelf: session.shelf,
      idKey: segmentIdKey(state.hostSecret),
      gear: gearTable(state.hostSecret),
      seal: await createSeal([...recipients.keys], recipients.at),
      folder: snapshot,
      reusable: reusableSegments({
        ...stored,
        journals: await readJournals(state.journalDir),
        recipients: recipients.ids,
        startedAt,
        reuseWindowSeconds: config.reuseWindowSeconds,
      }),
      put: async (segment, object) => {
        try {
          await store.put(segmentKey(host, segment), object, signal);
        } catch (error) {
          run.abort(error); // a store that fails ends the run, not just the stream that noticed
          throw error;
        }
        journal.add(segment);
      },
      progress: (bytes, added) => context.progress.advance(bytes, added),
      signal,
    });
    await before(signal);
    const saved = await saveSources(job, writer, {
      ...context,
      signal,
      lastBytes: lastSizes(stored.snapshots, job),
      temporary: (place) => temporary.folder(place),
    });

    signal.throwIfAborted();
    const finishedAt = await store.now(signal);
    if ((finishedAt.getTime() - startedAt.getTime()) / 1000 > limitSeconds) throw tooLong(job, limitSeconds);
    const chain = await nextInChain(session, { snapshot, job: job.name }, stored, {
      log: context.log,
      signal,
    });
    const index = composeIndex(session, job, saved, {
      snapshot,
      startedAt,
      finishedAt,
      recipients,
      ...chain,
    });
    signal.throwIfAborted();
    using grace = abortedLater(signal, commitGraceMs);
    await commitSnapshot(store, index, session.hostKey.privateKey, grace.signal);
    // The snapshot exists. What is kept here can be had from the store again.
    await Promise.all([
      state.writeSequence(job.name, index.sequence),
      rememberMount(session),
      // No run takes so long, and no segment that old is named again.
      forgetJournals(state.journalDir, job.name, startedAt.getTime() - config.maxAgeSeconds * 1000),
    ]).catch((error: unknown) =>
      context.log.warn(`${state.dir} could not be brought up to date: ${messageOf(error)}`),
    );
    return summarize(index, saved, (performance.now() - startedMs) / 1000);
  } catch (error) {
    // Whatever broke after an abort broke because of it.
    throw signal.aborted ? signal.reason : error;
  } finally {
    clearTimeout(overtime);
  }
}

/** The size of each stream in the newest snapshot of the job that has it. */
const lastSizes = (snapshots: readonly Snapshot[], job: JobConfig): ReadonlyMap<string, number> =>
  new Map(
    snapshots
      .filter(({ index }) => index.job === job.name)
      .flatMap(({ index }) => index.streams.map(({ name, bytes }) => [name, bytes] as const)),
  );

const tooLong = (job: JobConfig, limitSeconds: number): SealiftError =>
  new SealiftError(
    'run-limit',
    `job ${job.name} ran longer than ${Math.round(limitSeconds / 3600)} hours and was aborted`,
    {
      hint: 'What it stored by then is adopted by the next run. A longer retention.maxAge allows longer runs.',
    },
  );

function composeIndex(
  { host, hostKey, config }: HostSession,
  job: JobConfig,
  saved: Saved,
  run: {
    snapshot: string;
    startedAt: Date;
    finishedAt: Date;
    recipients: Recipients;
    sequence: number;
    previous: Index['previous'];
  },
): Index {
  const recipients = [...run.recipients.ids];
  const folders = [run.snapshot];
  const stream = (written: WrittenStream, about: Omit<IndexStream, 'bytes' | 'segments'>): IndexStream => ({
    ...about,
    bytes: padme(written.bytes),
    segments: written.segments.map(({ folder, id, storedBytes, sha256 }) => {
      if (!folders.includes(folder)) folders.push(folder);
      return [folders.indexOf(folder), id, storedBytes, sha256];
    }),
  });
  const streams = [
    ...saved.streams.map(({ name, source, kind, status, written }) =>
      stream(written, { name, source, kind, role: 'data', status }),
    ),
    stream(saved.details, {
      name: detailsStream,
      source: '_',
      kind: 'details',
      role: 'details',
      status: 'complete',
    }),
  ];
  const codes = new Map(saved.problems.map(({ source, code }) => [`${source} ${code}`, { source, code }]));
  return {
    format: 'sealift-index/1',
    host,
    job: job.name,
    snapshot: run.snapshot,
    signer: hostKey.fingerprint,
    sequence: run.sequence,
    previous: run.previous,
    startedAt: rfc3339(run.startedAt),
    finishedAt: rfc3339(run.finishedAt),
    ...limitsOf(config),
    expiresAt: rfc3339(run.startedAt.getTime() + config.maxAgeSeconds * 1000),
    schedule: job.schedule,
    timezone: job.timezone,
    tool: `sealift ${toolVersion()}`,
    recipients,
    status: saved.problems.some(isPartial) ? 'partial' : 'complete',
    problems: [...codes.values()],
    // Only folders with the same recipients are named again (snapshot/reuse.ts).
    folders: folders.map((folder) => ({ snapshot: folder, recipients })),
    streams,
  };
}

function summarize(index: Index, saved: Saved, durationSeconds: number): JobResult {
  const sizes = storedSizes(index);
  return {
    job: index.job,
    snapshot: index.snapshot,
    status: index.status,
    bytes: saved.streams.reduce((total, { written }) => total + written.bytes, 0),
    newBytes: sizes.newBytes,
    storedBytes: sizes.storedBytes,
    segments: sizes.objects,
    newSegments: sizes.newObjects,
    streams: saved.streams.length,
    expiresAt: index.expiresAt,
    durationSeconds: Math.round(durationSeconds * 1000) / 1000,
    problems: saved.problems,
  };
}
