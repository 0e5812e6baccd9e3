import { SealiftError } from '../errors.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import {
  chooseById,
  chooseLatest,
  chooseStreams,
  hasStream,
  isExpired,
  isWhole,
  sourcesOf,
  type Choice,
} from '../snapshot/choose.ts';
import { partialProblems, type IndexStream } from '../snapshot/index.ts';
import { parseSnapshotId } from '../snapshot/object-key.ts';
import type { Context } from './context.ts';
import { refuseUntrusted, reportUnreadable, type HostView } from './reader-session.ts';
import type { RestoreOptions } from './restore.ts';

/** What a restore brings back: some streams of some snapshots. */
export interface Choices {
  readonly choices: readonly Choice[];
  /** Some of what was wanted is in no snapshot, or in none completely. */
  readonly incomplete: boolean;
}

/**
 * `latest`, or a snapshot by its id, as the options narrow it down. With `--include` only trees are meant. Throws what is
 * wrong with the wish, or that there is nothing of the kind.
 */
export function chooseToRestore(
  context: Context,
  view: HostView,
  wanted: string,
  options: RestoreOptions,
  { at, now }: { at: Date | undefined; now: Date },
): Choices {
  const found =
    wanted === 'latest'
      ? latest(context, view, options, at ?? now, now)
      : exact(context, view, wanted, options, now);
  return options.include === undefined ? found : { ...found, choices: treesOf(found.choices, options) };
}

/** A tree of files, whatever kind of source it is of. */
const isTree = ({ role, kind }: IndexStream): boolean => role === 'data' && kind === 'files';

function treesOf(choices: readonly Choice[], { source = [] }: RestoreOptions): Choice[] {
  const trees = choices.map(({ snapshot, streams }) => ({ snapshot, streams: streams.filter(isTree) }));
  const without = source.find(
    (want) =>
      !trees.some(({ streams }) => streams.some(({ name, source }) => name === want || source === want)),
  );
  if (without !== undefined)
    throw new SealiftError('usage', `${without} has no tree of files for --include to look into`);
  if (trees.some(({ streams }) => streams.length > 0))
    return trees.filter(({ streams }) => streams.length > 0);
  const names = choices.map(({ snapshot }) => snapshot.index.snapshot);
  throw noTree(`${names.join(', ')} has`);
}

const noTree = (whoHas: string): SealiftError =>
  new SealiftError('files-not-found', `${whoHas} no tree of files for --include to look into`, {
    hint: '`sealift list` shows what there is.',
  });

/** The trees of the sources that a job had last, by the names of their streams. */
function treesIn(snapshots: readonly Snapshot[]): string[] {
  const newest = new Map(snapshots.map(({ index }) => [index.job, index]));
  const trees = snapshots.flatMap(({ index }) =>
    index.streams.filter(
      (stream) => isTree(stream) && sourcesOf(newest.get(index.job)!).includes(stream.source),
    ),
  );
  return [...new Set(trees.map(({ name }) => name))];
}

function exact({ log }: Context, view: HostView, id: string, options: RestoreOptions, now: Date): Choices {
  if (options.at !== undefined)
    throw new SealiftError('usage', '--at goes with `latest`, not with the id of a snapshot');
  const snapshot = chooseById(view, id, options.job);
  refuseExpired(snapshot, options, now);
  const { index } = snapshot;
  for (const { source, code } of partialProblems(index))
    log.warn(`${index.snapshot} is not complete: ${source} (${code})`);
  const wanted = options.source ?? (options.include === undefined ? sourcesOf(index) : treesIn([snapshot]));
  return {
    choices: [{ snapshot, streams: chooseStreams(index, options.source ?? []) }],
    incomplete: wanted.some((want) => !isWhole(index, want)),
  };
}

function latest(context: Context, view: HostView, options: RestoreOptions, at: Date, now: Date): Choices {
  refuseUntrusted(view, now);
  reportUnreadable(context, view);
  const usable = view.snapshots.filter(
    (snapshot) =>
      (options.job === undefined || snapshot.index.job === options.job) &&
      Date.parse(snapshot.index.startedAt) <= at.getTime() &&
      (options.expired === true || !isExpired(snapshot, now)),
  );
  if (usable.length === 0) {
    const ofJob = options.job === undefined ? '' : ` of job ${options.job}`;
    throw new SealiftError(
      'snapshot-not-found',
      `host ${view.host} has no snapshot${ofJob} that could be restored`,
      { hint: '`sealift list` shows what there is; expired ones need --expired.' },
    );
  }
  const wanted = options.source ?? (options.include === undefined ? [] : treesIn(usable));
  const all = [...new Set(usable.map(({ index }) => index.job))];
  const having = all.filter((job) =>
    usable.some(({ index }) => index.job === job && wanted.some((want) => hasStream(index, want))),
  );
  const jobs = having.length > 0 ? having : all;
  const nowhere = wanted.find((want) => !jobs.some((job) => jobHas(usable, job, want)));
  if (nowhere !== undefined)
    throw new SealiftError(
      'snapshot-not-found',
      `${jobs.length === 1 ? `job ${jobs[0]}` : `host ${view.host}`} has no source or stream ${nowhere}`,
      {
        hint: `There are: ${[...new Set(usable.flatMap(({ index }) => chooseStreams(index, []).map(({ name }) => name)))].join(', ')}`,
      },
    );
  if (options.include !== undefined && wanted.length === 0) throw noTree(`host ${view.host} has`);
  if (jobs.length > 1 && options.to === undefined && options.include === undefined)
    throw new SealiftError('job-ambiguous', `host ${view.host} has several jobs: ${jobs.join(', ')}`, {
      hint: 'Choose one with --job NAME.',
    });
  // What a job has of which nothing can be read, nobody knows.
  const isMeant = (job: string): boolean =>
    jobs.includes(job) || (options.job === undefined && !all.includes(job));
  const found = jobs.map((job) =>
    chooseLatest(usable, { job, wanted: wanted.filter((want) => jobHas(usable, job, want)) }),
  );
  for (const sentence of found.flatMap(({ passedOver }) => passedOver)) context.log.warn(sentence);
  return {
    choices: found.flatMap(({ choices }) => choices),
    incomplete: found.some(({ incomplete }) => incomplete) || newerUnreadable(view, isMeant, at),
  };
}

function refuseExpired(snapshot: Snapshot, { expired }: RestoreOptions, now: Date): void {
  if (expired === true || !isExpired(snapshot, now)) return;
  const { index } = snapshot;
  throw new SealiftError('snapshot-expired', `${index.snapshot} expired at ${index.expiresAt}`, {
    hint: 'Data of that age was promised to be gone. If it is needed all the same: --expired.',
  });
}

/** A snapshot that cannot be read might have been the one that was meant. */
function newerUnreadable(
  { snapshots, unreadable }: HostView,
  isMeant: (job: string) => boolean,
  at: Date,
): boolean {
  const before = snapshots.filter(({ index }) => Date.parse(index.startedAt) <= at.getTime());
  return unreadable.some(({ snapshot }) => {
    const id = parseSnapshotId(snapshot);
    if (id === undefined || !isMeant(id.job) || id.startedAt > at) return false;
    const newest = before.findLast(({ index }) => index.job === id.job)?.index.snapshot ?? '';
    return snapshot > newest;
  });
}

const jobHas = (snapshots: readonly Snapshot[], job: string, want: string): boolean =>
  snapshots.some(({ index }) => index.job === job && hasStream(index, want));

/** `--at`. Throws `usage`. */
export function parseTime(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;
  // Date takes the 30th of February for the 2nd of March.
  const day = text.slice(0, 10);
  const isDay = !Number.isNaN(Date.parse(day)) && new Date(day).toISOString().startsWith(day);
  if (rfc3339.test(text) && isDay && !Number.isNaN(time.getTime())) return time;
  throw new SealiftError('usage', `--at ${text} is no time`, { hint: 'Write it as 2026-11-22T12:00:00Z.' });
}
