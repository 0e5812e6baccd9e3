import { randomInt } from 'node:crypto';
import { rfc3339, runningFrom } from '../clock.ts';
import { messageOf } from '../errors.ts';
import { standingOf, type Finding } from '../policy/audit-facts.ts';
import { foreignObjects, judgeSample } from '../policy/audit-rules.ts';
import { judgeStore, type StoreClock } from '../policy/audit-store.ts';
import { surveyedHosts, type HostSurvey } from '../snapshot/survey.ts';
import { toolVersion } from '../version.ts';
import { memoryFile, readMemory, remember, writeMemory, type Memory } from './audit-memory.ts';
import { describeHost, type AuditDocument, type HostDocument } from './audit-document.ts';
import { printAudit } from './audit-print.ts';
import { prepareReport, verifyReport, type ReportOptions } from './audit-report.ts';
import { chooseSample, readSample } from './audit-sample.ts';
import { bucketFindings, readAllowed, readClock, strayObjects, unfinishedWrites } from './audit-store.ts';
import { lookAtHost, type AuditedHost } from './audit-survey.ts';
import type { Context, Outcome } from './context.ts';
import { absentHost, openReaderSession, type ReaderSession } from './reader-session.ts';

export interface AuditOptions extends ReportOptions {
  readonly host?: string;
  readonly verify?: string;
}

/** Proves the promises without any private key, or says what is broken (exit code 20). */
export async function audit(context: Context, options: AuditOptions): Promise<Outcome> {
  if (options.verify !== undefined) return verifyReport(context, options.verify, options);
  const report = await prepareReport(context, options);
  await using session = await openReaderSession(context);
  const document = await auditStore(session, context, options);
  const files = await report?.write(document);
  if (context.json) context.output.json(document);
  else printAudit(context, document, files ?? []);
  return document.ok ? undefined : 'promise-broken';
}

/** Looks at every host of the store, or one, and at the store itself; remembers what was seen for the next time. */
async function auditStore(
  session: ReaderSession,
  context: Context,
  options: { readonly host?: string },
): Promise<AuditDocument> {
  const { config, store } = session;
  const { signal } = context;
  const { clock, now } = await readClock(session, context);
  const nowMs = now.getTime();
  const time = runningFrom(now, context.clock);
  const file = memoryFile(config, context.environment);
  const memory = readMemory(file);
  const recipients = await readAllowed(session, context);

  const hosts: AuditedHost[] = [];
  const findings: Finding[] = [];
  const described: HostDocument[] = [];
  const names = await hostsToAudit(session, memory, options.host, signal);
  for (const host of names) {
    const looked = await lookAtHost(session, host, { time, memory, allowed: recipients.allowed, signal });
    findings.push(...looked.findings);
    // A folder that holds nothing of ours is no host, unless one was there.
    if (isEmpty(looked.survey) && looked.facts.seen.size === 0 && !looked.facts.pinned) continue;
    const { live } = standingOf(looked.facts);
    const liveIds = new Set(live.map(({ snapshot }) => snapshot));
    const chosen = chooseSample(
      looked.survey.snapshots.filter(({ index }) => liveIds.has(index.snapshot)),
      randomInt,
    );
    const sample = await readSample(store, host, chosen, signal);
    const ofSample = judgeSample(sample);
    findings.push(...ofSample);
    hosts.push(looked);
    described.push(
      describeHost(looked, {
        keys: (session.trust.get(host) ?? []).map((key) => key.getFingerprint().toUpperCase()),
        sampled: sample.length,
        findings: looked.findings.length + ofSample.length,
        remembered: memory?.has(host) === true,
      }),
    );
  }
  findings.push(
    ...judgeStore({
      address: store.address,
      nowMs,
      clock,
      unfinished: await unfinishedWrites(session, hosts, options.host, signal),
      recipientProblems: recipients.problems,
    }),
    ...(await bucketFindings(session, hosts, signal)),
    ...(options.host === undefined ? foreignObjects('', await strayObjects(session, names, signal)) : []),
    ...(await keepMemory(
      file,
      store.address,
      remember(
        memory,
        hosts.map(({ facts }) => facts),
        nowMs,
      ),
    )),
  );
  return documentOf(session, now, clock, described, findings);
}

const isEmpty = ({ objects, companions }: HostSurvey): boolean => objects.length + companions.length === 0;

/** The hosts of the store, those that were in it the last time, and those whose keys are pinned: they ought to be there. */
async function hostsToAudit(
  session: ReaderSession,
  memory: Memory | undefined,
  asked: string | undefined,
  signal: AbortSignal,
): Promise<string[]> {
  const known = new Set([...(await surveyedHosts(session.store, signal)), ...(memory?.keys() ?? [])]);
  const expected = known.size > 0 ? session.trust.keys() : [];
  const wanted = [...new Set([...known, ...expected])].toSorted();
  if (asked !== undefined && known.has(asked)) return [asked];
  if (asked === undefined && wanted.length > 0) return wanted;
  throw absentHost(session, asked, [...known]);
}

async function keepMemory(file: string, address: string, memory: Memory): Promise<Finding[]> {
  try {
    await writeMemory(file, address, memory);
    return [];
  } catch (error) {
    const message =
      `what was seen could not be written to ${file} (${messageOf(error)}), so the next audit cannot tell whether the ` +
      'store was set back. Make the folder writable.';
    return [{ rule: 'memory', severity: 'warning', subject: file, message }];
  }
}

function documentOf(
  { store }: ReaderSession,
  now: Date,
  clock: StoreClock,
  hosts: readonly HostDocument[],
  findings: readonly Finding[],
): AuditDocument {
  const sum = (of: (host: HostDocument) => number): number =>
    hosts.reduce((total, host) => total + of(host), 0);
  return {
    format: 'sealift-audit/1',
    ok: !findings.some(({ severity }) => severity === 'broken'),
    checkedAt: rfc3339(now),
    clock: 'storeMs' in clock ? 'store' : 'local',
    store: store.address,
    tool: `sealift ${toolVersion()}`,
    findings: findings.toSorted(
      (a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'),
    ),
    oldestSnapshot: oldest(hosts.map(({ oldestSnapshot }) => oldestSnapshot)),
    oldestObject: oldest(hosts.map(({ oldestObject }) => oldestObject)),
    snapshots: sum(({ snapshots }) => snapshots),
    objects: sum(({ objects }) => objects),
    bytes: sum(({ bytes }) => bytes),
    sampled: sum(({ sampled }) => sampled),
    hosts: [...hosts],
  };
}

const oldest = (times: readonly (string | null)[]): string | null =>
  times.filter((time) => time !== null).toSorted()[0] ?? null;
