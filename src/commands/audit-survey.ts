import { setTimeout } from 'node:timers/promises';
import { sentencesOf } from '../errors.ts';
import type { AllowedRecipient, AuditedSnapshot, Finding, HostFacts } from '../policy/audit-facts.ts';
import { judgeHost } from '../policy/audit-rules.ts';
import { futureToleranceMs, possibleMs } from '../policy/prune-plan.ts';
import { limitsOf } from '../policy/retention.ts';
import { longestGapSeconds } from '../policy/schedule.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import { objectsOf } from '../snapshot/index.ts';
import { parseKey, startOf } from '../snapshot/object-key.ts';
import { indexModified, keyOf, surveyHost, type HostSurvey } from '../snapshot/survey.ts';
import type { Memory } from './audit-memory.ts';
import type { ReaderSession } from './reader-session.ts';

export interface AuditedHost {
  readonly survey: HostSurvey;
  readonly facts: HostFacts;
  readonly findings: readonly Finding[];
}

export interface SurveyOptions {
  /** The store's time, for each look anew: what has ended by then may be gone. */
  readonly time: () => Date;
  readonly memory: Memory | undefined;
  readonly allowed: readonly AllowedRecipient[] | undefined;
  readonly signal: AbortSignal;
}

/** What backups and prunes that are under way may make look broken for a moment. */
const mayPass: ReadonlySet<string> = new Set([
  'expired-snapshot',
  'expired-object',
  'leftover',
  'presence',
  'chain',
  'rollback',
]);
const mostLooks = 5;
const betweenLooksMs = 1000;

/**
 * Looks at one host and judges it. A prune deletes an index first and then its objects, and a listing takes its time: so
 * what looks broken is looked at again, until it does not change any more.
 */
export async function lookAtHost(
  session: ReaderSession,
  host: string,
  options: SurveyOptions,
): Promise<AuditedHost> {
  const { store, trust, cache } = session;
  let before: string | undefined;
  for (let look = 1; ; look++) {
    const nowMs = options.time().getTime();
    const survey = await surveyHost(store, host, trust.get(host) ?? [], { signal: options.signal, cache });
    const facts = factsOf(session, survey, nowMs, options);
    const findings = judgeHost(facts);
    const passing = findings.filter(({ rule, severity }) => severity === 'broken' && mayPass.has(rule));
    const state = JSON.stringify(passing);
    if (passing.length === 0 || state === before || look === mostLooks) return { survey, facts, findings };
    before = state;
    await setTimeout(betweenLooksMs, undefined, { signal: options.signal });
  }
}

function factsOf(
  { config, trust }: ReaderSession,
  survey: HostSurvey,
  nowMs: number,
  { memory, allowed }: SurveyOptions,
): HostFacts {
  const { host } = survey;
  const objects = survey.objects.map((object) => {
    const folderMs = startOf(object.folder);
    return {
      ...object,
      modifiedMs: possibleMs(object.modifiedMs, folderMs),
      key: keyOf(host, object),
      folderMs,
    };
  });
  const intervalOf = intervals(nowMs);
  return {
    host,
    nowMs,
    pinned: trust.has(host),
    offered: survey.companions.flatMap(({ key, marker }) => {
      const parsed = marker ? undefined : parseKey(key);
      return parsed?.type === 'host-key' ? [parsed.fingerprint] : [];
    }),
    snapshots: survey.snapshots.map((snapshot) => auditedSnapshot(snapshot, intervalOf)),
    unreadable: survey.unreadable.map(({ snapshot, error }) => ({
      snapshot,
      startedMs: startOf(snapshot),
      modifiedMs: possibleMs(indexModified(survey, snapshot), startOf(snapshot)),
      reason: sentencesOf(error),
    })),
    objects,
    // A folder that is dated in the future is a finding of its own.
    misdated: survey.objects.filter(
      ({ modifiedMs }, i) =>
        objects[i]!.modifiedMs !== modifiedMs && objects[i]!.folderMs <= nowMs + futureToleranceMs,
    ).length,
    foreign: survey.foreign.filter(({ marker }) => !marker).map(({ key }) => key),
    seen: memory?.get(host) ?? new Map(),
    allowed,
    configured: limitsOf(config),
    jobs: config.host === host ? new Set(config.jobs.map(({ name }) => name)) : undefined,
  };
}

function auditedSnapshot(
  { index, object, sha256 }: Snapshot,
  intervalOf: (schedule: string, timezone: string) => number | undefined,
): AuditedSnapshot {
  const { previous } = index;
  return {
    snapshot: index.snapshot,
    job: index.job,
    sequence: index.sequence,
    sha256,
    startedMs: Date.parse(index.startedAt),
    finishedMs: Date.parse(index.finishedAt),
    modifiedMs: possibleMs(object.lastModified.getTime(), startOf(index.snapshot)),
    maxAge: index.maxAge,
    reuseWindow: index.reuseWindow,
    previous: previous
      ? {
          snapshot: previous.snapshot,
          sha256: previous.sha256,
          startedMs: startOf(previous.snapshot),
          expiresMs: previous.expiresAt === undefined ? undefined : Date.parse(previous.expiresAt),
        }
      : undefined,
    schedule: index.schedule,
    intervalMs: intervalOf(index.schedule, index.timezone),
    complete: index.status === 'complete',
    recipients: index.recipients,
    folderRecipients: index.folders.flatMap(({ recipients }) => recipients),
    objects: objectsOf(index),
  };
}

/** The longest interval of each signed schedule, looked up once. */
function intervals(nowMs: number): (schedule: string, timezone: string) => number | undefined {
  const known = new Map<string, number | undefined>();
  return (schedule, timezone) => {
    const name = `${schedule} ${timezone}`;
    if (!known.has(name)) known.set(name, longestInterval(schedule, timezone, nowMs));
    return known.get(name);
  };
}

function longestInterval(schedule: string, timezone: string, nowMs: number): number | undefined {
  try {
    return longestGapSeconds(schedule, timezone, nowMs) * 1000;
  } catch {
    return undefined; // of another version of sealift, or forged by the host: the finding says that it cannot be read
  }
}
