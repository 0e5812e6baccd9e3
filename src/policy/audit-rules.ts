import { formatDuration, rfc3339 } from '../clock.ts';
import { countOf } from '../count-of.ts';
import { judgeChain, judgeRollback } from './audit-chain.ts';
import {
  endOf,
  standingOf,
  unreadableEnd,
  type AuditedRecipient,
  type AuditedSnapshot,
  type Finding,
  type HostFacts,
  type Standing,
} from './audit-facts.ts';
import { judgeFreshness } from './audit-freshness.ts';
import { judgeRetention } from './audit-retention.ts';
import { futureToleranceMs } from './prune-plan.ts';
import { ceilingSeconds, type Limits } from './retention.ts';

/**
 * What an auditor says: the promises of docs/format.md as pure functions of what was found in the store, the limits and
 * the time.
 */

/** Everything that can be said of one host. Nothing found means that the promises are kept. */
export function judgeHost(facts: HostFacts): Finding[] {
  const standing = standingOf(facts);
  const foreign = foreignObjects(`${facts.host}/`, facts.foreign);
  if (!facts.pinned) {
    // A folder that holds nothing of ours is no host, unless one was there.
    const isHost = facts.objects.length + facts.offered.length > 0;
    return [...(isHost ? [unpinned(facts)] : judgeRollback(facts, standing)), ...foreign];
  }
  const chain = judgeChain(facts, standing);
  const failsClosed =
    chain.missing ||
    facts.unreadable.some(
      ({ startedMs }) =>
        startedMs + standing.maxAgeMs > facts.nowMs && startedMs <= facts.nowMs + futureToleranceMs,
    );
  return [
    ...judgePromise(facts, standing),
    ...judgeSignatures(facts, standing),
    ...chain.findings,
    ...judgeRollback(facts, standing),
    ...judgeRetention(facts, standing, failsClosed),
    ...foreign,
    ...judgeFuture(facts),
    ...judgeMisdated(facts),
    ...judgeFreshness(facts, standing),
    ...judgeRecipients(facts, standing),
  ];
}

const inWords = ({ maxAge, reuseWindow }: Limits): string =>
  `maxAge ${formatDuration(maxAge)}, reuseWindow ${formatDuration(reuseWindow)}`;

/** What a host signs is not the promise: what this auditor's configuration says is. */
function judgePromise(
  { host, configured }: HostFacts,
  { live, currentMaxAgeMs = Infinity }: Standing,
): Finding[] {
  const isMore = ({ maxAge, reuseWindow }: Limits): boolean =>
    maxAge > configured.maxAge || reuseWindow > configured.reuseWindow;
  const longer = live.filter(isMore);
  const [longest] = longer.toSorted((a, b) => ceilingSeconds(b) - ceilingSeconds(a));
  if (!longest) return [];
  const newestMs = Math.max(...longer.map(({ startedMs }) => startedMs));
  // The host's own prune deletes by a maxAge that was lowered since; one elsewhere by what was signed.
  const endBy = (limitMs: number): string =>
    rfc3339(Math.max(...longer.map((one) => Math.min(endOf(one), one.startedMs + limitMs))));
  const advice = live.some(({ startedMs }) => startedMs > newestMs)
    ? `It was corrected since: the last of them ends on ${endBy(currentMaxAgeMs)} where prune runs on the host itself, ` +
      `else as it was signed, on ${endBy(Infinity)}, and this finding with it.`
    : 'Correct retention on the host, or here if the promise has changed.';
  const message =
    `${longest.snapshot} is to be kept for longer than is promised here: signed ${inWords(longest)}; this auditor's ` +
    `configuration has ${inWords(configured)}. ${advice}`;
  return [{ rule: 'promise', severity: 'broken', subject: `${host}/${longest.job}`, message }];
}

function unpinned({ host, offered }: HostFacts): Finding {
  const [first] = offered;
  const what =
    first === undefined
      ? `The store offers none either: copy keys/hosts/${host}.asc from the host.`
      : `The store offers ${offered.join(', ')}. If \`sealift init\` printed the same on the host: sealift keys trust ${first}`;
  const message = `no key of this host is pinned here, so nothing that it promises can be judged. ${what}`;
  return { rule: 'signature', severity: 'broken', subject: host, message };
}

/** Objects that are not ours are named, at most this many one by one. */
const shownKeys = 20;

export function foreignObjects(folder: string, keys: readonly string[]): Finding[] {
  const advice = 'sealift did not write it and never touches it: look at it, and remove it yourself';
  const more = keys.length - shownKeys;
  const found = [
    ...keys.slice(0, shownKeys).map((key) => ({ subject: key, message: advice })),
    ...(more > 0
      ? [{ subject: folder === '' ? '/' : folder, message: `${more} more objects that are not of sealift` }]
      : []),
  ];
  return found.map((one) => ({ rule: 'foreign-object', severity: 'warning', ...one }));
}

function judgeSignatures({ host, nowMs, unreadable }: HostFacts, { maxAgeMs }: Standing): Finding[] {
  return unreadable
    .filter((snapshot) => unreadableEnd(snapshot, maxAgeMs) > nowMs)
    .map(({ snapshot, reason }) => ({
      rule: 'signature',
      severity: 'broken',
      subject: `${host}/snap/${snapshot}/index.json.gpg`,
      message:
        `${reason}. This snapshot cannot be restored, and prune keeps what it may need. ` +
        'Find out who wrote it; on a versioned bucket an older version may be the true one.',
    }));
}

/** Rule R9: what is dated in the future would outlive its time. */
function judgeFuture({ host, nowMs, objects }: HostFacts): Finding[] {
  const dated = new Map<string, number>();
  for (const { folder, folderMs, modifiedMs, marker } of objects) {
    const ms = Math.max(folderMs, modifiedMs);
    if (!marker && ms > nowMs + futureToleranceMs) dated.set(folder, Math.max(ms, dated.get(folder) ?? 0));
  }
  return [...dated].map(([folder, ms]) => ({
    rule: 'future',
    severity: 'broken',
    subject: `${host}/snap/${folder}/`,
    message:
      `is dated in the future (${rfc3339(ms)}), so it does not count and would outlive its time. ` +
      'Set the clock of the host and of the store right, and remove this folder.',
  }));
}

/** Rule R9: times that cannot be. */
function judgeMisdated({ host, misdated }: HostFacts): Finding[] {
  if (misdated === 0) return [];
  const message =
    `${countOf(misdated, 'object is', 'objects are')} dated before the run that wrote them: the times of the store are ` +
    'wrong, or somebody changed them. Their age was counted from the start of that run, and proves nothing. Find out who sets the times.';
  return [{ rule: 'clock', severity: 'broken', subject: host, message }];
}

/**
 * Nobody else may be able to read what is live; and the newest snapshot of each job is for everybody who should. (One
 * who was added lately cannot open what is older.)
 */
function judgeRecipients({ host, allowed }: HostFacts, { live }: Standing): Finding[] {
  if (allowed === undefined) return [];
  const knows = ({ primary, subkey }: AuditedRecipient): boolean =>
    allowed.some((key) => key.primary === primary && key.subkeys.includes(subkey));
  const strangers = new Map<string, AuditedSnapshot[]>();
  for (const snapshot of live) {
    const all = [...snapshot.recipients, ...snapshot.folderRecipients];
    for (const id of new Set(all.filter((key) => !knows(key)).map(nameOf)))
      strangers.set(id, [...(strangers.get(id) ?? []), snapshot]);
  }
  const newest = new Map(live.map((snapshot) => [snapshot.job, snapshot]));
  return [
    ...[...strangers].map(([id, snapshots]) =>
      misdirected(
        host,
        `${countOf(snapshots.length, 'live snapshot')} can be opened by ${id}, which is not among the recipients here; the newest is ` +
          `${snapshots.at(-1)!.snapshot}, the last ends on ${rfc3339(Math.max(...snapshots.map(endOf)))}. If the key is ` +
          'allowed, copy it to the recipients here; else remove it on the host and ask how it came there.',
      ),
    ),
    ...[...newest.values()].flatMap((snapshot) =>
      allowed
        .filter(({ primary }) => !snapshot.recipients.some((recipient) => recipient.primary === primary))
        .map(({ primary }) =>
          misdirected(
            `${host}/${snapshot.job}`,
            `the newest snapshot, ${snapshot.snapshot}, is not sealed to ${primary}, which is among the recipients here: ` +
              'its owner could not restore. Copy the key to the recipients of the host, and run `sealift backup` there, or remove it here.',
          ),
        ),
    ),
  ];
}

const misdirected = (subject: string, message: string): Finding => ({
  rule: 'recipients',
  severity: 'broken',
  subject,
  message,
});

const nameOf = ({ primary, subkey }: AuditedRecipient): string => `key ${primary} (subkey ${subkey})`;

/** One object of the random sample, as it was read. */
export interface SampledObject {
  readonly key: string;
  /** Some version of it is what the host signed. */
  readonly signed: boolean;
  /** Why the store, which has it, could not give it. */
  readonly unread?: string;
  /** What is wrong with it as a sealed message. */
  readonly problem: string | undefined;
}

export function judgeSample(sample: readonly SampledObject[]): Finding[] {
  return sample.flatMap(({ key, signed, unread, problem }): Finding[] => [
    ...(signed
      ? []
      : [
          {
            rule: 'presence',
            severity: 'broken',
            subject: key,
            message:
              (unread === undefined
                ? 'its content is not what the host signed: it is damaged, or somebody replaced it. '
                : `${unread}. `) + 'See what else is hit: `sealift verify --all --read-data`.',
          } as const,
        ]),
    ...(problem === undefined
      ? []
      : [
          {
            rule: 'sealed',
            severity: 'broken',
            subject: key,
            message: `${problem}. Find out who wrote it; whoever reads the store may be able to read this.`,
          } as const,
        ]),
  ]);
}
