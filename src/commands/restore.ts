import { resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SealiftError, systemCode } from '../errors.ts';
import { formatSize } from '../output.ts';
import { isPartial } from '../problems.ts';
import { startProgress, type Progress } from '../progress.ts';
import { WorkerPool } from '../segments/pool.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import {
  chooseById,
  chooseLatest,
  chooseStreams,
  hasStream,
  isExpired,
  type Choice,
} from '../snapshot/choose.ts';
import { parseSnapshotId } from '../snapshot/object-key.ts';
import { progressForm, type Context, type Outcome } from './context.ts';
import { createStreamReader } from './read-streams.ts';
import {
  oneHost,
  openReaderSession,
  refuseUntrusted,
  reportUnreadable,
  viewHost,
  type HostView,
} from './reader-session.ts';
import { restoreInto } from './restore-into.ts';
import { restoreTo } from './restore-to.ts';
import { sessionKeyFinder, type UnlockOptions } from './unlock.ts';

export interface RestoreOptions extends UnlockOptions {
  readonly job?: string;
  readonly host?: string;
  readonly at?: string;
  readonly source?: readonly string[];
  readonly to?: string;
  readonly into?: string;
  readonly stdout?: boolean;
  readonly force?: boolean;
  readonly expired?: boolean;
}

/** A stream that is to be restored, ready to be read. */
export interface RestoreItem {
  readonly job: string;
  readonly snapshot: string;
  readonly name: string;
  readonly source: string;
  readonly kind: string;
  /** Padmé-rounded. */
  readonly bytes: number;
  open(): AsyncIterable<Uint8Array>;
}

/** Brings streams back: as files and trees, into a database, or one of them to stdout. */
export async function restore(
  context: Context,
  [wanted = 'latest']: readonly string[],
  options: RestoreOptions,
): Promise<Outcome> {
  const { signal, output } = context;
  const at = parseTime(options.at);
  requireOneTarget(options, context.json);
  const findSessionKey = await sessionKeyFinder(context, options);
  await using session = await openReaderSession(context);
  const host = await oneHost(session, options.host, signal);
  const view = await viewHost(session, host, { signal });
  const { choices, incomplete } =
    wanted === 'latest'
      ? latest(context, view, options, at ?? session.now, session.now)
      : { choices: [exact(context, view, wanted, options, session.now)], incomplete: false };

  await using pool = new WorkerPool(session.config.workers);
  const reader = createStreamReader({ store: session.store, pool, findSessionKey, signal, host });
  for (const { snapshot } of choices) await reader.prepare(snapshot);
  const totalBytes = choices.flatMap(({ streams }) => streams).reduce((sum, { bytes }) => sum + bytes, 0);
  using progress = startProgress({
    form: progressForm(context),
    verb: 'restoring',
    totalBytes,
    jsonLine: output.jsonLine,
  });
  const items = choices.flatMap(({ snapshot, streams }) =>
    streams.map((stream): RestoreItem => ({
      job: snapshot.index.job,
      snapshot: snapshot.index.snapshot,
      name: stream.name,
      source: stream.source,
      kind: stream.kind,
      bytes: stream.bytes,
      open: () => watched(reader.open(snapshot, stream), stream.name, progress, signal),
    })),
  );

  if (options.stdout === true) return await toStdout(items);
  const report =
    options.to === undefined
      ? await restoreInto(context, options.into!, items, { force: options.force === true })
      : await restoreTo(context, resolve(context.environment.cwd, options.to), items, {
          force: options.force === true,
        });
  progress[Symbol.dispose]();
  const snapshots = [...new Set(items.map(({ snapshot }) => snapshot))];
  const outcome = incomplete || report.skipped.length > 0 ? 'partial' : undefined;
  if (context.json) {
    output.jsonLine({ type: 'summary', host, snapshots, ...report });
    return outcome;
  }
  for (const line of report.restored) output.text(`${output.paint('good', 'restored')}  ${line}`);
  for (const line of report.skipped) output.text(`${output.paint('warning', 'skipped')}   ${line}`);
  output.text(`${formatSize(report.bytes)} from ${snapshots.join(', ')}`);
  for (const line of report.nextSteps ?? []) output.text(line);
  return outcome;
}

export interface RestoreReport {
  /** One line for each thing that came back. */
  readonly restored: readonly string[];
  readonly skipped: readonly string[];
  readonly bytes: number;
  /** What is left to do by hand. */
  readonly nextSteps?: readonly string[];
}

function requireOneTarget({ to, into, stdout }: RestoreOptions, json: boolean): void {
  if (stdout !== undefined && json)
    throw new SealiftError('usage', '--json does not go with --stdout, which is full of data');
  if ([to, into, stdout].filter((target) => target !== undefined).length === 1) return;
  throw new SealiftError('usage', 'say where to restore to: one of --to DIR, --into URL, --stdout');
}

function parseTime(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;
  if (rfc3339.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new SealiftError('usage', `--at ${text} is no time`, { hint: 'Write it as 2026-11-22T12:00:00Z.' });
}

function exact({ log }: Context, view: HostView, wanted: string, options: RestoreOptions, now: Date): Choice {
  if (options.at !== undefined)
    throw new SealiftError('usage', '--at goes with `latest`, not with the id of a snapshot');
  const snapshot = chooseById(view, wanted);
  refuseExpired(snapshot, options, now);
  const { index } = snapshot;
  if (options.job !== undefined && options.job !== index.job)
    throw new SealiftError('usage', `${index.snapshot} is of job ${index.job}, not ${options.job}`);
  for (const { source, code } of index.problems.filter(isPartial))
    log.warn(`${index.snapshot} is not complete: ${source} (${code})`);
  return { snapshot, streams: chooseStreams(index, options.source ?? []) };
}

const jobHas = (snapshots: readonly Snapshot[], job: string, want: string): boolean =>
  snapshots.some(({ index }) => index.job === job && hasStream(index, want));

/** A snapshot that cannot be read might have been the one that was meant. */
function newerUnreadable({ snapshots, unreadable }: HostView, jobs: readonly string[], at: Date): boolean {
  return unreadable.some(({ snapshot }) => {
    const id = parseSnapshotId(snapshot);
    const newest = snapshots.findLast(({ index }) => index.job === id?.job)?.index.snapshot ?? '';
    return id !== undefined && jobs.includes(id.job) && id.startedAt <= at && snapshot > newest;
  });
}

function refuseExpired(snapshot: Snapshot, { expired }: RestoreOptions, now: Date): void {
  if (expired === true || !isExpired(snapshot, now)) return;
  const { index } = snapshot;
  throw new SealiftError('snapshot-expired', `${index.snapshot} expired at ${index.expiresAt}`, {
    hint: 'Data of that age was promised to be gone. If it is needed all the same: --expired.',
  });
}

/** `incomplete`: some of what was wanted is in no snapshot, or in none completely. */
function latest(
  context: Context,
  view: HostView,
  options: RestoreOptions,
  at: Date,
  now: Date,
): { choices: Choice[]; incomplete: boolean } {
  refuseUntrusted(view, now);
  reportUnreadable(context, view);
  const usable = view.snapshots.filter(
    (snapshot) =>
      Date.parse(snapshot.index.startedAt) <= at.getTime() &&
      (options.expired === true || !isExpired(snapshot, now)),
  );
  const wanted = options.source ?? [];
  const all = [...new Set(usable.map(({ index }) => index.job))];
  const having = all.filter((job) =>
    usable.some(({ index }) => index.job === job && wanted.some((want) => hasStream(index, want))),
  );
  const jobs = options.job !== undefined ? [options.job] : having.length > 0 ? having : all;
  const nowhere = wanted.find((want) => !jobs.some((job) => jobHas(usable, job, want)));
  if (nowhere !== undefined)
    throw new SealiftError(
      'snapshot-not-found',
      `${jobs.length === 1 ? `job ${jobs[0]}` : `host ${view.host}`} has no source or stream ${nowhere}`,
      {
        hint: `There are: ${[...new Set(usable.flatMap(({ index }) => chooseStreams(index, []).map(({ name }) => name)))].join(', ')}`,
      },
    );
  if (jobs.length === 0)
    throw new SealiftError('snapshot-not-found', `host ${view.host} has no snapshot that could be restored`, {
      hint: '`sealift list` shows what there is; expired ones need --expired.',
    });
  if (jobs.length > 1 && options.to === undefined)
    throw new SealiftError('job-ambiguous', `host ${view.host} has several jobs: ${jobs.join(', ')}`, {
      hint: 'Choose one with --job NAME.',
    });
  const found = jobs.map((job) =>
    chooseLatest(usable, { job, wanted: wanted.filter((want) => jobHas(usable, job, want)) }),
  );
  for (const sentence of found.flatMap(({ passedOver }) => passedOver)) context.log.warn(sentence);
  return {
    choices: found.flatMap(({ choices }) => choices),
    incomplete: found.some(({ incomplete }) => incomplete) || newerUnreadable(view, jobs, at),
  };
}

async function* watched(
  body: AsyncIterable<Uint8Array>,
  name: string,
  progress: Progress,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  progress.label(name);
  for await (const chunk of body) {
    signal.throwIfAborted();
    progress.advance(chunk.length);
    yield chunk;
  }
}

async function toStdout(items: readonly RestoreItem[]): Promise<Outcome> {
  const [item, ...more] = items;
  if (!item || more.length > 0)
    throw new SealiftError('usage', `--stdout takes one stream, and ${items.length} are meant`, {
      hint: `Choose one: ${items.map(({ name }) => `--source ${name}`).join(', ')}`,
    });
  await pipeline(item.open, process.stdout, { end: false }).catch((error: unknown) => {
    if (systemCode(error) !== 'EPIPE') throw error;
    throw new SealiftError('restore-failed', 'whoever read standard output stopped before its end');
  });
}
