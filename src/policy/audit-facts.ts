import { futureToleranceMs } from './prune-plan.ts';
import { largestOf, type Limits, type LimitsMs } from './retention.ts';

/**
 * What the audit rules are given: plain data of one host's folder, gathered without any private key. Times are
 * milliseconds since 1970, by the store's clock.
 */

export interface Finding {
  readonly rule: AuditRule;
  /** One that is `broken` breaks a promise: exit 20. */
  readonly severity: 'broken' | 'warning';
  /** A host, a job (`h1/databases`), a key, or a folder of keys. */
  readonly subject: string;
  /** What is the matter and what to do, for people. */
  readonly message: string;
}

export type AuditRule =
  | 'promise'
  | 'expired-snapshot'
  | 'expired-object'
  | 'leftover'
  | 'foreign-object'
  | 'presence'
  | 'signature'
  | 'chain'
  | 'rollback'
  | 'future'
  | 'gap'
  | 'stale'
  | 'partial'
  | 'no-snapshots'
  | 'recipients'
  | 'sealed'
  | 'clock'
  | 'bucket'
  | 'memory';

/** A snapshot whose index was verified. */
export interface AuditedSnapshot extends Limits {
  readonly snapshot: string;
  readonly job: string;
  readonly sequence: number;
  /** Of the stored index. */
  readonly sha256: string;
  readonly startedMs: number;
  readonly finishedMs: number;
  /** When the store took the index in. */
  readonly modifiedMs: number;
  readonly previous:
    | {
        readonly snapshot: string;
        readonly sha256: string;
        readonly startedMs: number;
        readonly expiresMs: number | undefined;
      }
    | undefined;
  readonly schedule: string;
  /** The longest time between two starts that the signed schedule knows; undefined if it cannot be read. */
  readonly intervalMs: number | undefined;
  readonly complete: boolean;
  readonly recipients: readonly AuditedRecipient[];
  /** Whatever else the objects that it names are sealed to. */
  readonly folderRecipients: readonly AuditedRecipient[];
  readonly objects: readonly NamedObject[];
}

export interface AuditedRecipient {
  readonly primary: string;
  readonly subkey: string;
}

export interface NamedObject {
  readonly folder: string;
  readonly id: string;
  readonly storedBytes: number;
}

/** A snapshot whose index could not be read or verified. */
export interface AuditedUnreadable {
  readonly snapshot: string;
  /** By its id. */
  readonly startedMs: number;
  readonly modifiedMs: number;
  readonly reason: string;
}

/** One version of an object below `snap/`, or the marker of a deletion. */
export interface AuditedObject {
  readonly key: string;
  readonly folder: string;
  /** When the snapshot of this folder began, by its id. */
  readonly folderMs: number;
  /** The id of a segment; undefined for an index. */
  readonly segment: string | undefined;
  readonly modifiedMs: number;
  readonly sizeBytes: number;
  readonly marker: boolean;
}

/** The newest snapshot of a job that this auditor saw the last time. */
export interface SeenSnapshot {
  readonly sequence: number;
  readonly snapshot: string;
  readonly sha256: string;
  readonly startedMs: number;
  readonly endsMs: number;
}

/** A key that backups may be sealed to, with all its subkeys. */
export interface AllowedRecipient {
  readonly primary: string;
  readonly subkeys: readonly string[];
}

export interface HostFacts {
  readonly host: string;
  readonly nowMs: number;
  /** Whether a key of this host is pinned; if none is, the fingerprints that the store offers. */
  readonly pinned: boolean;
  readonly offered: readonly string[];
  /** Oldest first. */
  readonly snapshots: readonly AuditedSnapshot[];
  readonly unreadable: readonly AuditedUnreadable[];
  /** Sorted by key: the versions of one object follow each other. */
  readonly objects: readonly AuditedObject[];
  readonly foreign: readonly string[];
  /** Job → what was seen. */
  readonly seen: ReadonlyMap<string, SeenSnapshot>;
  /** Objects that the store dates before the run that wrote them; their age counts from the start of that run. */
  readonly misdated: number;
  /** Undefined where the auditor has no list of them. */
  readonly allowed: readonly AllowedRecipient[] | undefined;
  /** The auditor's configuration. */
  readonly configured: Limits;
  /** The jobs of the configuration, if it is that of this very host: one that is not there any more may end. */
  readonly jobs: ReadonlySet<string> | undefined;
}

const minuteMs = 60_000;

/** A pruner that runs from cron may be so late. */
export const lateToleranceMs = 120 * minuteMs;
/** A run may start so long after its time. */
export const startToleranceMs = 15 * minuteMs;

/** What follows from the facts, and several rules need. */
export interface Standing extends LimitsMs {
  /** Without what is dated in the future. */
  readonly counted: readonly AuditedSnapshot[];
  readonly live: readonly AuditedSnapshot[];
  /** Live, or ended so lately that no pruner need have come. */
  readonly kept: readonly AuditedSnapshot[];
  /** Of the newest live snapshot, and on the host its configuration: a host that lowered maxAge has pruned by it. */
  readonly currentMaxAgeMs: number | undefined;
}

/** When a snapshot ends (rules R2 and R9). */
export const endOf = ({
  startedMs,
  modifiedMs,
  maxAge,
}: Pick<AuditedSnapshot, 'startedMs' | 'modifiedMs' | 'maxAge'>): number =>
  Math.min(startedMs, modifiedMs) + maxAge * 1000;

export function standingOf({ nowMs, snapshots, configured, jobs }: HostFacts): Standing {
  const counted = snapshots.filter(({ startedMs }) => startedMs <= nowMs + futureToleranceMs);
  const live = counted.filter((snapshot) => endOf(snapshot) > nowMs);
  const kept = counted.filter((snapshot) => endOf(snapshot) + lateToleranceMs >= nowMs);
  // The limits are those that the host signed. Its own configuration may be newer than its last snapshot.
  const binding: readonly Limits[] = [
    ...(kept.length > 0 ? kept : counted),
    ...(kept.length === 0 || jobs !== undefined ? [configured] : []),
  ];
  return {
    counted,
    live,
    kept,
    currentMaxAgeMs: least(maxAgeOf(live), jobs === undefined ? undefined : configured.maxAge * 1000),
    ...largestOf(binding),
  };
}

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);

function maxAgeOf(live: readonly AuditedSnapshot[]): number | undefined {
  const newest = live.reduce<AuditedSnapshot | undefined>(
    (a, b) => (a && a.startedMs > b.startedMs ? a : b),
    undefined,
  );
  return newest && newest.maxAge * 1000;
}

/** What cannot be read is past when by its name and by its time it must be. */
export const unreadableEnd = (
  { startedMs, modifiedMs }: Pick<AuditedUnreadable, 'startedMs' | 'modifiedMs'>,
  maxAgeMs: number,
): number => Math.max(startedMs, modifiedMs) + maxAgeMs;
