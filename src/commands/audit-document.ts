import { rfc3339 } from '../clock.ts';
import { standingOf } from '../policy/audit-facts.ts';
import * as z from '../zod.ts';
import type { AuditedHost } from './audit-survey.ts';

/** What `audit --json` prints and `--report` keeps (docs/cli.md). Times in RFC 3339, sizes in bytes. */
const count = z.int().nonnegative();
const time = z.string().nullable();
const recipient = z.object({ primary: z.string(), subkey: z.string() });

const hostSchema = z.object({
  host: z.string(),
  /** Fingerprints of the pinned keys; without one nothing could be judged. */
  keys: z.array(z.string()),
  /** Findings about this host. */
  findings: count,
  /** Live ones. */
  snapshots: count,
  jobs: z.array(
    z.object({
      job: z.string(),
      snapshots: count,
      newest: z.string(),
      newestAt: z.string(),
      schedule: z.string(),
      recipients: z.array(recipient),
    }),
  ),
  /** The longest that a live snapshot was promised to stay, and the oldest that any object may be, in seconds. */
  maxAge: count,
  objectMaxAge: count,
  oldestSnapshot: time,
  oldestObject: time,
  /** All versions of indexes and segments. */
  objects: count,
  bytes: count,
  /** Objects that were read whole: is this a message to these recipients, as it was signed? */
  sampled: count,
  /** Whether this auditor had seen the host before, and so could tell a store that was set back. */
  remembered: z.boolean(),
});

export const documentSchema = z.object({
  format: z.literal('sealift-audit/1'),
  ok: z.boolean(),
  checkedAt: z.string(),
  /** Whose clock it is by. */
  clock: z.enum(['store', 'local']),
  store: z.string(),
  tool: z.string(),
  findings: z.array(
    z.object({
      rule: z.string(),
      severity: z.enum(['broken', 'warning']),
      subject: z.string(),
      message: z.string(),
    }),
  ),
  oldestSnapshot: time,
  oldestObject: time,
  snapshots: count,
  objects: count,
  bytes: count,
  sampled: count,
  hosts: z.array(hostSchema),
});

export type AuditDocument = z.infer<typeof documentSchema>;
export type HostDocument = z.infer<typeof hostSchema>;

export function describeHost(
  { facts, survey }: AuditedHost,
  more: Pick<HostDocument, 'keys' | 'sampled' | 'findings' | 'remembered'>,
): HostDocument {
  const standing = standingOf(facts);
  const stored = facts.objects.filter(({ marker }) => !marker);
  const jobs = Map.groupBy(standing.live, ({ job }) => job);
  return {
    host: facts.host,
    snapshots: standing.live.length,
    jobs: [...jobs].map(([job, snapshots]) => {
      const newest = snapshots.at(-1)!;
      return {
        job,
        snapshots: snapshots.length,
        newest: newest.snapshot,
        newestAt: rfc3339(newest.startedMs),
        schedule: newest.schedule,
        recipients: newest.recipients.map(({ primary, subkey }) => ({ primary, subkey })),
      };
    }),
    maxAge: standing.maxAgeMs / 1000,
    objectMaxAge: standing.ceilingMs / 1000,
    oldestSnapshot: oldest(survey.snapshots.map(({ index }) => Date.parse(index.startedAt))),
    oldestObject: oldest(stored.map(({ modifiedMs }) => modifiedMs)),
    objects: stored.length,
    bytes: stored.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...more,
  };
}

const oldest = (times: readonly number[]): string | null =>
  times.length === 0 ? null : rfc3339(times.reduce((a, b) => Math.min(a, b)));
