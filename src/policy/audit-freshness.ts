import { rfc3339 } from '../clock.ts';
import {
  startToleranceMs,
  type AuditedSnapshot,
  type Finding,
  type HostFacts,
  type Standing,
} from './audit-facts.ts';

/**
 * Backups are made as often as the host signed that they would be. Between two starts of a job, and since the last one,
 * lie at most twice the longest interval of its schedule (so one run may fail), the longest run that was seen (a run
 * that is under way does not show, and the next one waits for it), and a quarter of an hour until a run starts.
 */
export function judgeFreshness(facts: HostFacts, { live }: Standing): Finding[] {
  const { host, jobs } = facts;
  const byJob = Map.groupBy(live, ({ job }) => job);
  const lacking = [...(jobs ?? [])].filter((job) => !byJob.has(job));
  if (live.length === 0 && lacking.length === 0)
    return [
      {
        rule: 'no-snapshots',
        severity: 'warning',
        subject: host,
        message:
          'this host has no live snapshot: nothing of it can be restored. If it still runs, see `sealift status` there; ' +
          'if it is gone for good, all that it stored is gone with it, as promised, and its pinned key can go too.',
      },
    ];
  return [
    ...lacking.map((job): Finding => ({
      rule: 'no-snapshots',
      severity: 'broken',
      subject: `${host}/${job}`,
      message:
        'this job is configured and has no live snapshot: nothing of it can be restored. See `sealift status`, and run ' +
        '`sealift backup`.',
    })),
    ...[...byJob].flatMap(([job, snapshots]) =>
      judgeJob(`${host}/${job}`, job, snapshots.toSorted(byStart), facts),
    ),
  ];
}

function judgeJob(
  subject: string,
  job: string,
  snapshots: readonly AuditedSnapshot[],
  facts: HostFacts,
): Finding[] {
  const { host, nowMs, jobs } = facts;
  // The store took the index in when all was over: a host that signs a later end hides how old its last snapshot is.
  const longestRunMs = snapshots.reduce(
    (longest, { startedMs, finishedMs, modifiedMs }) =>
      Math.max(longest, Math.min(finishedMs, modifiedMs) - startedMs),
    0,
  );
  const findings: Finding[] = [];
  const limitFor = (...intervals: (number | undefined)[]): number =>
    2 * Math.max(...intervals.map((interval) => interval ?? Infinity)) + longestRunMs + startToleranceMs;
  for (const [i, later] of snapshots.entries()) {
    const earlier = snapshots[i - 1];
    if (!earlier) continue;
    const limitMs = limitFor(earlier.intervalMs, later.intervalMs);
    const gapMs = later.startedMs - predecessorMs(earlier, later, nowMs);
    if (gapMs > limitMs)
      findings.push({
        rule: 'gap',
        severity: 'broken',
        subject: `${host}/snap/${later.snapshot}/`,
        message:
          `there is no backup of job ${job} in the ${spanOf(gapMs)} before it; its schedule "${later.schedule}" allows ` +
          `${spanOf(limitMs)}. Find out why the host made none; this finding ends on ${rfc3339(earlier.startedMs + earlier.maxAge * 1000)}.`,
      });
  }
  const [oldest] = snapshots;
  const before = facts.snapshots.find(({ snapshot }) => snapshot === oldest!.previous?.snapshot);
  const limitBeforeMs = limitFor(oldest!.intervalMs, ...(before ? [before.intervalMs] : []));
  findings.push(...gapBefore(host, oldest!, limitBeforeMs));
  const newest = snapshots.at(-1)!;
  if (newest.intervalMs === undefined)
    findings.push({
      rule: 'stale',
      severity: 'warning',
      subject,
      message: `its schedule "${newest.schedule}" cannot be read, so nobody can say whether its backups are fresh`,
    });
  const limitMs = limitFor(newest.intervalMs);
  if (nowMs - newest.startedMs > limitMs) findings.push(stale(subject, job, newest, limitMs, jobs));
  if (!newest.complete)
    findings.push({
      rule: 'partial',
      severity: 'warning',
      subject,
      message: `the newest snapshot, ${newest.snapshot}, is partial: \`sealift show ${newest.snapshot}\` says what is lacking`,
    });
  return findings;
}

/**
 * When the one before `later` began. Where maxAge was lowered for a while, what was made then has ended, and older ones have
 * not: between two that are live there need be no gap, and the signed predecessor tells, where their numbers leave room for it.
 */
function predecessorMs(
  earlier: AuditedSnapshot,
  { previous, maxAge, sequence }: AuditedSnapshot,
  nowMs: number,
): number {
  const hasEnded =
    previous !== undefined && sequence > earlier.sequence + 1 && predecessorEnd(previous, maxAge) <= nowMs;
  return hasEnded ? Math.max(earlier.startedMs, previous.startedMs) : earlier.startedMs;
}

const predecessorEnd = (
  { startedMs, expiresMs }: NonNullable<AuditedSnapshot['previous']>,
  maxAge: number,
): number => expiresMs ?? startedMs + maxAge * 1000;

/**
 * The gap before the oldest snapshot that is live. The one before has ended, and with it what its schedule was: a gap is
 * certain only where there was nothing to restore for a while.
 */
function gapBefore(host: string, oldest: AuditedSnapshot, limitMs: number): Finding[] {
  const { previous, startedMs, snapshot, job, maxAge } = oldest;
  if (!previous) return [];
  const gapMs = startedMs - previous.startedMs;
  if (gapMs <= limitMs) return [];
  const endedMs = predecessorEnd(previous, maxAge);
  const isSure = endedMs + startToleranceMs < startedMs;
  const nothing = isSure ? `, and from ${rfc3339(endedMs)} on nothing could be restored` : '';
  return [
    {
      rule: 'gap',
      severity: isSure ? 'broken' : 'warning',
      subject: `${host}/snap/${snapshot}/`,
      message:
        `there is no backup of job ${job} in the ${spanOf(gapMs)} before it${nothing}; its schedule "${oldest.schedule}" ` +
        `allows ${spanOf(limitMs)}. Find out why the host made none; this finding ends on ${rfc3339(startedMs + maxAge * 1000)}.`,
    },
  ];
}

function stale(
  subject: string,
  job: string,
  newest: AuditedSnapshot,
  limitMs: number,
  jobs: ReadonlySet<string> | undefined,
): Finding {
  const ends = rfc3339(newest.startedMs + newest.maxAge * 1000);
  const since = `the newest snapshot is of ${rfc3339(newest.startedMs)}`;
  if (jobs !== undefined && !jobs.has(job))
    return {
      rule: 'stale',
      severity: 'warning',
      subject,
      message: `${since}, and the job is not configured any more: what is left ends on ${ends}`,
    };
  return {
    rule: 'stale',
    severity: 'broken',
    subject,
    message:
      `${since}; its schedule "${newest.schedule}" allows ${spanOf(limitMs)}. See \`sealift status\` on the host: the last ` +
      `snapshot ends on ${ends}, and then there is nothing to restore. If all is well there, as its schedule is slower by ` +
      'now, `sealift backup` signs the new one.',
  };
}

const byStart = (a: AuditedSnapshot, b: AuditedSnapshot): number =>
  a.startedMs - b.startedMs || a.sequence - b.sequence;

/** `2 h 15 min`, rounded up. */
function spanOf(ms: number): string {
  const minutes = Math.ceil(ms / 60_000);
  return [
    ...(minutes >= 60 ? [`${Math.floor(minutes / 60)} h`] : []),
    ...(minutes % 60 > 0 || minutes === 0 ? [`${minutes % 60} min`] : []),
  ].join(' ');
}
