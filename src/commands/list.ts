import { formatDuration } from '../clock.ts';
import { countOf } from '../count-of.ts';
import { SealiftError, sentencesOf } from '../errors.ts';
import { formatSize, type Output } from '../output.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import { isExpired, sourcesOf } from '../snapshot/choose.ts';
import { compareAge, objectsOf, storedSizes, totalStored, type NamedSegment } from '../snapshot/index.ts';
import type { Context, Outcome } from './context.ts';
import {
  hostsIn,
  oneHost,
  openReaderSession,
  reportUnreadable,
  viewHost,
  type ReaderSession,
} from './reader-session.ts';

export interface ListOptions {
  readonly job?: string;
  readonly host?: string;
  readonly allHosts?: boolean;
}

/** The audit listing of snapshots, newest first. Needs no private key. */
export async function list(context: Context, options: ListOptions): Promise<Outcome> {
  const { signal, output } = context;
  await using session = await openReaderSession(context);
  const hosts = options.allHosts
    ? await hostsIn(session, signal)
    : [await oneHost(session, options.host, signal)];
  const found: Snapshot[] = [];
  let unreadable = 0;
  for (const host of hosts) {
    const look = { signal, cache: session.cache, ofSeveral: hosts.length > 1 };
    const view = await viewHost(session, host, look).catch((error: unknown) => {
      // One of several hosts that is not trusted must not hide the others.
      if (hosts.length === 1 || !(error instanceof SealiftError) || error.code !== 'key-untrusted')
        throw error;
      context.log.warn(sentencesOf(error));
      return undefined;
    });
    if (!view) {
      unreadable++;
      continue;
    }
    reportUnreadable(context, view);
    unreadable += view.unreadable.length;
    found.push(...view.snapshots);
  }
  refuseUnknownJob(options, session, found);
  const chosen = found
    .filter(({ index }) => options.job === undefined || index.job === options.job)
    .toSorted((a, b) => compareAge(b.index, a.index));
  const shown = chosen.map((snapshot) => describeSnapshot(snapshot, session.now));
  if (context.json) output.json({ snapshots: shown });
  else if (shown.length === 0) output.text('There are no snapshots.');
  else
    print(context, shown, {
      now: session.now,
      severalHosts: hosts.length > 1,
      storedBytes: storedTogether(chosen),
    });
  return unreadable > 0 ? 'partial' : undefined;
}

function refuseUnknownJob({ job }: ListOptions, { config }: ReaderSession, found: readonly Snapshot[]): void {
  const known = new Set([...config.jobs.map(({ name }) => name), ...found.map(({ index }) => index.job)]);
  if (job === undefined || known.size === 0 || known.has(job)) return;
  throw new SealiftError('usage', `there is no job ${job}`, { hint: `There are: ${[...known].join(', ')}.` });
}

/** Each object once, whichever of them brought it there: also a run that never came to its end. */
function storedTogether(snapshots: readonly Snapshot[]): number {
  const objects = new Map<string, NamedSegment>();
  for (const { index } of snapshots)
    for (const object of objectsOf(index)) objects.set(`${index.host}/${object.folder}/${object.id}`, object);
  return totalStored([...objects.values()]);
}

export type SnapshotRow = ReturnType<typeof describeSnapshot>;

/** What `list --json` says of a snapshot. */
export function describeSnapshot(snapshot: Snapshot, now: Date) {
  const { index } = snapshot;
  const { newBytes, storedBytes } = storedSizes(index);
  return {
    host: index.host,
    job: index.job,
    snapshot: index.snapshot,
    startedAt: index.startedAt,
    finishedAt: index.finishedAt,
    expiresAt: index.expiresAt,
    ageSeconds: Math.floor((now.getTime() - Date.parse(index.startedAt)) / 1000),
    status: isExpired(snapshot, now) ? ('expired' as const) : index.status,
    bytes: index.streams.reduce((total, { role, bytes }) => (role === 'data' ? total + bytes : total), 0),
    newBytes,
    storedBytes,
    recipients: index.recipients.map(({ primary }) => primary),
    streams: index.streams.map(({ name, source, kind, role, status, bytes }) => ({
      name,
      source,
      kind,
      role,
      status,
      bytes,
    })),
    problems: index.problems,
    sources: sourcesOf(index),
  };
}

/** A source of which there is nothing in the snapshot is there by its name alone. */
function nameOf(source: string, { streams }: SnapshotRow, { paint }: Output): string {
  const isSaved = streams.some((stream) => stream.role === 'data' && stream.source === source);
  return isSaved ? source : paint('warning', `${source}:failed`);
}

const statusStyles = { complete: 'good', partial: 'warning', expired: 'faint' } as const;

const compact = (seconds: number): string => formatDuration(seconds).replace(' ', '');

function print(
  { output }: Context,
  rows: readonly SnapshotRow[],
  { now, severalHosts, storedBytes }: { now: Date; severalHosts: boolean; storedBytes: number },
): void {
  // What a narrow terminal has no room for is in `show`.
  const roomy = output.width === undefined || output.width >= 92;
  output.table(
    [
      ...(severalHosts ? [{ title: 'HOST', shrinkTo: 6 }] : []),
      { title: 'SNAPSHOT' },
      { title: 'AGE', align: 'right' },
      { title: 'EXPIRES', align: 'right' },
      { title: 'DATA', align: 'right' },
      ...(roomy ? [{ title: 'NEW', align: 'right' } as const] : []),
      { title: 'STATUS' },
      { title: 'SOURCES', shrinkTo: 4 },
    ],
    rows.map((row) => {
      const left = (Date.parse(row.expiresAt) - now.getTime()) / 1000;
      return [
        ...(severalHosts ? [row.host] : []),
        row.snapshot,
        compact(row.ageSeconds),
        row.status === 'expired' ? '-' : compact(left),
        formatSize(row.bytes),
        ...(roomy ? [formatSize(row.newBytes)] : []),
        output.paint(statusStyles[row.status], row.status),
        row.sources.map((source) => nameOf(source, row, output)).join(' '),
      ];
    }),
  );
  output.text();
  output.text(
    output.paint(
      'faint',
      `${countOf(rows.length, 'snapshot')}, ${formatSize(storedBytes)} stored. DATA is before compression.`,
    ),
  );
}
