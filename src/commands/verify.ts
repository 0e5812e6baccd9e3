import { mapConcurrent } from '../concurrency.ts';
import { countOf } from '../count-of.ts';
import { SealiftError, sentencesOf } from '../errors.ts';
import { formatSize, printable } from '../output.ts';
import type { SessionKeyFinder } from '../seal/session-key.ts';
import { WorkerPool } from '../segments/pool.ts';
import { DamagedSegment, fetchVerified, type FetchSegment } from '../segments/reader.ts';
import { storedIndex, type Snapshot } from '../snapshot/catalog.ts';
import { brokenLinks, isListed, type Failure } from '../snapshot/check.ts';
import { chooseById, isExpired } from '../snapshot/choose.ts';
import { segmentsOf, type NamedSegment } from '../snapshot/index.ts';
import { formatKey, parseSnapshotId, segmentKey } from '../snapshot/object-key.ts';
import { progressOf, type Context, type Outcome } from './context.ts';
import { createStreamReader, segmentsIn } from './read-streams.ts';
import {
  oneHost,
  openReaderSession,
  refuseUntrusted,
  reportUnreadable,
  viewHost,
  type HostView,
  type ReaderSession,
} from './reader-session.ts';
import { sessionKeyFinder, type UnlockOptions } from './unlock.ts';

export interface VerifyOptions extends UnlockOptions {
  readonly host?: string;
  readonly all?: boolean;
  readonly readData?: boolean;
}

const readsAtOnce = 8;

/**
 * Signature, chain, presence and size of every object; with `--read-data` the SHA-256 of every object; with `--key`
 * every stream is opened too and compared with what was recorded when it was saved.
 */
export async function verify(
  context: Context,
  wanted: readonly string[],
  options: VerifyOptions,
): Promise<Outcome> {
  const { signal, output, log } = context;
  const findSessionKey = options.key === undefined ? undefined : await sessionKeyFinder(context, options);
  await using session = await openReaderSession(context);
  const view = await viewHost(session, await oneHost(session, options.host, signal), { signal });
  refuseUntrusted(view, session.now);
  reportUnreadable(context, view);
  const snapshots = selectSnapshots(view, wanted, options, session.now);
  const objects = distinctObjects(snapshots);

  const chosen = new Set(snapshots.map(({ index }) => index.snapshot));
  const look = noteAbsences(session);
  // What the listing does not show may lie below a newer version of the same key; only then it is fetched.
  const doubted =
    options.readData === true ? objects : objects.filter(({ segment }) => !isListed(segment, view.listing));
  const found = doubted.length === 0 ? [] : await readObjects(context, look, view.host, doubted);
  const opened = findSessionKey && (await openAll(context, look, view, snapshots, findSessionKey));

  const pruned = await prunedMeanwhile(session, snapshots, signal);
  for (const id of pruned) log.info(`${id} has ended meanwhile and was pruned`);
  const lasting = (list: readonly Found[]): Found[] =>
    list
      .map((one) => ({ ...one, snapshots: one.snapshots.filter((id) => !(one.missing && pruned.has(id))) }))
      .filter(({ snapshots: lacking }) => lacking.length > 0);
  const ofIndexes = [
    ...unreadableIn(view, wanted, options),
    ...brokenLinks(view, session.time()).filter(({ snapshot }) => chosen.has(snapshot)),
  ].map(({ snapshot, ...failure }) => ({ ...failure, snapshots: [snapshot], missing: false }));
  const withoutKey = [...ofIndexes, ...lasting(found)];
  // A key that opens nothing was a mistake; but it does not hide what else is wrong.
  if (opened?.keyError && withoutKey.length === 0) throw opened.keyError;
  const failures = [...withoutKey, ...lasting(opened?.failures ?? [])];

  const summary = {
    ok: failures.length === 0,
    snapshots: snapshots.length - pruned.size,
    objects: objects.length,
    bytes: bytesOf(objects),
  };
  if (context.json)
    await output.jsonLineWithList({ type: 'summary', ...summary }, 'failures', oneByOne(failures));
  else print(context, summary, failures, options);
  return failures.length > 0 ? 'verify-failed' : undefined;
}

function selectSnapshots(
  view: HostView,
  wanted: readonly string[],
  { all }: VerifyOptions,
  now: Date,
): readonly Snapshot[] {
  const live = view.snapshots.filter((snapshot) => !isExpired(snapshot, now));
  const names = wanted.length > 0 ? wanted : ['latest'];
  if ((all === true || names.includes('latest')) && live.length + view.unreadable.length === 0)
    throw new SealiftError('snapshot-not-found', `host ${view.host} has no live snapshot to verify`);
  if (all === true) return live;
  const newest = new Map(live.map((snapshot) => [snapshot.index.job, snapshot]));
  return [
    ...new Set(
      names.flatMap((name) => (name === 'latest' ? [...newest.values()] : [chooseById(view, name)])),
    ),
  ];
}

/** Snapshots whose index cannot be verified: all of them with `--all`; those newer than the latest of their job else. */
function unreadableIn(view: HostView, wanted: readonly string[], { all }: VerifyOptions): Failure[] {
  const newestReadable = (job: string | undefined): string =>
    view.snapshots.findLast(({ index }) => index.job === job)?.index.snapshot ?? '';
  const meant = (snapshot: string): boolean =>
    all === true ||
    ((wanted.length === 0 || wanted.includes('latest')) &&
      snapshot > newestReadable(parseSnapshotId(snapshot)?.job));
  return view.unreadable
    .filter(({ snapshot }) => meant(snapshot))
    .map(({ snapshot, error }) => ({
      snapshot,
      key: formatKey({ type: 'index', host: view.host, snapshot }),
      reason: sentencesOf(error),
    }));
}

/** One failure to whoever reads of it, whatever number of snapshots it concerns. */
interface Found extends Omit<Failure, 'snapshot'> {
  readonly snapshots: readonly string[];
  /** The store had nothing under a key. */
  readonly missing: boolean;
}

/** Where a store has lost much, there are too many to be held at once. */
function* oneByOne(found: readonly Found[]): Generator<Failure> {
  for (const { snapshots, key, reason } of found)
    for (const snapshot of snapshots) yield { snapshot, key, reason };
}

interface Look extends Pick<ReaderSession, 'store' | 'config'> {
  /** Keys under which the store had nothing, as they were met. */
  readonly absences: ReadonlySet<string>;
}

function noteAbsences({ store, config }: ReaderSession): Look {
  const absences = new Set<string>();
  async function* versions(...asked: Parameters<typeof store.versions>): AsyncGenerator<Buffer> {
    let any = false;
    for await (const bytes of store.versions(...asked)) {
      any = true;
      yield bytes;
    }
    if (!any) absences.add(asked[0]);
  }
  return { store: { ...store, versions }, config, absences };
}

/** What has ended since the look began, and whose index is gone too: what is missing of that was pruned meanwhile. */
async function prunedMeanwhile(
  { store, now, time }: ReaderSession,
  snapshots: readonly Snapshot[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const later = time();
  const ended = snapshots.filter((snapshot) => !isExpired(snapshot, now) && isExpired(snapshot, later));
  const gone = await mapConcurrent(ended, readsAtOnce, async ({ index: { host, snapshot } }) =>
    (await storedIndex(store, host, snapshot, signal)) ? [] : [snapshot],
  );
  return new Set(gone.flat());
}

/** An object, a stream that it is a piece of, and the snapshots that name it. */
interface Named {
  readonly segment: NamedSegment;
  readonly stream: string;
  readonly snapshots: string[];
}

function distinctObjects(snapshots: readonly Snapshot[]): Named[] {
  const objects = new Map<string, Named>();
  for (const { index } of snapshots)
    for (const stream of index.streams)
      for (const segment of segmentsOf(index, stream)) {
        const name = `${segment.folder}/${segment.id}`;
        const known = objects.get(name);
        if (!known) objects.set(name, { segment, stream: stream.name, snapshots: [index.snapshot] });
        else if (known.snapshots.at(-1) !== index.snapshot) known.snapshots.push(index.snapshot);
      }
  return [...objects.values()];
}

const bytesOf = (objects: readonly Named[]): number =>
  objects.reduce((sum, { segment }) => sum + segment.storedBytes, 0);

/** Those that no version has as it was signed. */
async function readObjects(
  context: Context,
  { store, absences }: Look,
  host: string,
  objects: readonly Named[],
): Promise<Found[]> {
  const fetch = segmentsIn(store, host, context.signal);
  using progress = await progressOf(context, 'reading', bytesOf(objects));
  const failures = await mapConcurrent(objects, readsAtOnce, async ({ segment, stream, snapshots }) => {
    const why = await whyUnreadable(fetch, segment);
    progress.advance(segment.storedBytes);
    if (why === undefined) return [];
    // Nobody sees by the id of a segment what it is of.
    const reason = `${why}: a piece of ${stream}`;
    const key = segmentKey(host, segment);
    return [{ snapshots, key, reason, missing: absences.has(key) }];
  });
  return failures.flat();
}

/** Why no version of the object is the one that was signed; undefined if one is. */
async function whyUnreadable(fetch: FetchSegment, segment: NamedSegment): Promise<string | undefined> {
  try {
    await fetchVerified(fetch, segment);
    return undefined;
  } catch (error) {
    if (error instanceof DamagedSegment) return error.message;
    throw error;
  }
}

/** Snapshots that the key does not open are failures, as nobody has looked into them; `keyError` where it opens none. */
async function openAll(
  context: Context,
  { store, config, absences }: Look,
  { host }: HostView,
  snapshots: readonly Snapshot[],
  findSessionKey: SessionKeyFinder,
): Promise<{ failures: Found[]; keyError: SealiftError | undefined }> {
  await using pool = new WorkerPool(config.workers);
  const reader = createStreamReader({ store, pool, findSessionKey, signal: context.signal, host });
  using progress = await progressOf(
    context,
    'opening',
    snapshots
      .flatMap(({ index }) => index.streams)
      .reduce((sum, { bytes, role }) => sum + (role === 'data' ? bytes : 0), 0),
  );
  const failures: Found[] = [];
  const unopened: SealiftError[] = [];
  for (const snapshot of snapshots)
    for (const stream of snapshot.index.streams.filter(({ role }) => role === 'data')) {
      progress.label(stream.name);
      try {
        for await (const chunk of reader.open(snapshot, stream)) progress.advance(chunk.length);
      } catch (error) {
        if (!(error instanceof SealiftError && ['verify-failed', 'key-wrong'].includes(error.code)))
          throw error;
        failures.push({
          snapshots: [snapshot.index.snapshot],
          key: stream.name,
          reason: sentencesOf(error),
          missing: error instanceof DamagedSegment && absences.has(segmentKey(host, error.segment)),
        });
        if (error.code !== 'key-wrong') continue;
        unopened.push(error);
        break;
      }
    }
  return { failures, keyError: unopened.length === snapshots.length ? unopened[0] : undefined };
}

function print(
  { output }: Context,
  summary: { ok: boolean; snapshots: number; objects: number; bytes: number },
  failures: readonly Found[],
  { readData, key }: VerifyOptions,
): void {
  for (const { snapshots, key: object, reason } of failures) {
    const [first, ...others] = snapshots;
    const whose = others.length === 0 ? first : `${first} and ${others.length} more`;
    output.text(`${output.paint('bad', 'failed')}  ${whose}  ${object}: ${printable(reason)}`);
  }
  const how = [
    'signature, chain, presence and size',
    ...(readData === true ? ['content of every object'] : []),
    ...(key === undefined ? [] : ['plaintext of every stream']),
  ].join('; ');
  const verdict = summary.ok ? output.paint('good', 'verified') : output.paint('bad', 'VERIFICATION FAILED');
  output.text(
    `${verdict}  ${countOf(summary.snapshots, 'snapshot')}, ${countOf(summary.objects, 'object')}, ${formatSize(summary.bytes)}`,
  );
  output.text(output.paint('faint', `          ${how}`));
}
