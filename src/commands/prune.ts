import { runningFrom, type Clock } from '../clock.ts';
import { mapConcurrent } from '../concurrency.ts';
import { countOf } from '../count-of.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { formatSize, printable } from '../output.ts';
import { futureToleranceMs, planPrune, possibleMs, type PrunePlan } from '../policy/prune-plan.ts';
import { limitsOf } from '../policy/retention.ts';
import { objectsOf } from '../snapshot/index.ts';
import { formatKey, parseKey, segmentKey, startOf } from '../snapshot/object-key.ts';
import {
  indexModified,
  keyOf,
  surveyedHosts,
  surveyHost,
  type HostSurvey,
  type SurveyedObject,
} from '../snapshot/survey.ts';
import type { OwnKey } from '../seal/trust.ts';
import type { UnfinishedWrite } from '../store/store.ts';
import type { Context, Outcome } from './context.ts';
import { checkedStoreTime } from './host-store.ts';
import { ownKey } from './trusted.ts';
import { absentHost, openReaderSession, type ReaderSession } from './reader-session.ts';

export interface PruneOptions {
  readonly host?: string;
  readonly dryRun?: boolean;
}

/** What `prune --json` prints (docs/cli.md). */
export interface PruneSummary {
  readonly snapshots: readonly {
    readonly host: string;
    readonly snapshot: string;
    readonly reason: string;
  }[];
  /** Of all that the plan deletes, unfinished writes included: how many objects for which reason. */
  readonly reasons: readonly { readonly host: string; readonly reason: string; readonly objects: number }[];
  /** Versions and markers of objects that were deleted (that would be, in a dry run), indexes included. */
  readonly objects: number;
  readonly bytes: number;
  /** What stays of the hosts that were pruned. */
  readonly kept: number;
  readonly failed: readonly { readonly key: string; readonly reason: string }[];
  /** What was not done and why, and what the operator must know. */
  readonly problems: readonly string[];
  readonly dryRun: boolean;
  /** When the next snapshot of these hosts ends, by the store's clock (milliseconds since 1970). */
  readonly nextExpiryMs: number | undefined;
}

const deletesAtOnce = 16;

/** Deletes what has ended, and nothing else (docs/format.md, rules R2 to R10). Exit code 3 when something was refused. */
export async function prune(context: Context, options: PruneOptions): Promise<Outcome> {
  await using session = await openReaderSession(context);
  const summary = await pruneStore(session, context, options);
  if (context.json) context.output.json({ ...summary, nextExpiryMs: undefined });
  else print(context, summary);
  return summary.failed.length + summary.problems.length > 0 ? 'partial' : undefined;
}

/**
 * Prunes one host, or every host whose key is known. Independent of backups, safe beside any number of them and of other
 * prunes (rule R7). Throws `clock-wrong` (rule R9), and when the store cannot be listed.
 */
export async function pruneStore(
  session: ReaderSession,
  context: Context,
  options: PruneOptions,
): Promise<PruneSummary> {
  const { signal } = context;
  const now = await checkedStoreTime(session, context);
  const time = runningFrom(now, context.clock);
  const hosts = await surveyedHosts(session.store, signal, options.host);
  if (options.host !== undefined && hosts.length === 0)
    throw absentHost(session, options.host, await surveyedHosts(session.store, signal));
  const { work, problems } = await planHosts(session, context, hosts, { now, time });
  const deleting = new Deleting(context, options.dryRun === true);
  for (const one of work) await deletePlanned(session, context, one, deleting, now);
  problems.push(...(await abandonStranded(session, work, now, deleting, signal)));
  for (const problem of problems) context.log.warn(problem);

  return {
    snapshots: work.flatMap(({ host, plan }) => plan.snapshots.map((ending) => ({ host, ...ending }))),
    reasons: deleting.reasons(),
    objects: deleting.objects,
    bytes: deleting.bytes,
    kept: work.reduce((sum, { survey, plan }) => sum + survey.objects.length - plan.objects.length, 0),
    failed: deleting.failed,
    problems,
    dryRun: deleting.dryRun,
    nextExpiryMs: earliest(work.map(({ plan }) => plan.nextExpiryMs)),
  };
}

/** What is to be done of each host whose key is known, and why nothing of the others. */
async function planHosts(
  session: ReaderSession,
  context: Context,
  hosts: readonly string[],
  { now, time }: { now: Date; time: Clock },
): Promise<{ work: HostWork[]; problems: string[] }> {
  const key = await ownKey(session.config);
  const work: HostWork[] = [];
  const problems: string[] = [];
  for (const host of hosts) {
    const trusted = session.trust.get(host) ?? [];
    if (trusted.length === 0) {
      problems.push(
        `host ${host} is left alone: no key of it is trusted here (sealift keys trust FINGERPRINT)`,
      );
      continue;
    }
    try {
      const options = { signal: context.signal, cache: session.cache, tolerant: true };
      const survey = await surveyHost(session.store, host, trusted, options);
      reportForeign(context, survey);
      if (isStrange(survey)) problems.push(strange(host));
      else work.push(planHost(session, survey, { now, surveyed: time(), own: isOwn(session, survey, key) }));
    } catch (error) {
      if (!(error instanceof SealiftError)) throw error;
      // What may not or cannot be looked at must not keep the rest.
      const isOfThisHost =
        error.code === 'store-denied' ||
        (error.code === 'store-unavailable' && hosts.length > 1 && (await answers(session, context.signal)));
      if (!isOfThisHost) throw error;
      problems.push(`host ${host} is left alone: ${error.message}`);
    }
  }
  return { work, problems: [...problems, ...work.flatMap(({ problems }) => problems)] };
}

/** Whether a store answers; the listing of one of its hosts may have more than is read, or an error of its own. */
async function answers({ store }: ReaderSession, signal: AbortSignal): Promise<boolean> {
  try {
    await store.now(signal);
    return true;
  } catch {
    return false;
  }
}

/** Indexes first: a reader must not meet one whose segments are going. */
async function deletePlanned(
  { store }: ReaderSession,
  { log, signal }: Context,
  { host, plan, survey }: HostWork,
  deleting: Deleting,
  now: Date,
): Promise<void> {
  for (const { reason } of plan.objects) deleting.count(host, reason);
  for (const { snapshot, reason } of plan.snapshots) log.info({ host, snapshot }, `ends: ${reason}`);
  const indexes = plan.objects.filter(({ object }) => object.segment === undefined);
  const segments = plan.objects.filter(({ object }) => object.segment !== undefined);
  const remove = async (deletions: typeof plan.objects, held?: ReadonlySet<string>): Promise<void> => {
    await mapConcurrent(deletions, deletesAtOnce, async ({ object, reason }) => {
      const key = keyOf(host, object);
      if (held?.has(key) === true) return;
      log.debug({ key, version: object.version }, reason);
      await deleting.attempt(key, object.sizeBytes, () =>
        store.remove({ key, version: object.version }, signal),
      );
    });
    // A directory makes deletions durable here: no crash may bring an index back whose segments have gone.
    if (!deleting.dryRun && deletions.length > 0) await store.settle();
  };
  await remove(indexes);
  await remove(segments, heldByIndexes(survey, deleting, now));
}

/**
 * What the indexes name that could not be deleted, of snapshots that end before their signed time: to readers those are live,
 * and what they name is there (rule R2).
 */
function heldByIndexes({ host, snapshots }: HostSurvey, { failed }: Deleting, now: Date): Set<string> {
  const failedKeys = new Set(failed.map(({ key }) => key));
  const staying = snapshots.filter(
    ({ index }) =>
      Date.parse(index.expiresAt) > now.getTime() &&
      failedKeys.has(formatKey({ type: 'index', host, snapshot: index.snapshot })),
  );
  const named = staying.flatMap(({ index }) => objectsOf(index));
  return new Set(named.map((segment) => segmentKey(host, segment)));
}

/** Ends the writes that no run can still be at; what was not done and why. */
async function abandonStranded(
  session: ReaderSession,
  work: readonly HostWork[],
  now: Date,
  deleting: Deleting,
  signal: AbortSignal,
): Promise<string[]> {
  const { store } = session;
  try {
    const { stranded, undated } = await strandedWrites(session, work, now, signal);
    for (const write of stranded) {
      deleting.count(parseKey(write.key)?.host ?? '', 'write: begun and never ended');
      await deleting.attempt(write.key, 0, () => store.abandon(write, signal));
    }
    return undated.map(
      (key) => `the write of ${key} was begun, and the store does not say when: it is left alone`,
    );
  } catch (error) {
    if (!(error instanceof SealiftError) || error.code !== 'store-denied') throw error;
    return [`unfinished writes are left alone: ${error.message}`];
  }
}

/** Deletes, or in a dry run only counts, and goes on when something cannot be deleted. */
class Deleting {
  readonly dryRun: boolean;
  readonly #context: Context;
  /** By host and reason: there may be a million objects. */
  readonly #reasons = new Map<string, { host: string; reason: string; objects: number }>();
  readonly failed: { key: string; reason: string }[] = [];
  objects = 0;
  bytes = 0;
  #silent = 0;

  constructor(context: Context, dryRun: boolean) {
    this.#context = context;
    this.dryRun = dryRun;
  }

  count(host: string, reason: string): void {
    const known = this.#reasons.get(`${host} ${reason}`);
    if (known) known.objects += 1;
    else this.#reasons.set(`${host} ${reason}`, { host, reason, objects: 1 });
  }

  reasons(): PruneSummary['reasons'] {
    return [...this.#reasons.values()];
  }

  async attempt(key: string, sizeBytes: number, act: () => Promise<void>): Promise<void> {
    const { signal, log } = this.#context;
    signal.throwIfAborted();
    try {
      if (!this.dryRun) await act();
      this.objects += 1;
      this.bytes += sizeBytes;
      this.#silent = 0;
    } catch (error) {
      signal.throwIfAborted();
      // One object that always fails must not shield the others; a store that is gone is not asked a thousand times.
      const isSilent = error instanceof SealiftError && error.code === 'store-unavailable';
      this.#silent = isSilent ? this.#silent + 1 : 0;
      if (this.#silent > 2 * deletesAtOnce) throw error;
      const reason = messageOf(error);
      this.failed.push({ key, reason });
      log.error({ key }, reason);
    }
  }
}

interface HostWork {
  readonly host: string;
  readonly survey: HostSurvey;
  readonly plan: PrunePlan<SurveyedObject>;
  readonly problems: readonly string[];
}

/** Snapshots there are, and all that could be judged are by keys that are not known here: somebody else's (rule R10). */
const isStrange = ({ snapshots, unreadable }: HostSurvey): boolean =>
  snapshots.length === 0 && unreadable.some(({ error }) => error.code === 'key-untrusted');

const strange = (host: string): string =>
  `host ${host} is left alone: its snapshots are signed by a key that is not trusted here (sealift keys trust FINGERPRINT)`;

/** Another machine may have this host's name by mistake, or a copy of its configuration: the key tells. */
const isOwn = (
  { config }: ReaderSession,
  { host, snapshots }: HostSurvey,
  key: OwnKey | undefined,
): boolean =>
  config.host === host &&
  key !== undefined &&
  (snapshots.length === 0 ||
    snapshots.some(({ index }) => index.signer === key.publicKey.getFingerprint().toUpperCase()));

function planHost(
  { config }: ReaderSession,
  survey: HostSurvey,
  { now, surveyed, own }: { now: Date; surveyed: Date; own: boolean },
): HostWork {
  const { host } = survey;
  const nowMs = now.getTime();
  const misdated = survey.objects.filter(
    ({ modifiedMs, folder }) => possibleMs(modifiedMs, startOf(folder)) !== modifiedMs,
  ).length;
  const plan = planPrune({
    nowMs,
    surveyedMs: surveyed.getTime(),
    configured: limitsOf(config),
    own,
    snapshots: survey.snapshots.map(({ index, object }) => ({
      snapshot: index.snapshot,
      sequence: index.sequence,
      startedMs: Date.parse(index.startedAt),
      modifiedMs: possibleMs(object.lastModified.getTime(), startOf(index.snapshot)),
      maxAge: index.maxAge,
      reuseWindow: index.reuseWindow,
      previous: index.previous
        ? {
            snapshot: index.previous.snapshot,
            startedMs: startOf(index.previous.snapshot),
            expiresMs:
              index.previous.expiresAt === undefined ? undefined : Date.parse(index.previous.expiresAt),
          }
        : undefined,
      names: { [Symbol.iterator]: () => objectsOf(index)[Symbol.iterator]() },
    })),
    unreadable: survey.unreadable.map(({ snapshot }) => ({
      snapshot,
      startedMs: startOf(snapshot),
      modifiedMs: possibleMs(indexModified(survey, snapshot), startOf(snapshot)),
    })),
    objects:
      misdated === 0
        ? survey.objects
        : survey.objects.map((object) => ({
            ...object,
            modifiedMs: possibleMs(object.modifiedMs, startOf(object.folder)),
          })),
  });
  const ending = new Set(plan.snapshots.map(({ snapshot }) => snapshot));
  const dated = new Set(survey.snapshots.map(({ index }) => index.snapshot));
  const problems = [
    ...plan.problems,
    ...(misdated === 0
      ? []
      : [
          `${countOf(misdated, 'object')} dated before the run that wrote them: the times of the store are wrong`,
        ]),
    ...[...survey.hidden]
      .filter((snapshot) => !ending.has(snapshot))
      .map(
        (snapshot) =>
          `the index of ${snapshot} lies under a deletion marker: readers do not see that snapshot`,
      ),
    ...[...new Set(survey.objects.map(({ folder }) => folder))]
      .filter((folder) => !dated.has(folder) && startOf(folder) > nowMs + futureToleranceMs)
      .map((folder) => `the folder ${folder} is dated in the future`),
  ];
  return { host, survey, plan, problems: problems.map((problem) => `host ${host}: ${problem}`) };
}

/**
 * Unfinished writes of the hosts that are pruned, and temporary files: those that no run can still be at, and the keys of
 * those of which that cannot be told.
 */
async function strandedWrites(
  { store, config }: ReaderSession,
  work: readonly HostWork[],
  now: Date,
  signal: AbortSignal,
): Promise<{ stranded: readonly UnfinishedWrite[]; undated: readonly string[] }> {
  const grace = new Map(work.map(({ host, plan }) => [host, plan.graceMs]));
  // A temporary file of a directory says nothing about its host.
  const anyHosts =
    config.store.kind === 'directory' && grace.size > 0 ? Math.max(...grace.values()) : undefined;
  const stranded: UnfinishedWrite[] = [];
  const undated: string[] = [];
  for await (const write of store.unfinished(signal)) {
    const key = parseKey(write.key);
    const graceMs = key ? grace.get(key.host) : anyHosts;
    if (graceMs === undefined) continue;
    if (write.startedAt === undefined) undated.push(write.key);
    else if (write.startedAt.getTime() + graceMs <= now.getTime()) stranded.push(write);
  }
  return { stranded, undated };
}

function reportForeign({ log }: Context, { host, foreign }: HostSurvey): void {
  const [first] = foreign;
  if (first === undefined) return;
  const more = foreign.length > 1 ? ` and ${foreign.length - 1} more` : '';
  log.warn(`host ${host}: ${first.key}${more} is not of sealift's making and is left alone`);
}

const earliest = (times: readonly (number | undefined)[]): number | undefined =>
  times.reduce((a, b) => (a === undefined || (b !== undefined && b < a) ? b : a), undefined);

function print({ output }: Context, summary: PruneSummary): void {
  for (const { host, snapshot, reason } of summary.snapshots)
    output.text(`${output.paint('strong', snapshot)}  ${output.paint('faint', `${host}: ${reason}`)}`);
  for (const { host, reason, objects } of summary.reasons)
    output.text(
      `${countOf(objects, 'object')}  ${output.paint('faint', `${host === '' ? '' : `${host}: `}${reason}`)}`,
    );
  for (const { key, reason } of summary.failed)
    output.text(`${output.paint('bad', 'failed')}  ${printable(key)}: ${printable(reason)}`);
  const verb = summary.dryRun ? 'would delete' : 'deleted';
  output.text(
    `${verb} ${countOf(summary.snapshots.length, 'snapshot')} with ${countOf(summary.objects, 'object')}, ` +
      `${formatSize(summary.bytes)}; ${countOf(summary.kept, 'object')} kept`,
  );
  if (summary.failed.length > 0)
    output.text(
      output.paint(
        'bad',
        `${countOf(summary.failed.length, 'object')} could not be deleted; the next prune tries again`,
      ),
    );
  for (const problem of summary.problems) output.text(output.paint('warning', printable(problem)));
}
