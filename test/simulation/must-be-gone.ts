import { parseKey, parseSnapshotId } from '../../src/snapshot/object-key.ts';
import type { UnfinishedWrite } from '../../src/store/store.ts';
import type { PruneScene } from './oracle.ts';
import type { Commit } from './record.ts';
import type { HeldVersion } from './bucket.ts';

/** A version of an object that must not be there any more, and by which rule. */
export interface Duty {
  readonly held: HeldVersion;
  readonly why: string;
}

/** What a prune owes of one host. */
export interface Owed {
  readonly duties: readonly Duty[];
  /** Writes that somebody began and left. */
  readonly stranded: readonly UnfinishedWrite[];
  readonly failClosed: boolean;
}

/**
 * What a prune of this host owes: of all that lay there when it began, what must be gone at its end. Where the rules
 * leave room (which of several limits counts, what may count as a broken chain) this asks for less: too little that is
 * left to the pruner's will is better than a complaint without reason.
 */
export function mustBeGone(prune: PruneScene, host: string): Owed {
  // The product counts in whole seconds.
  const nowMs = Math.floor(prune.lowestMs / 1000) * 1000;
  const commits = prune.commits.filter((commit) => commit.host === host);
  const endMs = ({ bornMs, maxAgeMs }: Commit): number =>
    bornMs + (prune.own === host ? Math.min(maxAgeMs, prune.maxAgeMs) : maxAgeMs);
  const live = commits.filter((commit) => endMs(commit) > nowMs);
  const limits = [...(live.length > 0 ? live : commits), prune];
  const maxAgeMs = Math.max(...limits.map((limit) => limit.maxAgeMs));
  const windowMs = Math.max(...limits.map((limit) => limit.windowMs));
  const graceMs = (maxAgeMs + windowMs) / 2;
  const ceilingMs = maxAgeMs + windowMs;

  const byKey = Map.groupBy(
    prune.versions.filter(({ key }) => parseKey(key)?.host === host),
    ({ key }) => key,
  );
  const failClosed = hasDoubts(byKey, commits, live, { nowMs, maxAgeMs });
  const named = new Set(live.flatMap(({ names }) => [...names.keys()]));
  const liveIndexes = new Set(live.map(({ indexKey }) => indexKey));
  const commitOf = new Map(commits.map((commit) => [commit.indexKey, commit]));
  const duties: Duty[] = [];

  for (const [key, versions] of byKey) {
    const parsed = parseKey(key);
    if (parsed?.type !== 'index' && parsed?.type !== 'segment') continue;
    const due = (held: HeldVersion): string | undefined => {
      const ageMs = nowMs - held.modifiedMs;
      if (parsed.type === 'index') {
        if (liveIndexes.has(key)) return undefined;
        if (commitOf.has(key)) return 'its snapshot has ended (R2)';
        return unreadableEndMs(parsed.snapshot, held, maxAgeMs) <= nowMs
          ? 'an unreadable index past its time (R2)'
          : undefined;
      }
      if (ageMs > ceilingMs) return 'older than the ceiling (R5)';
      if (failClosed || named.has(key)) return undefined;
      return ageMs > graceMs ? 'named by no live index and older than the grace (R4)' : undefined;
    };
    const contents = versions.filter(({ bytes }) => bytes);
    const going = contents.filter((held) => due(held) !== undefined);
    for (const held of going) duties.push({ held, why: due(held)! });
    if (going.length < contents.length) continue;
    for (const held of versions)
      if (!held.bytes && (going.length > 0 || due(held) !== undefined))
        duties.push({ held, why: 'a trace of what is gone (R8)' });
  }
  // Temporary files of a directory belong to nobody: the longest grace of all hosts counts.
  const isOurs = (key: string): boolean =>
    parseKey(key)?.host === host || (key.startsWith('.') && prune.hosts.length === 1);
  const stranded = prune.uploads.filter(
    ({ key, startedAt }) => isOurs(key) && nowMs - startedAt!.getTime() > graceMs,
  );
  return { duties, failClosed, stranded };
}

/**
 * When an index that nobody can read is past for certain. The rules leave open whether its name counts (R9 takes the
 * earlier of two times, but of a snapshot whose start is signed), so the later one is taken.
 */
const unreadableEndMs = (snapshot: string, { modifiedMs }: HeldVersion, maxAgeMs: number): number =>
  Math.max(parseSnapshotId(snapshot)!.startedAt.getTime(), modifiedMs) + maxAgeMs;

/** Whether a careful pruner may doubt that it knows all live indexes (R6). */
function hasDoubts(
  byKey: ReadonlyMap<string, readonly HeldVersion[]>,
  commits: readonly Commit[],
  live: readonly Commit[],
  { nowMs, maxAgeMs }: { readonly nowMs: number; readonly maxAgeMs: number },
): boolean {
  const known = new Map(commits.map((commit) => [commit.snapshot, commit]));
  for (const [key, versions] of byKey) {
    const parsed = parseKey(key);
    if (parsed?.type !== 'index' || known.has(parsed.snapshot)) continue;
    if (versions.some((held) => held.bytes && unreadableEndMs(parsed.snapshot, held, maxAgeMs) > nowMs))
      return true;
  }
  return live.some(({ previous, sequence }) => {
    if (previous === undefined) return false;
    const before = known.get(previous.snapshot);
    return before ? before.sequence + 1 !== sequence : previous.endsMs > nowMs;
  });
}
