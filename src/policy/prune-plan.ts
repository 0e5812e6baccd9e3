import { wasSetBack } from '../clock.ts';
import { largestOf, type Limits, type LimitsMs } from './retention.ts';

/**
 * What a pruner deletes of one host, and why: rules R2 to R6, R8 and R9 of docs/format.md as one pure function of what
 * a listing showed, the indexes that could be verified, the limits and the time.
 */

export interface NamedObject {
  /** The snapshot in whose folder it lies. */
  readonly folder: string;
  readonly id: string;
}

/** A snapshot whose index was verified. Times in milliseconds since 1970. */
export interface PlannedSnapshot extends Limits {
  readonly snapshot: string;
  readonly sequence: number;
  readonly startedMs: number;
  /** When the store took the index in. */
  readonly modifiedMs: number;
  readonly previous:
    | { readonly snapshot: string; readonly startedMs: number; readonly expiresMs: number | undefined }
    | undefined;
  /** Every object that it names. Walked once, and not kept: there may be millions. */
  readonly names: Iterable<NamedObject>;
}

/** A snapshot whose index could not be read or verified. */
export interface UnreadableSnapshot {
  readonly snapshot: string;
  /** By its id. */
  readonly startedMs: number;
  readonly modifiedMs: number;
}

/** One version of an object of the host, or the marker of a deletion. */
export interface PlannedObject {
  /** The snapshot in whose folder it lies. */
  readonly folder: string;
  /** The id of a segment; undefined for an index. */
  readonly segment: string | undefined;
  readonly modifiedMs: number;
  readonly marker: boolean;
}

export interface PruneSubject<O extends PlannedObject> {
  /** Before all this was looked at: nothing that a run has written since can look old enough to go. */
  readonly nowMs: number;
  /** After it: what had ended by then may be gone already, by another prune. */
  readonly surveyedMs: number;
  /** The pruner's configuration. */
  readonly configured: Limits;
  /** Whether that is the configuration of this very host: then it also ends snapshots that were promised longer. */
  readonly own: boolean;
  readonly snapshots: readonly PlannedSnapshot[];
  readonly unreadable: readonly UnreadableSnapshot[];
  /** Sorted by key: the versions of one object follow each other. */
  readonly objects: readonly O[];
}

export interface PrunePlan<O extends PlannedObject> {
  /** Snapshots that end, with the reason. */
  readonly snapshots: readonly Ending[];
  /** What is deleted, in this order: the indexes, then the segments. */
  readonly objects: readonly Deletion<O>[];
  /** Why segments that may be garbage are kept (rule R6), and which snapshots do not count (rule R9). */
  readonly problems: readonly string[];
  /** When the next snapshot ends. */
  readonly nextExpiryMs: number | undefined;
  /** How long what nobody names may be part of a run that is under way. */
  readonly graceMs: number;
}

export interface Ending {
  readonly snapshot: string;
  readonly reason: string;
}

export interface Deletion<O> {
  readonly object: O;
  readonly reason: string;
}

/** The clocks of a store's many machines differ by seconds. What is dated further ahead than this does not count. */
export const futureToleranceMs = 5 * 60_000;

/** Nothing is written before its run began. A clock of the store that jumps may differ by hours. */
export const possibleMs = (modifiedMs: number, startedMs: number): number =>
  modifiedMs < startedMs - impossibleMs ? startedMs : modifiedMs;
const impossibleMs = 24 * 3_600_000;

export function planPrune<O extends PlannedObject>(subject: PruneSubject<O>): PrunePlan<O> {
  const { nowMs, snapshots, unreadable } = subject;
  const future = snapshots.filter(({ startedMs }) => startedMs > nowMs + futureToleranceMs);
  const ends = new Map(snapshots.map((snapshot) => [snapshot, endOf(snapshot, subject)]));
  const ended = snapshots.filter((snapshot) => ends.get(snapshot)!.ms <= nowMs);
  const dead = new Set([...ended, ...future]);
  const live = snapshots.filter((snapshot) => !dead.has(snapshot));
  const limits = limitsOf(live, ended, subject);
  const endedUnreadable = unreadable.filter(
    ({ startedMs, modifiedMs }) => Math.max(startedMs, modifiedMs) + limits.maxAgeMs <= nowMs,
  );
  const missing = missingLive(live, subject, limits.maxAgeMs);

  const endings: Ending[] = [
    ...ended.map((snapshot) => ({ snapshot: snapshot.snapshot, reason: ends.get(snapshot)!.reason })),
    ...endedUnreadable.map(({ snapshot }) => ({ snapshot, reason: 'unreadable, and past every limit' })),
  ];
  return {
    snapshots: endings,
    objects: [
      ...endedIndexes(subject, endings, limits.ceilingMs),
      ...garbage(subject, live, limits, missing.length > 0),
    ],
    problems: [
      ...missing,
      ...future.map(({ snapshot }) => `${snapshot} is dated in the future and does not count`),
    ],
    nextExpiryMs: least(live.map((snapshot) => ends.get(snapshot)!.ms)),
    graceMs: limits.graceMs,
  };
}

/** Rules R2 and R9: when a snapshot ends, and what ends it. */
function endOf(
  { startedMs, modifiedMs, maxAge }: PlannedSnapshot,
  { own, configured }: Pick<PruneSubject<never>, 'own' | 'configured'>,
): { ms: number; reason: string } {
  const born = Math.min(startedMs, modifiedMs);
  if (own && configured.maxAge < maxAge)
    return { ms: born + configured.maxAge * 1000, reason: 'older than the maxAge that is configured now' };
  return { ms: born + maxAge * 1000, reason: 'expired' };
}

/**
 * The largest limits that anybody who may be at work on this host has: its live snapshots, and its own configuration.
 * Where the pruner is somebody else and nothing is live, those of the last snapshots, and the pruner's own.
 */
function limitsOf(
  live: readonly Limits[],
  ended: readonly Limits[],
  { own, configured }: Pick<PruneSubject<never>, 'own' | 'configured'>,
): LimitsMs {
  return largestOf([
    ...live,
    ...(own || live.length === 0 ? [configured] : []),
    ...(live.length === 0 ? ended : []),
  ]);
}

/** Rule R6: what should be live and cannot be read, or is missing by the chain. */
function missingLive(
  live: readonly PlannedSnapshot[],
  { nowMs, surveyedMs, own, configured, snapshots, unreadable }: PruneSubject<PlannedObject>,
  maxAgeMs: number,
): string[] {
  const present = new Set([...snapshots, ...unreadable].map(({ snapshot }) => snapshot));
  const sequences = new Map(snapshots.map(({ snapshot, sequence }) => [snapshot, sequence]));
  // Whoever lowered maxAge has pruned by it: the newest snapshot tells.
  const newest = live.toSorted((a, b) => b.startedMs - a.startedMs)[0];
  const currentMaxAgeMs = 1000 * (own ? configured.maxAge : (newest?.maxAge ?? configured.maxAge));
  const problems = unreadable
    .filter(({ startedMs }) => startedMs + maxAgeMs > surveyedMs && startedMs <= nowMs + futureToleranceMs)
    .map(({ snapshot }) => `the index of ${snapshot} cannot be read, and should be live`);
  for (const { snapshot, sequence, startedMs, maxAge, previous } of live) {
    if (!previous) continue;
    const before = sequences.get(previous.snapshot);
    if (!present.has(previous.snapshot)) {
      if (wasSetBack(previous.startedMs, startedMs)) continue;
      const expiresMs = previous.expiresMs ?? previous.startedMs + maxAge * 1000;
      if (Math.min(expiresMs, previous.startedMs + currentMaxAgeMs) > surveyedMs)
        problems.push(`${previous.snapshot}, which ${snapshot} follows, is gone before its time`);
    } else if (before !== undefined && before + 1 !== sequence && startedMs + currentMaxAgeMs > surveyedMs)
      problems.push(`a snapshot between ${previous.snapshot} and ${snapshot} is missing`);
  }
  return problems;
}

/** The indexes of snapshots that end, all versions of them (R8), and indexes of which only traces are left. */
function endedIndexes<O extends PlannedObject>(
  { objects, nowMs }: PruneSubject<O>,
  endings: readonly Ending[],
  ceilingMs: number,
): Deletion<O>[] {
  const reasons = new Map(endings.map(({ snapshot, reason }) => [snapshot, reason]));
  const deletions: Deletion<O>[] = [];
  for (const versions of byObject(objects.filter(({ segment }) => segment === undefined))) {
    const reason = reasons.get(versions[0]!.folder);
    deletions.push(
      ...(reason === undefined
        ? removable(versions, ({ modifiedMs }) =>
            modifiedMs + ceilingMs <= nowMs ? 'index: older than anything may be' : undefined,
          )
        : versions.map((object) => ({ object, reason: `index: ${reason}` }))),
    );
  }
  return deletions;
}

/** Rules R3 to R5. With `failClosed` only what is older than anything may be. */
function garbage<O extends PlannedObject>(
  { objects, nowMs }: PruneSubject<O>,
  live: readonly PlannedSnapshot[],
  { graceMs, ceilingMs }: LimitsMs,
  failClosed: boolean,
): Deletion<O>[] {
  const named = namedBy(live);
  const deletions: Deletion<O>[] = [];
  for (const versions of byObject(objects)) {
    const { folder, segment } = versions[0]!;
    if (segment === undefined) continue;
    const kept = named.get(folder)?.has(segment) === true || failClosed;
    deletions.push(
      ...removable(versions, ({ modifiedMs }) => {
        if (modifiedMs + ceilingMs <= nowMs) return 'segment: older than anything may be';
        return !kept && modifiedMs + graceMs <= nowMs ? 'segment: no live snapshot names it' : undefined;
      }),
    );
  }
  return deletions;
}

/** Ids by folder. */
function namedBy(snapshots: readonly PlannedSnapshot[]): Map<string, Set<string>> {
  const named = new Map<string, Set<string>>();
  for (const { names } of snapshots)
    for (const { folder, id } of names) {
      const ids = named.get(folder) ?? new Set();
      if (ids.size === 0) named.set(folder, ids);
      ids.add(id);
    }
  return named;
}

/** The versions of one object that have a reason to go; and when none is left, the markers of its deletion too (R8). */
function removable<O extends PlannedObject>(
  versions: readonly O[],
  reasonFor: (version: O) => string | undefined,
): Deletion<O>[] {
  const going = versions.flatMap((object) => {
    const reason = object.marker ? undefined : reasonFor(object);
    return reason === undefined ? [] : [{ object, reason }];
  });
  const markers = versions.filter(({ marker }) => marker);
  if (going.length + markers.length < versions.length) return going;
  return [...going, ...markers.map((object) => ({ object, reason: 'marker: nothing is left under it' }))];
}

/** The versions of each object. */
function* byObject<O extends PlannedObject>(objects: readonly O[]): Generator<O[]> {
  let versions: O[] = [];
  for (const object of objects) {
    const [first] = versions;
    if (first && (first.folder !== object.folder || first.segment !== object.segment)) {
      yield versions;
      versions = [];
    }
    versions.push(object);
  }
  if (versions.length > 0) yield versions;
}

const least = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((a, b) => Math.min(a, b));
