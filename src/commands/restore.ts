import { resolve } from 'node:path';
import { countOf } from '../count-of.ts';
import { SealiftError } from '../errors.ts';
import { formatSize, printable } from '../output.ts';
import type { Progress } from '../progress.ts';
import { WorkerPool } from '../segments/pool.ts';
import type { StoredSegment } from '../segments/writer.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import type { Choice } from '../snapshot/choose.ts';
import { detailsStream } from '../snapshot/object-key.ts';
import { includer } from '../sources/files-include.ts';
import type { TreePart } from '../sources/tree-part.ts';
import type { FoundAround, FoundContent } from '../sources/unpack.ts';
import { chooseFiles, chooseFrom, partsOf, type ChosenStreams } from './choose-files.ts';
import { chooseToRestore, parseTime } from './choose-to-restore.ts';
import { progressOf, type Context, type Outcome } from './context.ts';
import { createStreamReader, type StreamReader } from './read-streams.ts';
import { oneHost, openReaderSession, viewHost } from './reader-session.ts';
import { restoreInto } from './restore-into.ts';
import { fileToStdout, streamToStdout } from './restore-stdout.ts';
import { restoreTo } from './restore-to.ts';
import { sessionKeyFinder, type UnlockOptions } from './unlock.ts';

export interface RestoreOptions extends UnlockOptions {
  readonly job?: string;
  readonly host?: string;
  readonly at?: string;
  readonly source?: readonly string[];
  readonly include?: readonly string[];
  readonly to?: string;
  readonly into?: string;
  readonly stdout?: boolean;
  readonly force?: boolean;
  readonly sameOwner?: boolean;
  readonly expired?: boolean;
}

/** A stream that is to be restored, or a part of a tree, ready to be read. */
export interface RestoreItem {
  readonly job: string;
  readonly snapshot: string;
  readonly name: string;
  readonly source: string;
  /** Of the name, what comes after the source. */
  readonly file: string;
  readonly kind: string;
  /** Padmé-rounded; of a part exact. */
  readonly bytes: number;
  /** What was chosen with `--include`, if that is not all of it: then `open` gives only this part of the tar. */
  readonly part?: TreePart | undefined;
  open(): AsyncIterable<Uint8Array>;
  /** These paths of a tree once more: a hard link with the content that it shares. */
  find(paths: ReadonlySet<string>): Promise<FoundContent | undefined>;
  /** What of a tree can be read although the store lacks this segment of it. */
  around(segment: StoredSegment, part: TreePart | undefined, done: number): Promise<FoundAround>;
}

/** Brings data back: streams as files and trees, some files of a tree, a database, or one thing to stdout. */
export async function restore(
  context: Context,
  [wanted = 'latest']: readonly string[],
  options: RestoreOptions,
): Promise<Outcome> {
  const { signal, log } = context;
  const startedMs = performance.now();
  const at = parseTime(options.at);
  checkTarget(options, context);
  const included = options.include === undefined ? undefined : includer(options.include);
  const findSessionKey = await sessionKeyFinder(context, options);
  await using session = await openReaderSession(context);
  const host = await oneHost(session, options.host, signal);
  const view = await viewHost(session, host, { signal });
  const { choices, incomplete } = chooseToRestore(context, view, wanted, options, { at, now: session.now });
  for (const { snapshot } of choices) warnOfEnd(context, snapshot, session.now);

  await using pool = new WorkerPool(session.config.workers);
  using opening = await progressOf(context, 'reading details', detailsBytes(choices));
  const reader = createStreamReader({
    store: session.store,
    pool,
    findSessionKey,
    signal,
    host,
    onDetails: (bytes) => opening.advance(bytes),
  });
  const around = options.to !== undefined;
  const { streams, unmatched, closed } =
    included === undefined
      ? await wholeStreams(reader, choices, around)
      : await chooseFiles(reader, choices, included, around);
  for (const pattern of unmatched) log.warn(`nothing matches --include ${printable(pattern)}`);
  opening[Symbol.dispose]();

  const items: RestoreItem[] = streams.map(({ snapshot, stream, part }) => ({
    job: snapshot.index.job,
    snapshot: snapshot.index.snapshot,
    name: stream.name,
    source: stream.source,
    file: stream.name.slice(stream.source.length + 1),
    kind: stream.kind,
    bytes: part?.tarBytes ?? stream.bytes,
    part,
    open: () =>
      watched(
        part === undefined ? reader.open(snapshot, stream) : reader.openRanges(snapshot, stream, part.ranges),
        stream.name,
        progress,
        signal,
      ),
    find: async (paths) => {
      const parts = await partsOf(reader, snapshot, [stream], (path) => paths.has(path));
      const found = parts.get(stream.name);
      return found && { part: found, body: reader.openRanges(snapshot, stream, found.ranges) };
    },
    around: async (segment, ofTree, done) => {
      const whole = ofTree ?? (await partsOf(reader, snapshot, [stream], () => true)).get(stream.name)!;
      const { part: left, lost } = whole.without(done, reader.placesOf(snapshot, stream, segment));
      const body = reader.openRanges(snapshot, stream, left.ranges);
      return { part: left, lost, body: watched(body, stream.name, progress, signal) };
    },
  }));
  using progress = await progressOf(
    context,
    'restoring',
    items.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  const partial = incomplete || unmatched.length > 0;
  if (options.stdout === true) {
    await (included === undefined ? streamToStdout(items, signal) : fileToStdout(items, signal));
    return partial ? 'partial' : undefined;
  }
  const report =
    options.to === undefined
      ? await restoreInto(context, options.into!, items, { force: options.force === true })
      : await restoreTo(context, resolve(context.environment.cwd, options.to), items, {
          force: options.force === true,
          setuid: options.sameOwner === true,
          access: accessOf(context, options),
          closed,
        });
  progress[Symbol.dispose]();
  tell(context, report, options, {
    host,
    snapshots: [...new Set(items.map(({ snapshot }) => snapshot))],
    fetchedBytes: session.fetchedBytes(),
    durationSeconds: Math.round(performance.now() - startedMs) / 1000,
  });
  const { skipped, damaged = [], withoutAttributes = 0 } = report;
  if (damaged.length > 0) return 'verify-failed';
  return partial || skipped.length > 0 || withoutAttributes > 0 ? 'partial' : undefined;
}

/** As they were given. */
function accessOf({ configPath }: Context, options: RestoreOptions): string[] {
  const { host, key, passphraseFile, expired } = options;
  const given = { '-c': configPath, '--host': host, '--key': key, '--passphrase-file': passphraseFile };
  const words = Object.entries(given).flatMap(([option, value]) =>
    value === undefined ? [] : [option, value],
  );
  return expired === true ? [...words, '--expired'] : words;
}

export interface RestoreReport {
  /** One line for each thing that came back. */
  readonly restored: readonly string[];
  readonly skipped: readonly string[];
  /** What the store does not have as it was signed. */
  readonly damaged?: readonly string[];
  readonly bytes: number;
  /** Files and links, where they are written as such. */
  readonly files?: number;
  /** What came back without its setuid or setgid. */
  readonly withoutSetuid?: readonly string[];
  /** How many files, folders and symlinks have another owner, mode or time, since the target does not keep theirs. */
  readonly withoutAttributes?: number;
  /** Symlinks that gave way to folders. */
  readonly unlinked?: readonly string[];
  /** What is left to do by hand. */
  readonly nextSteps?: readonly string[];
}

interface Run {
  readonly host: string;
  readonly snapshots: readonly string[];
  /** All that the store delivered. */
  readonly fetchedBytes: number;
  readonly durationSeconds: number;
}

function tell(
  { output, json, environment }: Context,
  report: RestoreReport,
  { sameOwner }: RestoreOptions,
  run: Run,
): void {
  if (json) return output.jsonLine({ type: 'summary', ...run, ...report });
  for (const line of report.restored) output.text(`${output.paint('good', 'restored')}  ${line}`);
  for (const line of report.skipped)
    output.text(`${output.paint('warning', 'skipped')}   ${printable(line)}`);
  for (const line of report.damaged ?? [])
    output.text(`${output.paint('bad', 'damaged')}   ${printable(line)}`);
  const { withoutSetuid = [], withoutAttributes = 0, unlinked = [], files } = report;
  const others = environment.isRoot ? '--same-owner keeps it' : 'root can keep it with --same-owner';
  const how = sameOwner === true ? 'which the target does not keep' : others;
  const note = output.paint('warning', 'note');
  if (withoutSetuid.length > 0)
    output.text(`${note}      without setuid or setgid (${how}): ${firstOf(withoutSetuid)}`);
  if (withoutAttributes > 0)
    output.text(
      `${note}      without their owner, mode or time, which the target does not keep: ` +
        countOf(withoutAttributes, 'file, folder or link', 'files, folders and links'),
    );
  if (unlinked.length > 0)
    output.text(`${note}      folders now, where links to elsewhere were: ${firstOf(unlinked)}`);
  const counted = files === undefined ? '' : `${countOf(files, 'file')}, `;
  output.text(
    `${counted}${formatSize(report.bytes)} from ${run.snapshots.join(', ')} in ${run.durationSeconds.toFixed(1)} s, ` +
      `${formatSize(run.fetchedBytes)} fetched`,
  );
  for (const line of report.nextSteps ?? []) output.text(line);
}

function firstOf(paths: readonly string[]): string {
  const named = paths.slice(0, 5).map((path) => printable(path));
  return named.join(', ') + (paths.length > named.length ? `, and ${paths.length - named.length} more` : '');
}

function checkTarget(options: RestoreOptions, { json, environment }: Context): void {
  const { to, into, stdout, include, sameOwner } = options;
  if (stdout !== undefined && json)
    throw new SealiftError('usage', '--json does not go with --stdout, which is full of data');
  if ([to, into, stdout].filter((target) => target !== undefined).length !== 1)
    throw new SealiftError('usage', 'say where to restore to: one of --to DIR, --into URL, --stdout');
  // As of a variable of the shell that is not set: it would be the current folder.
  if (to === '') throw new SealiftError('usage', '--to DIR is empty', { hint: 'This folder is --to .' });
  if (include !== undefined && into !== undefined)
    throw new SealiftError('usage', '--include does not go with --into, which loads whole databases', {
      hint: 'Files come back with --to DIR, or one of them with --stdout.',
    });
  if (sameOwner === true && to === undefined)
    throw new SealiftError('usage', '--same-owner goes with --to DIR');
  if (sameOwner === true && !environment.isRoot)
    throw new SealiftError('usage', '--same-owner needs root, who alone can give files to others');
}

/** A restore of much takes hours. */
const endsSoonMs = 6 * 3600 * 1000;

function warnOfEnd({ log }: Context, { index: { snapshot, expiresAt } }: Snapshot, now: Date): void {
  const leftMs = Date.parse(expiresAt) - now.getTime();
  if (leftMs > 0 && leftMs < endsSoonMs)
    log.warn(`${snapshot} ends at ${expiresAt} and is deleted then: what is not back by that time is gone`);
}

const detailsBytes = (choices: readonly Choice[]): number =>
  choices
    .flatMap(({ snapshot }) => snapshot.index.streams.filter(({ name }) => name === detailsStream))
    .reduce((sum, { bytes }) => sum + bytes, 0);

async function wholeStreams(
  reader: StreamReader,
  choices: readonly Choice[],
  around: boolean,
): Promise<ChosenStreams> {
  const chosen = await chooseFrom(choices, around, async ({ snapshot, streams }) => {
    await reader.prepare(snapshot);
    return streams.map((stream) => ({ snapshot, stream }));
  });
  return { ...chosen, unmatched: [] };
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
