import type { DefaultRetention, LifecycleRule } from '@aws-sdk/client-s3';
import { day, formatDuration } from '../clock.ts';
import { countOf } from '../count-of.ts';
import type { Finding } from './audit-facts.ts';
import { ceilingSeconds, runLimitSeconds, type Limits } from './retention.ts';

/**
 * The rules that a bucket itself should have, and what is to be said of those that it has: pure functions of the hosts,
 * the limits and what was read. Lifecycle rules are in the form of S3.
 */

/** Whose data lies in the bucket, and how long it lives. */
export interface BucketSubject extends Limits {
  /** For people: `s3://bucket/prefix`. */
  readonly address: string;
  readonly prefix: string;
  readonly hosts: readonly string[];
}

/** An answer, or why there is none: we may not ask, or the store does not know the question. */
export type Reading<T> = { readonly value: T } | { readonly unread: 'denied' | 'unknown' };

export interface BucketFacts {
  readonly lifecycle: Reading<readonly LifecycleRule[]>;
  readonly versioning: Reading<'Enabled' | 'Suspended' | 'off'>;
  /** The retention that new objects get; `value: undefined` for none. */
  readonly lock: Reading<DefaultRetention | undefined>;
  /** By what everybody may read the bucket; empty when nobody else may. */
  readonly publicBy: Reading<readonly string[]>;
}

const daySeconds = 86_400;
const pruneToleranceSeconds = 2 * 3600;
/** No object is larger: it is written by one PutObject. */
const longestObjectBytes = 5 * 2 ** 30;

/**
 * After how many days the bucket deletes what no pruner did. A day more than the longest life, because lifecycle rules
 * run once a day.
 */
export const backstopDays = (limits: Limits): number => Math.ceil(ceilingSeconds(limits) / daySeconds) + 1;

/** The longest default lock with which all objects of a snapshot can be deleted when it expires. */
export const longestLockSeconds = (limits: Limits): number =>
  limits.maxAge - runLimitSeconds(limits) - pruneToleranceSeconds;

/**
 * All rules that the bucket should have: ours for the hosts of the subject, and every other one as it is, those of other
 * hosts included: their limits are not ours. `versions`: whether the store knows versions at all.
 */
export function wantedLifecycle(
  present: readonly LifecycleRule[],
  subject: BucketSubject,
  versions: boolean,
): LifecycleRule[] {
  return [
    ...present.filter((rule) => !isOurs(rule, subject)),
    ...subject.hosts.toSorted().flatMap((host) => rulesFor(host, subject, versions)),
  ];
}

function rulesFor(host: string, subject: BucketSubject, versions: boolean): LifecycleRule[] {
  const rule = (name: string, action: Partial<LifecycleRule>): LifecycleRule => ({
    ID: `sealift-${subject.prefix}${name}`,
    Status: 'Enabled',
    Filter: { Prefix: snapshotsOf(host, subject) },
    ...action,
  });
  return [
    rule(host, {
      Expiration: { Days: backstopDays(subject) },
      // Not sooner: versions guard live objects against whoever overwrites them with the host's credentials.
      ...(versions && { NoncurrentVersionExpiration: { NoncurrentDays: backstopDays(subject) } }),
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
    }),
    // S3 does not allow it beside a number of days. A host's name has no dot.
    ...(versions ? [rule(`${host}.markers`, { Expiration: { ExpiredObjectDeleteMarker: true } })] : []),
  ];
}

/** We made it, for a host of the subject. */
const isOurs = (rule: LifecycleRule, { hosts, prefix }: BucketSubject): boolean =>
  hosts.includes(hostOfRule(rule, prefix) ?? '');

/** The host for which we made this rule; undefined for a foreign rule, such as one of a store with another prefix. */
function hostOfRule({ ID = '' }: LifecycleRule, prefix: string): string | undefined {
  const start = `sealift-${prefix}`;
  if (!ID.startsWith(start)) return undefined;
  return /^([a-z0-9][a-z0-9-]{0,40})(\.markers)?$/.exec(ID.slice(start.length))?.[1];
}

const snapshotsOf = (host: string, { prefix }: BucketSubject): string => `${prefix}${host}/snap/`;

/** What is to be said of the bucket; nothing if all is as it should be. What concerns several subjects is said once. */
export function judgeBucket(facts: BucketFacts, ...subjects: readonly BucketSubject[]): Finding[] {
  const findings = subjects.flatMap((subject) => [
    ...judgeLifecycle(facts, subject),
    ...judgeLock(facts.lock, subject),
    ...judgePublic(facts.publicBy, subject),
  ]);
  return [...new Map(findings.map((one) => [`${one.subject} ${one.message}`, one])).values()];
}

const warning = (subject: string, message: string): Finding => ({
  rule: 'bucket',
  severity: 'warning',
  subject,
  message,
});
const broken = (subject: string, message: string): Finding => ({
  rule: 'bucket',
  severity: 'broken',
  subject,
  message,
});

function judgeLifecycle({ lifecycle, versioning }: BucketFacts, subject: BucketSubject): Finding[] {
  if ('unread' in lifecycle)
    return [
      warning(
        subject.address,
        lifecycle.unread === 'denied'
          ? 'its lifecycle rules may not be read here, so nobody knows whether they delete too early or too late. Grant s3:GetLifecycleConfiguration.'
          : 'the store knows no lifecycle rules: where no pruner runs, nothing is deleted.',
      ),
    ];
  const versions = 'value' in versioning && versioning.value !== 'off';
  return [
    ...deletingLiveData(lifecycle.value, subject).map(({ id, reason, remedy }) =>
      broken(`lifecycle rule ${id}`, `${reason}. ${remedy}`),
    ),
    ...subject.hosts.flatMap((host) => {
      const missing = missingBackstops(lifecycle.value, host, subject, versions);
      if (missing.length === 0) return [];
      return warning(
        host,
        `where no pruner runs, no lifecycle rule deletes its ${missing.join(', ')} within ${backstopDays(subject)} days. ` +
          (isWritten(lifecycle.value, host, subject)
            ? 'The store left that out of the rule that `sealift bucket apply` wrote: see whether it does it by itself (MinIO ends uploads after a day).'
            : 'Run `sealift bucket apply`.'),
      );
    }),
  ];
}

/**
 * The enabled rules that would delete objects before the end of their longest life, ours included. A rule that asks for
 * a tag spares us: our objects have none. A date deletes whatever is there on that day, and on every later one.
 */
export function deletingLiveData(
  rules: readonly LifecycleRule[],
  subject: BucketSubject,
): { readonly id: string; readonly reason: string; readonly remedy: string }[] {
  const neededSeconds = ceilingSeconds(subject);
  return rules.flatMap((rule) => {
    const { Days, Date: date } = rule.Expiration ?? {};
    const tooEarly = date !== undefined || (Days !== undefined && Days * daySeconds < neededSeconds);
    const hosts = subject.hosts.filter((host) => canMatch(rule, snapshotsOf(host, subject)));
    if (rule.Status !== 'Enabled' || !tooEarly || hosts.length === 0) return [];
    const when = date === undefined ? `after ${countOf(Days ?? 0, 'day')}` : `on ${day(date)}`;
    const needed = `they are needed for ${formatDuration(neededSeconds)} (retention.maxAge and reuseWindow)`;
    return [
      {
        id: rule.ID ?? '(without a name)',
        reason: `it deletes objects of ${hosts.join(', ')} ${when}; ${needed}`,
        remedy: isOurs(rule, subject)
          ? 'It was written for a shorter life. If limits were raised since, run `sealift bucket apply` with the configuration of ' +
            'that host; if they were lowered, this ends with what was signed before.'
          : 'Change or remove the rule, or choose a store.prefix that it spares.',
      },
    ];
  });
}

/** What of a host no enabled rule deletes in time. */
function missingBackstops(
  rules: readonly LifecycleRule[],
  host: string,
  subject: BucketSubject,
  versions: boolean,
): string[] {
  const days = backstopDays(subject);
  const ours = rules.filter(
    (rule) => rule.Status === 'Enabled' && matchesAll(rule, snapshotsOf(host, subject)),
  );
  const within = (daysOf: (rule: LifecycleRule) => number | undefined): boolean =>
    ours.some((rule) => (daysOf(rule) ?? Infinity) <= days);
  return [
    ...(within(({ Expiration }) => Expiration?.Days) ? [] : ['objects']),
    ...(!versions || within(noncurrentDays) ? [] : ['older versions']),
    ...(within((rule) => rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation)
      ? []
      : ['unfinished uploads']),
  ];
}

/** Whether our rule for the host is there as it has to be now, but for parts that the store does not know. */
const isWritten = (rules: readonly LifecycleRule[], host: string, subject: BucketSubject): boolean =>
  rules.some(
    (rule) =>
      rule.Status === 'Enabled' &&
      hostOfRule(rule, subject.prefix) === host &&
      rule.Expiration?.Days === backstopDays(subject),
  );

/** A rule that keeps some newer versions for ever is no backstop. */
const noncurrentDays = ({ NoncurrentVersionExpiration: noncurrent }: LifecycleRule): number | undefined =>
  noncurrent?.NewerNoncurrentVersions ? undefined : noncurrent?.NoncurrentDays;

function judgeLock(lock: BucketFacts['lock'], subject: BucketSubject): Finding[] {
  const days = 'value' in lock ? lockDays(lock.value) : 0;
  const reason = lockTooLong(days * daySeconds, subject);
  if (reason === undefined) return [];
  const remedy = 'Shorten the default retention of the bucket, or lengthen retention.maxAge.';
  return [broken('default Object Lock', `${reason}. ${remedy}`)];
}

const lockDays = (lock: DefaultRetention | undefined): number =>
  Math.max(lock?.Days ?? 0, (lock?.Years ?? 0) * 365);

/** Why a default lock of this length would break the promise; undefined if it does not. */
export function lockTooLong(lockSeconds: number, limits: Limits): string | undefined {
  const longest = longestLockSeconds(limits);
  if (lockSeconds <= longest) return undefined;
  const runLimit = formatDuration(runLimitSeconds(limits));
  return (
    `a lock of ${formatDuration(lockSeconds)} keeps objects when their snapshot has expired; at most ` +
    `${formatDuration(longest)} are possible: retention.maxAge (${formatDuration(limits.maxAge)}) less the longest run (${runLimit}) and 2h`
  );
}

function judgePublic(publicBy: BucketFacts['publicBy'], { address }: BucketSubject): Finding[] {
  if ('value' in publicBy && publicBy.value.length > 0)
    return [
      broken(address, `everybody may use the bucket, by ${publicBy.value.join(' and ')}. Make it private.`),
    ];
  if ('unread' in publicBy && publicBy.unread === 'denied')
    return [
      warning(
        address,
        'whether it is public may not be asked here. Grant s3:GetBucketPolicyStatus and s3:GetBucketAcl.',
      ),
    ];
  return [];
}

interface Scope {
  readonly prefix: string;
  readonly tagged: boolean;
  /** Sizes strictly between these match. */
  readonly above: number;
  readonly below: number;
}

function scopeOf({ Filter, Prefix }: LifecycleRule): Scope {
  const And = Filter?.And;
  return {
    prefix: And?.Prefix ?? Filter?.Prefix ?? Prefix ?? '',
    tagged: Filter?.Tag !== undefined || (And?.Tags ?? []).length > 0,
    above: And?.ObjectSizeGreaterThan ?? Filter?.ObjectSizeGreaterThan ?? -1,
    below: And?.ObjectSizeLessThan ?? Filter?.ObjectSizeLessThan ?? Infinity,
  };
}

function canMatch(rule: LifecycleRule, folder: string): boolean {
  const { prefix, tagged, above, below } = scopeOf(rule);
  if (tagged || above >= longestObjectBytes || below <= 1) return false;
  return folder.startsWith(prefix) || prefix.startsWith(folder);
}

function matchesAll(rule: LifecycleRule, folder: string): boolean {
  const { prefix, tagged, above, below } = scopeOf(rule);
  return !tagged && above <= 0 && below > longestObjectBytes && folder.startsWith(prefix);
}
