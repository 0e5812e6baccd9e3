import type { PublicKey } from 'openpgp';
import { wasSetBack } from '../../src/clock.ts';
import { parseKey, startOf } from '../../src/snapshot/object-key.ts';
import { mustBeGone } from './must-be-gone.ts';
import { readCommit, type Commit } from './record.ts';
import type { UnfinishedWrite } from '../../src/store/store.ts';
import type { Bucket, HeldVersion, Witness } from './bucket.ts';

/** A pruner at work. `own`: it prunes on the host itself, and the host's configuration is its own. */
export interface PruneRun {
  readonly by: string;
  /** Whose keys it knows. */
  readonly hosts: readonly string[];
  readonly own: string | undefined;
  readonly maxAgeMs: number;
  readonly windowMs: number;
}

/** What a pruner said at its end. */
export interface PruneReport {
  readonly failed: readonly { readonly key: string }[];
  readonly problems: readonly string[];
}

/** What lay in the store when a prune began, and the earliest that the store's clock said while it ran. */
export interface PruneScene extends PruneRun {
  lowestMs: number;
  readonly versions: readonly HeldVersion[];
  readonly commits: readonly Commit[];
  readonly uploads: readonly UnfinishedWrite[];
}

/** Somebody who is neither a backup nor a pruner: a thief, an accident. */
export const stranger = 'stranger';

/** `nowMs`: by the store's clock. `trueMs`: by one that never jumps. */
type Change = { readonly nowMs: number; readonly trueMs: number } & (
  | { readonly what: 'stored' | 'removed'; readonly held: HeldVersion; readonly by: string }
  | { readonly what: 'time' }
  | { readonly what: 'run-begins'; readonly by: string }
  | { readonly what: 'prune-begins'; readonly run: PruneRun; readonly uploads: readonly UnfinishedWrite[] }
  | {
      readonly what: 'prune-ends';
      readonly by: string;
      readonly report: PruneReport | undefined;
      readonly uploads: readonly UnfinishedWrite[];
    }
);

const hourMs = 3_600_000;
/** From the last look at the clock until the index is there. */
const commitMs = 60_000;

/**
 * Judges everything that happens in a bucket by rules R1 to R10 of docs/format.md, from which alone it was written. It
 * knows what was ever stored and removed, in order and with the store's time, and nothing of who did it but his name.
 *
 * Promised to people: until a snapshot ends, each object that it names is there, in some version, with the signed hash.
 * Promised to those who are in it: after a prune nothing is there that R2, R4, R5 and R8 say must be gone.
 */
export class Oracle implements Witness {
  readonly complaints: string[] = [];
  /** How much was looked at, so that a silent oracle can be told from a blind one. */
  readonly seen = { commits: 0, removals: 0, prunes: 0, duties: 0, stranded: 0, failClosed: 0, excused: 0 };
  readonly #bucket: Bucket;
  readonly #keysOf: (host: string) => readonly PublicKey[];
  #log: Change[] = [];
  /** Newest version first, as in the bucket, but as of the change that is being judged. */
  readonly #held = new Map<string, readonly HeldVersion[]>();
  readonly #commits = new Map<string, Commit>();
  /** Live commits by the objects that they name. */
  readonly #namedBy = new Map<string, Set<Commit>>();
  readonly #prunes = new Map<string, PruneScene>();
  /** When each run began, and the latest time that the store's clock has shown since then. */
  readonly #runs = new Map<string, { readonly begunMs: number; peakMs: number }>();
  #tideMs = -Infinity;

  constructor(bucket: Bucket, keysOf: (host: string) => readonly PublicKey[]) {
    this.#bucket = bucket;
    this.#keysOf = keysOf;
  }

  stored(held: HeldVersion, by: string): void {
    this.#note({ what: 'stored', held, by });
  }

  removed(held: HeldVersion, by: string): void {
    this.#note({ what: 'removed', held, by });
  }

  /** To be called before and after the store's clock jumps, and before anything is judged. */
  timeIs(): void {
    this.#note({ what: 'time' });
  }

  runBegins(by: string): void {
    this.#note({ what: 'run-begins', by });
  }

  pruneBegins(run: PruneRun): void {
    this.#note({ what: 'prune-begins', run, uploads: this.#bucket.uploads });
  }

  /** Without a report it did not come to its end, and owes nothing. */
  pruneEnds(by: string, report: PruneReport | undefined): void {
    this.#note({ what: 'prune-ends', by, report, uploads: this.#bucket.uploads });
  }

  /** Judges what happened since the last time. */
  async judge(): Promise<void> {
    this.timeIs();
    const changes = this.#log;
    this.#log = [];
    for (const change of changes) await this.#follow(change);
    for (const commit of this.#commits.values()) if (!commit.ended) this.#expectWhole(commit);
  }

  /** Live snapshots with nothing lost: something to try and open. */
  live(): readonly Commit[] {
    return [...this.#commits.values()].filter(({ ended, lost }) => !ended && lost.size === 0);
  }

  #note(
    change: Change extends infer C ? (C extends Change ? Omit<C, 'nowMs' | 'trueMs'> : never) : never,
  ): void {
    const { nowMs, trueMs } = this.#bucket;
    this.#log.push({ ...change, nowMs, trueMs });
  }

  async #follow(change: Change): Promise<void> {
    this.#passTime(change.nowMs);
    switch (change.what) {
      case 'time':
        return;
      case 'run-begins':
        this.#runs.set(change.by, { begunMs: change.trueMs, peakMs: change.nowMs });
        return;
      case 'stored':
        return this.#store(change.held, change.by, change.trueMs);
      case 'removed':
        return this.#remove(change.held, change.by, change.nowMs);
      case 'prune-begins':
        this.#prunes.set(change.run.by, {
          ...change.run,
          lowestMs: change.nowMs,
          versions: [...this.#held.values()].flat(),
          commits: [...this.#commits.values()].filter((commit) => this.#hasIndex(commit)),
          uploads: change.uploads,
        });
        return;
      case 'prune-ends':
        return this.#close(change.by, change.report, change.uploads);
    }
  }

  /** Ends what may be ended from now on (R2), and remembers how far clocks went. */
  #passTime(nowMs: number): void {
    this.#tideMs = Math.max(this.#tideMs, nowMs);
    for (const run of this.#runs.values()) run.peakMs = Math.max(run.peakMs, nowMs);
    for (const prune of this.#prunes.values()) prune.lowestMs = Math.min(prune.lowestMs, nowMs);
    for (const commit of this.#commits.values()) {
      if (commit.ended) continue;
      const ages = [...this.#prunes.values()].filter(({ own }) => own === commit.host);
      const maxAgeMs = Math.min(commit.maxAgeMs, ...ages.map(({ maxAgeMs }) => maxAgeMs));
      if (commit.bornMs + maxAgeMs <= this.#tideMs) this.#end(commit);
    }
  }

  #end(commit: Commit): void {
    commit.ended = true;
    for (const key of commit.names.keys()) this.#namedBy.get(key)?.delete(commit);
  }

  async #store(held: HeldVersion, by: string, trueMs: number): Promise<void> {
    const known = this.#held.get(held.key) ?? [];
    this.#held.set(held.key, held.version === undefined ? [held] : [held, ...known]);
    const key = parseKey(held.key);
    if (by === stranger) {
      if (held.version === undefined) this.#lose(held.key);
      return;
    }
    if (key?.type !== 'index' || this.#commits.has(held.key)) return;
    const commit = await readCommit(held, this.#keysOf(key.host));
    if (!commit) return this.#complain(`${by} stored an index that cannot be verified: ${held.key}`);
    this.seen.commits++;
    this.#commits.set(held.key, commit);
    this.#judgeRun(commit, by, trueMs);
    for (const name of commit.names.keys()) {
      const by = this.#namedBy.get(name) ?? new Set();
      this.#namedBy.set(name, by.add(commit));
    }
    if (commit.bornMs + commit.maxAgeMs <= this.#tideMs) this.#end(commit);
    else this.#expectWhole(commit);
  }

  /**
   * R7: nobody commits after the run limit. Of a run that kept to it and saw the store's clock jump far ahead nothing is
   * promised: by that time what it re-uses was garbage, and a pruner may have believed it.
   */
  #judgeRun(commit: Commit, by: string, trueMs: number): void {
    const run = this.#runs.get(by);
    if (!run) return;
    this.#runs.delete(by);
    const graceLeftMs = (commit.maxAgeMs - commit.windowMs) / 2;
    const limitMs = graceLeftMs - hourMs;
    const ranMs = trueMs - run.begunMs;
    if (ranMs > limitMs + commitMs)
      return this.#complain(
        `${by} committed after ${hours(ranMs)}, beyond its limit of ${hours(limitMs)} (R7)`,
      );
    if (run.peakMs - commit.startedMs <= graceLeftMs) return;
    this.seen.excused++;
    for (const key of commit.names.keys()) commit.lost.add(key);
  }

  #remove(held: HeldVersion, by: string, nowMs: number): void {
    const left = this.#held.get(held.key)!.filter(({ version }) => version !== held.version);
    if (left.length > 0) this.#held.set(held.key, left);
    else this.#held.delete(held.key);
    if (by === stranger) return this.#lose(held.key);
    this.seen.removals++;
    const prune = this.#prunes.get(by);
    const key = parseKey(held.key);
    const wrong = (why: string): void => this.#complain(`${by} removed ${held.key}, ${why}`);
    if (!prune) return wrong('and is no pruner');
    if (key?.type !== 'index' && key?.type !== 'segment') return wrong('which is not for pruners to touch');
    if (!prune.hosts.includes(key.host)) return wrong('of a host whose key it does not know (R10)');
    if (key.type === 'index') {
      const commit = this.#commits.get(held.key);
      if (commit && !commit.ended && !commit.lost.has(held.key)) wrong('an index that has not ended (R2)');
      return;
    }
    for (const commit of this.#namedBy.get(held.key) ?? []) {
      if (commit.lost.has(held.key) || commit.names.get(held.key) !== held.sha256) continue;
      if (isForgotten(commit, prune, this.#tideMs)) commit.lost.add(held.key);
      else wrong(`which ${commit.snapshot} needs (R3)`);
    }
    if (held.bytes) this.#expectOldEnough(prune, key.host, nowMs - held.modifiedMs, wrong);
  }

  /** R4 and R5 from the other side: nothing goes before its time, and less where an index is in doubt (R6). */
  #expectOldEnough(prune: PruneScene, host: string, ageMs: number, wrong: (why: string) => void): void {
    const commits = prune.commits.filter((commit) => commit.host === host && !commit.ended);
    const limits = prune.own === host ? [...commits, prune] : commits;
    const graceMs = Math.max(0, ...limits.map(({ maxAgeMs, windowMs }) => (maxAgeMs + windowMs) / 2));
    if (ageMs <= graceMs) wrong(`${hours(ageMs)} old, within the grace of ${hours(graceMs)} (R4)`);
    const doubtful = this.#doubtful(prune, host);
    const ceilingMs = Math.max(0, ...limits.map(({ maxAgeMs, windowMs }) => maxAgeMs + windowMs));
    if (doubtful && ageMs <= ceilingMs)
      wrong(`${hours(ageMs)} old, although ${doubtful.snapshot} cannot be read (R6)`);
  }

  /** A snapshot that should be live, whose index lay there in no good version all the time since a prune began. */
  #doubtful(prune: PruneScene, host: string): Commit | undefined {
    return [...this.#commits.values()].find(
      (commit) =>
        commit.host === host &&
        !commit.ended &&
        prune.versions.some(({ key, bytes }) => key === commit.indexKey && bytes) &&
        !prune.versions.some(({ key, sha256 }) => key === commit.indexKey && sha256 === commit.indexSha256),
    );
  }

  #lose(key: string): void {
    this.#commits.get(key)?.lost.add(key);
    for (const commit of this.#namedBy.get(key) ?? []) commit.lost.add(key);
  }

  #close(by: string, report: PruneReport | undefined, uploads: readonly UnfinishedWrite[]): void {
    const prune = this.#prunes.get(by)!;
    this.#prunes.delete(by);
    if (!report) return;
    this.seen.prunes++;
    const failed = new Set(report.failed.map(({ key }) => key));
    for (const host of prune.hosts) {
      if (this.#doubtful(prune, host) && report.problems.length === 0)
        this.#complain(`${by} says nothing of an index of ${host} that cannot be read (R6)`);
      const { duties, failClosed, stranded } = mustBeGone(prune, host);
      const kept = heldBack(prune, failed);
      for (const { key, upload } of stranded)
        if (!failed.has(key) && uploads.some((left) => left.upload === upload))
          this.#complain(`${by} left an unfinished write of ${key} (R4)`);
      this.seen.stranded += stranded.length;
      this.seen.duties += duties.length;
      if (failClosed) this.seen.failClosed++;
      for (const { held, why } of duties) {
        const there = this.#held
          .get(held.key)
          ?.some(({ version, modifiedMs }) => version === held.version && modifiedMs === held.modifiedMs);
        if (there && !failed.has(held.key) && !kept.has(held.key))
          this.#complain(`${by} left ${nameOf(held)}: ${why}`);
      }
    }
  }

  #hasIndex({ indexKey, indexSha256 }: Commit): boolean {
    return this.#held.get(indexKey)?.some(({ sha256 }) => sha256 === indexSha256) ?? false;
  }

  #expectWhole(commit: Commit): void {
    if (!commit.lost.has(commit.indexKey) && !this.#hasIndex(commit))
      this.#complain(`the index of ${commit.snapshot} is gone before its time`);
    for (const [key, sha256] of commit.names)
      if (!commit.lost.has(key) && !this.#held.get(key)?.some((held) => held.sha256 === sha256))
        this.#complain(`${commit.snapshot} names ${key}, which is not there`);
  }

  #complain(text: string): void {
    this.complaints.push(`${new Date(this.#tideMs).toISOString()} ${text}`);
  }
}

/** What indexes name that could not be deleted before their signed end (R2). */
const heldBack = ({ commits, lowestMs }: PruneScene, failed: ReadonlySet<string>): Set<string> =>
  new Set(
    commits
      .filter(({ indexKey, bornMs, maxAgeMs }) => failed.has(indexKey) && bornMs + maxAgeMs > lowestMs)
      .flatMap(({ names }) => [...names.keys()]),
  );

/**
 * Somebody took its index, and nothing that lay there when the prune began tells that there ever was one: no later run,
 * or one of whose predecessor R6 asks nothing, since it ended, or by its date began after that run. A predecessor that is
 * there shows the gap.
 */
function isForgotten(commit: Commit, { versions, commits }: PruneScene, nowMs: number): boolean {
  if (versions.some(({ key, bytes }) => key === commit.indexKey && bytes)) return false;
  const ofJob = commits.filter(({ host, job }) => host === commit.host && job === commit.job);
  const later = ofJob
    .filter(({ sequence }) => sequence > commit.sequence)
    .toSorted((a, b) => a.sequence - b.sequence);
  const [next] = later;
  if (next?.previous === undefined) return true;
  const { snapshot, endsMs } = next.previous;
  if (ofJob.some((other) => other.snapshot === snapshot)) return false;
  const startedMs = startOf(snapshot);
  const maxAgeMs = Math.min(...later.map((other) => other.maxAgeMs));
  return wasSetBack(startedMs, next.startedMs) || Math.min(endsMs, startedMs + maxAgeMs) <= nowMs;
}

const hours = (ms: number): string => `${(ms / hourMs).toFixed(2)} h`;
const nameOf = ({ key, version, bytes }: HeldVersion): string =>
  `${bytes ? '' : 'a marker of '}${key}${version === undefined ? '' : ` (${version})`}`;
