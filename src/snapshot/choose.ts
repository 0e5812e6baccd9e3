import { SealiftError } from '../errors.ts';
import type { FoundSnapshots, Snapshot } from './catalog.ts';
import { partialProblems, type Index, type IndexStream } from './index.ts';

/** Which snapshots, and which streams of them, a person means. Pure functions of what was read from the store. */

export const isExpired = ({ index }: Snapshot, now: Date): boolean =>
  Date.parse(index.expiresAt) <= now.getTime();

/**
 * The snapshot with this id or unique beginning of one. Throws `snapshot-not-found`, `snapshot-ambiguous`, `usage` if it
 * is not of the job, or what is wrong with it if it cannot be read.
 */
export function chooseById(found: FoundSnapshots, text: string, job?: string): Snapshot {
  if (text === '') throw new SealiftError('usage', 'the id of the snapshot is empty');
  const ids = [
    ...found.snapshots.map((snapshot) => snapshot.index.snapshot),
    ...found.unreadable.map(({ snapshot }) => snapshot),
  ].filter((id) => id.startsWith(text));
  const [id, ...more] = ids.includes(text) ? [text] : ids;
  if (id === undefined)
    throw new SealiftError('snapshot-not-found', `there is no snapshot ${text}`, {
      hint: '`sealift list` shows those that there are.',
    });
  if (more.length > 0)
    throw new SealiftError('snapshot-ambiguous', `${text} could be any of ${ids.length} snapshots`, {
      hint: `Write more of it: ${ids.slice(-5).join(', ')}${ids.length > 5 ? ', ...' : ''}`,
    });
  const broken = found.unreadable.find(({ snapshot }) => snapshot === id);
  if (broken) throw broken.error;
  const snapshot = found.snapshots.find(({ index }) => index.snapshot === id)!;
  if (job !== undefined && job !== snapshot.index.job)
    throw new SealiftError('usage', `${id} is of job ${snapshot.index.job}, not ${job}`);
  return snapshot;
}

/** What to take from one snapshot. */
export interface Choice {
  readonly snapshot: Snapshot;
  readonly streams: readonly IndexStream[];
}

export interface LatestQuery {
  readonly job: string;
  /** Sources or `source/file` streams; empty for all sources of the newest snapshot. */
  readonly wanted: readonly string[];
}

/**
 * For each wanted source the newest snapshot in which it is complete, and sentences for every newer one that was passed
 * over. A source that is complete nowhere comes from the newest snapshot that has any of it, and `incomplete` says so. `snapshots` are those that
 * may be used (not expired, not after the wanted time), oldest first. Throws `snapshot-not-found`.
 */
export function chooseLatest(
  snapshots: readonly Snapshot[],
  { job, wanted }: LatestQuery,
): { choices: Choice[]; passedOver: string[]; incomplete: boolean } {
  const newestFirst = snapshots.filter(({ index }) => index.job === job).toReversed();
  const [newest] = newestFirst;
  if (!newest) throw new SealiftError('snapshot-not-found', `job ${job} has no snapshot that could be used`);
  const passedOver: string[] = [];
  let incomplete = false;
  const choices = new Map<Snapshot, IndexStream[]>();
  for (const want of wanted.length > 0 ? wanted : sourcesOf(newest.index)) {
    const having = newestFirst.filter(({ index }) => streamsMatching(index, want).length > 0);
    const whole = having.find(({ index }) => isWhole(index, want));
    const chosen = whole ?? having[0];
    if (!whole) incomplete = true;
    if (!chosen) {
      if (wanted.length > 0) throw noSuchStream(job, want, newest.index);
      passedOver.push(`${want} is in no snapshot of job ${job}`);
      continue;
    }
    if (!whole)
      passedOver.push(`${want} is complete in no snapshot; taking what ${chosen.index.snapshot} has`);
    else if (chosen !== newest)
      passedOver.push(`${want} is not complete in ${newest.index.snapshot}; taking ${chosen.index.snapshot}`);
    choices.set(chosen, [...(choices.get(chosen) ?? []), ...streamsMatching(chosen.index, want)]);
  }
  return {
    choices: [...choices].map(([snapshot, streams]) => ({ snapshot, streams: [...new Set(streams)] })),
    passedOver,
    incomplete,
  };
}

/** The wanted streams of one snapshot; all its data streams if none is wanted. Throws `snapshot-not-found`. */
export function chooseStreams(index: Index, wanted: readonly string[]): IndexStream[] {
  if (wanted.length === 0) return index.streams.filter(({ role }) => role === 'data');
  const streams = wanted.flatMap((want) => {
    const matching = streamsMatching(index, want);
    if (matching.length === 0) throw noSuchStream(index.job, want, index);
    return matching;
  });
  return [...new Set(streams)];
}

/** The names of the sources that a snapshot saved or tried to save. */
export const sourcesOf = (index: Index): string[] => [
  ...new Set([
    ...index.streams.filter(({ role }) => role === 'data').map(({ source }) => source),
    ...partialProblems(index).map(({ source }) => source),
  ]),
];

export const hasStream = (index: Index, want: string): boolean => streamsMatching(index, want).length > 0;

const streamsMatching = (index: Index, want: string): IndexStream[] =>
  index.streams.filter(({ role, name, source }) => role === 'data' && (source === want || name === want));

/** A whole source has no problem that cost data; a single stream must be complete itself. */
export const isWhole = (index: Index, want: string): boolean =>
  want.includes('/')
    ? streamsMatching(index, want).every(({ status }) => status === 'complete')
    : !partialProblems(index).some(({ source }) => source === want);

const noSuchStream = (job: string, want: string, index: Index): SealiftError =>
  new SealiftError('snapshot-not-found', `job ${job} has no source or stream ${want}`, {
    hint: `${index.snapshot} has: ${chooseStreams(index, [])
      .map(({ name }) => name)
      .join(', ')}`,
  });
