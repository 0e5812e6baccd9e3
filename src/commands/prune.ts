import { mapConcurrent } from '../concurrency.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { formatSize } from '../output.ts';
import { futureToleranceMs, planPrune, type PrunePlan } from '../policy/prune-plan.ts';
import { objectsOf } from '../snapshot/index.ts';
import { parseKey, startOf } from '../snapshot/object-key.ts';
import {
  indexModified,
  keyOf,
  surveyHost,
  type HostSurvey,
  type SurveyedObject,
} from '../snapshot/survey.ts';
import type { Store, UnfinishedWrite } from '../store/store.ts';
import type { Context, Outcome } from './context.ts';
import { checkedStoreTime } from './host-store.ts';
import { hostsIn, oneHost, openReaderSession, type ReaderSession } from './reader-session.ts';

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
  const hosts =
    options.host === undefined
      ? await hostsIn(session, signal)
      : [await oneHost(session, options.host, signal)];
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
    const survey = await surveyHost(session.store, host, trusted, { signal, cache: session.cache });
    work.push(planHost(session, survey, now));
    reportForeign(context, survey);
  }
  const stranded = await strandedWrites(session.store, work, now, signal);
  for (const { problems: ofHost } of work) problems.push(...ofHost);
  for (const problem of problems) context.log.warn(problem);

  const failed: { key: string; reason: string }[] = [];
  let objects = 0;
  let bytes = 0;
  let silent = 0;
  const attempt = async (key: string, sizeBytes: number, act: () => Promise<void>): Promise<void> => {
    signal.throwIfAborted();
    try {
      if (options.dryRun !== true) await act();
      objects += 1;
      bytes += sizeBytes;
      silent = 0;
    } catch (error) {
      signal.throwIfAborted();
      // One object that always fails must not shield the others; a store that is gone is not asked a thousand times.
      silent = error instanceof SealiftError && error.code === 'store-unavailable' ? silent + 1 : 0;
      if (silent > 2 * deletesAtOnce) throw error;
      const reason = messageOf(error);
      failed.push({ key, reason });
      context.log.error({ key }, reason);
    }
  };
  const { store } = session;
  for (const { host, plan } of work) {
    for (const { snapshot, reason } of plan.snapshots)
      context.log.info({ host, snapshot }, `ends: ${reason}`);
    // Indexes first: a reader must not meet one whose segments are going.
    const indexes = plan.objects.filter(({ object }) => object.segment === undefined);
    const segments = plan.objects.filter(({ object }) => object.segment !== undefined);
    for (const deletions of [indexes, segments]) {
      await mapConcurrent(deletions, deletesAtOnce, async ({ object, reason }) => {
        const key = keyOf(host, object);
        context.log.debug({ key, version: object.version }, reason);
        await attempt(key, object.sizeBytes, () => store.remove({ key, version: object.version }, signal));
      });
      // A directory makes deletions durable here: no crash may bring an index back whose segments have gone.
      if (options.dryRun !== true && deletions.length > 0) await store.settle();
    }
  }
  for (const write of stranded) await attempt(write.key, 0, () => store.abandon(write, signal));

  return {
    snapshots: work.flatMap(({ host, plan }) => plan.snapshots.map((ending) => ({ host, ...ending }))),
    objects,
    bytes,
    kept: work.reduce((sum, { survey, plan }) => sum + survey.objects.length - plan.objects.length, 0),
    failed,
    problems,
    dryRun: options.dryRun === true,
    nextExpiryMs: earliest(work.map(({ plan }) => plan.nextExpiryMs)),
  };
}

interface HostWork {
  readonly host: string;
  readonly survey: HostSurvey;
  readonly plan: PrunePlan<SurveyedObject>;
  readonly problems: readonly string[];
}

function planHost({ config }: ReaderSession, survey: HostSurvey, now: Date): HostWork {
  const { host } = survey;
  const nowMs = now.getTime();
  const plan = planPrune({
    nowMs,
    configured: { maxAge: config.maxAgeSeconds, reuseWindow: config.reuseWindowSeconds },
    own: config.host === host,
    snapshots: survey.snapshots.map(({ index, object }) => ({
      snapshot: index.snapshot,
      job: index.job,
      sequence: index.sequence,
      startedMs: Date.parse(index.startedAt),
      modifiedMs: object.lastModified.getTime(),
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
      modifiedMs: indexModified(survey, snapshot),
    })),
    objects: survey.objects,
  });
  const dated = new Set(survey.snapshots.map(({ index }) => index.snapshot));
  const problems = [
    ...plan.problems,
    ...[...survey.hidden].map(
      (snapshot) => `the index of ${snapshot} lies under a deletion marker: readers do not see that snapshot`,
    ),
    ...[...new Set(survey.objects.map(({ folder }) => folder))]
      .filter((folder) => !dated.has(folder) && startOf(folder) > nowMs + futureToleranceMs)
      .map((folder) => `the folder ${folder} is dated in the future`),
  ];
  return { host, survey, plan, problems: problems.map((problem) => `host ${host}: ${problem}`) };
}

/** Unfinished writes of the hosts that are pruned, and temporary files, that no run can still be at. */
async function strandedWrites(
  store: Store,
  work: readonly HostWork[],
  now: Date,
  signal: AbortSignal,
): Promise<UnfinishedWrite[]> {
  const grace = new Map(work.map(({ host, plan }) => [host, plan.graceMs]));
  const longest = Math.max(...grace.values());
  const stranded: UnfinishedWrite[] = [];
  for await (const write of store.unfinished(signal)) {
    const key = parseKey(write.key);
    const graceMs = key ? grace.get(key.host) : write.key.startsWith('.') ? longest : undefined;
    if (graceMs !== undefined && write.startedAt.getTime() + graceMs <= now.getTime()) stranded.push(write);
  }
  return stranded;
}

function reportForeign({ log }: Context, { host, foreign }: HostSurvey): void {
  const [first] = foreign;
  if (first === undefined) return;
  const more = foreign.length > 1 ? ` and ${foreign.length - 1} more` : '';
  log.warn(`host ${host}: ${first.key}${more} is not of sealift's making and is left alone`);
}

const earliest = (times: readonly (number | undefined)[]): number | undefined =>
  times.reduce((a, b) => (a === undefined || (b !== undefined && b < a) ? b : a), undefined);

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function print({ output }: Context, summary: PruneSummary): void {
  for (const { host, snapshot, reason } of summary.snapshots)
    output.text(`${output.paint('strong', snapshot)}  ${output.paint('faint', `${host}: ${reason}`)}`);
  for (const { key, reason } of summary.failed)
    output.text(`${output.paint('bad', 'failed')}  ${key}: ${reason}`);
  const verb = summary.dryRun ? 'would delete' : 'deleted';
  output.text(
    `${verb} ${count(summary.snapshots.length, 'snapshot')} with ${count(summary.objects, 'object')}, ` +
      `${formatSize(summary.bytes)}; ${count(summary.kept, 'object')} kept`,
  );
  if (summary.failed.length > 0)
    output.text(
      output.paint(
        'bad',
        `${count(summary.failed.length, 'object')} could not be deleted; the next prune tries again`,
      ),
    );
  for (const problem of summary.problems) output.text(output.paint('warning', problem));
}
