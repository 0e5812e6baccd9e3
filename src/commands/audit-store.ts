import { SealiftError } from '../errors.ts';
import { standingOf, type AllowedRecipient, type Finding } from '../policy/audit-facts.ts';
import type { AuditedWrite, StoreClock } from '../policy/audit-store.ts';
import { judgeClocks } from '../policy/clock-check.ts';
import { ceilingSeconds, graceSeconds, limitsOf, type Limits } from '../policy/retention.ts';
import { inspectRecipients } from '../seal/recipients.ts';
import { parseKey } from '../snapshot/object-key.ts';
import type { AuditedHost } from './audit-survey.ts';
import { lookAtBucket } from './bucket.ts';
import type { Context } from './context.ts';
import type { ReaderSession } from './reader-session.ts';

/** What an auditor asks about the store as a whole, and about the auditor's own keys. */

/** The store's time, held against the local clock (rule R9); the local one where the store does not tell its own. */
export async function readClock(
  { store }: ReaderSession,
  { clock, signal }: Context,
): Promise<{ clock: StoreClock; now: Date }> {
  const local = clock();
  try {
    const now = await store.now(signal);
    const verdict = judgeClocks(now, local);
    return { clock: { verdict, storeMs: now.getTime(), localMs: local.getTime() }, now };
  } catch (error) {
    if (!(error instanceof SealiftError)) throw error;
    if (error.code === 'clock-wrong')
      return { clock: { verdict: 'none', reason: error.message }, now: local };
    if (error.code === 'store-denied' || error.code === 'store-full')
      return { clock: { verdict: 'denied', reason: error.message }, now: local };
    throw error;
  }
}

/** What this auditor's configuration allows. A key that backups can no longer be sealed to may still open older ones. */
export async function readAllowed(
  { config }: ReaderSession,
  { clock }: Context,
): Promise<{ allowed: readonly AllowedRecipient[] | undefined; problems: string[] }> {
  const reports = await inspectRecipients(config.recipients, clock());
  const allowed = reports.flatMap(({ key, fingerprint }) =>
    key && fingerprint !== undefined
      ? [{ primary: fingerprint, subkeys: key.getKeys().map((part) => part.getFingerprint().toUpperCase()) }]
      : [],
  );
  const problems = reports.flatMap(({ file, problems }) => problems.map((problem) => `${file}: ${problem}`));
  if (reports.length === 0) problems.push(`there is no public key in ${config.recipients.join(', ')}`);
  return { allowed: problems.length > 0 ? undefined : allowed, problems };
}

/** What was begun and not ended; with a host, only what is its own. */
export async function unfinishedWrites(
  { store, config }: ReaderSession,
  hosts: readonly AuditedHost[],
  asked: string | undefined,
  signal: AbortSignal,
): Promise<AuditedWrite[]> {
  const grace = new Map(hosts.map(({ facts }) => [facts.host, standingOf(facts).graceMs]));
  const longest = Math.max(...grace.values(), graceSeconds(limitsOf(config)) * 1000);
  const writes: AuditedWrite[] = [];
  for await (const { key, startedAt } of store.unfinished(signal)) {
    const parsed = parseKey(key);
    if (asked !== undefined && parsed?.host !== asked) continue;
    // A temporary file of a directory is named with a dot; it says nothing about its host.
    const graceMs = parsed ? (grace.get(parsed.host) ?? longest) : key.startsWith('.') ? longest : undefined;
    writes.push({ key, startedMs: startedAt?.getTime(), graceMs });
  }
  return writes;
}

/** What the bucket does by itself, held against the longest life that each host signed. A directory does nothing. */
export const bucketFindings = (
  { config }: ReaderSession,
  hosts: readonly AuditedHost[],
  signal: AbortSignal,
): Promise<Finding[]> =>
  lookAtBucket(
    config,
    hosts.map(({ facts }) => {
      const { live } = standingOf(facts);
      const longest = live.reduce<Limits>(
        (a, b) => (ceilingSeconds(a) > ceilingSeconds(b) ? a : b),
        live[0] ?? limitsOf(config),
      );
      return { ...longest, host: facts.host };
    }),
    signal,
  );

/** Objects that lie outside of the folders that were looked at. */
export async function strayObjects(
  { store }: ReaderSession,
  hosts: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const known = new Set(hosts);
  const stray: string[] = [];
  for await (const { key } of store.list('', signal, Math.max(1, hosts.length))) {
    const [folder = '', ...rest] = key.split('/');
    if (!(rest.length > 0 && known.has(folder)) && parseKey(key) === undefined) stray.push(key);
  }
  return stray;
}
