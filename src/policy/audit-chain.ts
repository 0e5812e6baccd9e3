import { wasSetBack, rfc3339 } from '../clock.ts';
import { type AuditedSnapshot, type Finding, type HostFacts, type Standing } from './audit-facts.ts';

/**
 * Whether history is whole: each snapshot of a job names the one before it by the hash of its index, numbers leave no
 * gap, and nothing is missing that this auditor saw before. A host that lowered maxAge has pruned by the new value, so
 * the newest snapshot tells what may be gone.
 */
export function judgeChain(
  { host, nowMs, snapshots, unreadable }: HostFacts,
  standing: Standing,
): { findings: Finding[]; missing: boolean } {
  const { counted, currentMaxAgeMs } = standing;
  // Also those dated in the future, which do not count but are there.
  const byId = new Map(snapshots.map((snapshot) => [snapshot.snapshot, snapshot]));
  const cannotBeRead = new Set(unreadable.map(({ snapshot }) => snapshot));
  const bySequence = new Map<string, AuditedSnapshot>();
  const findings: Finding[] = [];
  let missing = false;
  for (const snapshot of counted) {
    const { job, sequence, previous, startedMs, maxAge } = snapshot;
    const broken = (message: string): void => {
      const subject = `${host}/snap/${snapshot.snapshot}/index.json.gpg`;
      findings.push({ rule: 'chain', severity: 'broken', subject, message });
    };
    const twin = bySequence.get(`${job} ${sequence}`);
    bySequence.set(`${job} ${sequence}`, snapshot);
    if (twin)
      broken(
        `has the same sequence number ${sequence} as ${twin.snapshot}: do two machines use one host name, or was a host ` +
          'set back? Give each machine a name of its own.',
      );
    // With a number like that it was not the first.
    if (!twin && !previous && sequence > 1 && standing.live.includes(snapshot))
      findings.push({
        rule: 'chain',
        severity: 'warning',
        subject: `${host}/snap/${snapshot.snapshot}/index.json.gpg`,
        message:
          `it is number ${sequence} of job ${job} and names none before it: when it was made, the store had none. Either ` +
          'all had ended, or the host got a new store, or somebody emptied this one.',
      });
    if (twin || !previous || cannotBeRead.has(previous.snapshot)) continue;
    const before = byId.get(previous.snapshot);
    const mayBeGoneMs = Math.min(
      previous.expiresMs ?? previous.startedMs + maxAge * 1000,
      previous.startedMs + (currentMaxAgeMs ?? maxAge * 1000),
    );
    if (!before && mayBeGoneMs > nowMs && !wasSetBack(previous.startedMs, startedMs)) {
      missing = true;
      broken(
        `its predecessor ${previous.snapshot} is gone before its time, ${rfc3339(mayBeGoneMs)}. ` +
          'Find out who deleted it. Sealift does that only where maxAge was lowered since: then the next snapshot settles it.',
      );
    } else if (before && before.sha256 !== previous.sha256)
      broken(`its predecessor ${previous.snapshot} was replaced by another. Find out who wrote it.`);
    else if (before && before.sequence + 1 !== sequence) {
      missing ||= startedMs + (currentMaxAgeMs ?? maxAge * 1000) > nowMs;
      broken(
        `a snapshot between ${previous.snapshot} and this one is missing: the store was set back, or somebody deleted it. ` +
          'Find out who.',
      );
    }
  }
  return { findings, missing };
}

/**
 * The store is not behind what this auditor saw the last time, but for what has ended since. A store that was emptied is
 * behind also when the host has gone on counting.
 */
export function judgeRollback(
  { host, nowMs, seen, snapshots, unreadable }: HostFacts,
  { currentMaxAgeMs }: Standing,
): Finding[] {
  return [...seen].flatMap(([job, last]) => {
    const endsMs = Math.min(last.endsMs, last.startedMs + (currentMaxAgeMs ?? Infinity));
    if (endsMs <= nowMs) return [];
    // Also of those dated in the future: they were seen before the clock was set right, and are told of as such.
    const newest = snapshots
      .filter((snapshot) => snapshot.job === job)
      .reduce<AuditedSnapshot | undefined>((a, b) => (a && a.sequence >= b.sequence ? a : b), undefined);
    const finding = (what: string): Finding[] => [
      {
        rule: 'rollback',
        severity: 'broken',
        subject: `${host}/${job}`,
        message:
          `this auditor has seen snapshot ${last.sequence}, ${last.snapshot}, which ends on ${rfc3339(endsMs)}; now the store ` +
          `${what}. It was set back or emptied: find out by whom, and make a backup now.`,
      },
    ];
    if (!newest) return finding('has none of this job');
    if (newest.sequence < last.sequence) return finding(`ends with ${newest.sequence}, ${newest.snapshot}`);
    if (newest.sequence === last.sequence)
      return newest.sha256 === last.sha256 ? [] : finding(`has another with this number, ${newest.snapshot}`);
    const isThere =
      snapshots.some(({ snapshot, sha256 }) => snapshot === last.snapshot && sha256 === last.sha256) ||
      unreadable.some(({ snapshot }) => snapshot === last.snapshot);
    return isThere ? [] : finding(`goes on to ${newest.sequence} without it`);
  });
}
