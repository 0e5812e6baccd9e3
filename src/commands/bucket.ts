import type { LifecycleRule } from '@aws-sdk/client-s3';
import { day, formatDuration, parseDuration } from '../clock.ts';
import type { Config, S3Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import type { Log } from '../log.ts';
import { printable } from '../output.ts';
import type { Finding } from '../policy/audit-facts.ts';
import {
  deletingLiveData,
  judgeBucket,
  lockTooLong,
  longestLockSeconds,
  wantedLifecycle,
  type BucketSubject,
} from '../policy/bucket-rules.ts';
import { ceilingSeconds, limitsOf, type Limits } from '../policy/retention.ts';
import type { Bucket, BucketRules, Reading } from '../store/bucket.ts';
import { openStore, unattendedPatienceMs } from '../store/open.ts';
import type { S3Options } from '../store/s3-client.ts';
import { listHost, readSnapshots } from '../snapshot/catalog.ts';
import type { Context, Outcome } from './context.ts';
import { hostsIn } from './reader-session.ts';
import { trustOf } from './trusted.ts';

export interface ApplyOptions {
  readonly lock?: string;
}

const daySeconds = 86_400;

/** What the bucket does by itself, and what is to be said of it. */
export async function show(context: Context): Promise<Outcome> {
  const { config, s3 } = await bucketOf(context);
  using bucket = await open(s3);
  const subjects = await subjectsOf(context, config, s3, bucket);
  report(context, await bucket.read(context.signal), subjects);
}

/** Gives the bucket the rules that delete what no pruner does; with `lock`, also a default Object Lock. */
export async function apply(context: Context, options: ApplyOptions): Promise<Outcome> {
  const { config, s3 } = await bucketOf(context);
  using bucket = await open(s3);
  const subjects = await subjectsOf(context, config, s3, bucket);
  const days = options.lock === undefined ? undefined : lockDays(options.lock, subjects);
  const before = await bucket.read(context.signal);
  const versions = !('unread' in before.versioning && before.versioning.unread === 'unknown');
  const { changed } = await bucket.changeLifecycle(
    (present) => subjects.reduce((rules, subject) => wantedLifecycle(rules, subject, versions), [...present]),
    context.signal,
  );
  context.log.info(changed ? 'the lifecycle rules are written' : 'the lifecycle rules are as they should be');
  if (days !== undefined && !isLockedFor(before.lock, days)) {
    await bucket.lockByDefault(days, context.signal);
    context.log.info(`new objects are locked for ${formatDuration(days * daySeconds)}`);
  }
  const after = await bucket.read(context.signal);
  const { broken } = report(context, after, subjects, changed);
  return broken ? 'bucket-unsafe' : undefined;
}

/**
 * Called at the start of a run. Throws `bucket-unsafe` when a lifecycle rule would delete this host's live data: such a
 * backup would look like one and be none. Costs one request; a bucket that does not tell its rules is used as it is.
 */
export async function refuseUnsafeBucket(
  config: Config,
  host: string,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<void> {
  if (config.store.kind !== 's3') return;
  const patience = { firstPatienceMs: unattendedPatienceMs, patienceMs: unattendedPatienceMs };
  using bucket = await open(config.store, { log, ...patience });
  const lifecycle = await bucket.lifecycle(signal);
  if ('unread' in lifecycle) {
    const why =
      lifecycle.unread === 'denied' ? 'they may not be read with these credentials' : 'it knows none';
    log.debug(`the lifecycle rules of ${bucket.address} were not checked: ${why}`);
    return;
  }
  const [rule] = deletingLiveData(lifecycle.value, subjectOf(config, config.store, bucket, [host]));
  if (!rule) return;
  throw new SealiftError(
    'bucket-unsafe',
    `the lifecycle rule ${rule.id} of ${bucket.address} is in the way: ${rule.reason}`,
    { hint: `${rule.remedy} \`sealift bucket show\` shows all rules.` },
  );
}

/** What is to be said of the bucket with regard to these hosts; nothing of a directory. Asks, and changes nothing. */
export async function lookAtBucket(
  { store }: Config,
  hosts: readonly (Limits & { readonly host: string })[],
  signal: AbortSignal,
): Promise<Finding[]> {
  if (store.kind !== 's3') return [];
  using bucket = await open(store);
  const { address } = bucket;
  const subjects = hosts.map(({ host, maxAge, reuseWindow }) => ({
    address,
    prefix: store.prefix,
    hosts: [host],
    maxAge,
    reuseWindow,
  }));
  return judgeBucket(await bucket.read(signal), ...subjects);
}

async function bucketOf(context: Context): Promise<{ config: Config; s3: S3Config }> {
  const config = await context.config();
  if (config.store.kind === 's3') return { config, s3: config.store };
  throw new SealiftError(
    'usage',
    `the store ${config.store.path} is a directory, which has no rules of its own`,
    { hint: 'There, `sealift prune` and `sealift daemon` alone keep the retention.' },
  );
}

async function open(s3: S3Config, options?: S3Options): Promise<Bucket> {
  // The S3 client is large; who backs up to a directory does not load it.
  const { openBucket } = await import('../store/bucket.ts');
  return openBucket(s3, options);
}

/**
 * This host, by its configuration, and every other that has something in the store, by the largest limits that it
 * signed: nobody's data may go by somebody else's limits. A host of which nothing can be verified is left alone.
 */
async function subjectsOf(
  context: Context,
  config: Config,
  s3: S3Config,
  bucket: Bucket,
): Promise<readonly [BucketSubject, ...BucketSubject[]]> {
  const { signal, log } = context;
  await using store = await openStore(s3, log);
  const trust = await trustOf(config);
  const own = subjectOf(config, s3, bucket, config.host === undefined ? [] : [config.host]);
  const subjects: [BucketSubject, ...BucketSubject[]] = [own];
  const stored = await hostsIn({ store }, signal);
  for (const host of stored.filter((name) => name !== config.host)) {
    const listing = await listHost(store, host, signal);
    const { snapshots } = await readSnapshots(store, host, listing, trust.get(host) ?? [], { signal });
    const [longest] = snapshots
      .map(({ index: { maxAge, reuseWindow } }) => ({ maxAge, reuseWindow }))
      .toSorted((a, b) => ceilingSeconds(b) - ceilingSeconds(a));
    if (longest) subjects.push({ ...own, hosts: [host], ...longest });
    else
      log.warn(
        `host ${host} has no snapshot that can be verified here: its limits are not known, and no rule is made for it`,
      );
  }
  return subjects;
}

const subjectOf = (
  config: Config,
  s3: S3Config,
  { address }: Bucket,
  hosts: readonly string[],
): BucketSubject => ({ address, prefix: s3.prefix, hosts, ...limitsOf(config) });

/**
 * The length of a default lock in days, in which S3 counts. Refuses one that would break the promise of any host in the
 * bucket: all of them get it.
 */
function lockDays(duration: string, subjects: readonly BucketSubject[]): number {
  const seconds = parseDuration(duration);
  const days = (seconds ?? 0) / daySeconds;
  const longest = Math.min(...subjects.map(longestLockSeconds));
  if (!Number.isInteger(days) || days < 1)
    throw new SealiftError('usage', `--lock ${duration}: must be a whole number of days, such as 4d`, {
      hint: `The longest that is possible here is ${formatDuration(Math.max(0, longest))}.`,
    });
  for (const subject of subjects) {
    const reason = lockTooLong(days * daySeconds, subject);
    if (reason === undefined) continue;
    const whose = subject.hosts.length === 0 ? '' : ` (host ${subject.hosts.join(', ')})`;
    throw new SealiftError('usage', `--lock ${duration}: ${reason}${whose}`, {
      hint: 'Choose a shorter lock, or lengthen retention.maxAge.',
    });
  }
  return days;
}

const isLockedFor = (lock: BucketRules['lock'], days: number): boolean =>
  'value' in lock && lock.value?.Mode === 'GOVERNANCE' && lock.value.Days === days;

function report(
  { output, json }: Context,
  rules: BucketRules,
  subjects: readonly [BucketSubject, ...BucketSubject[]],
  changed?: boolean,
): { broken: boolean } {
  const [subject] = subjects;
  const findings = judgeBucket(rules, ...subjects);
  const broken = findings.some(({ severity }) => severity === 'broken');
  if (json) {
    output.json({
      bucket: subject.address,
      hosts: subjects.flatMap(({ hosts }) => hosts).toSorted(),
      ...(changed === undefined ? {} : { changed }),
      lifecycle: valueOf(rules.lifecycle),
      versioning: valueOf(rules.versioning),
      lock: valueOf(rules.lock),
      publicBy: valueOf(rules.publicBy),
      ok: findings.length === 0,
      findings,
    });
    return { broken };
  }
  const { lifecycle, versioning, lock, publicBy } = rules;
  output.text(output.paint('strong', subject.address));
  output.text(`  versions      ${inWords(versioning, (state) => state.toLowerCase())}`);
  output.text(
    `  Object Lock   ${inWords(lock, (one) => (one ? `${one.Mode}, ${periodOf(one)}` : 'none by default'))}`,
  );
  output.text(
    `  public        ${inWords(publicBy, (by) => (by.length === 0 ? 'no' : `yes, by ${by.join(', ')}`))}`,
  );
  output.text(
    `  lifecycle     ${inWords(lifecycle, (all) => (all.length === 0 ? 'no rules' : `${all.length} rules`))}`,
  );
  if ('value' in lifecycle && lifecycle.value.length > 0) {
    output.text();
    output.table(
      [
        { title: 'RULE', shrinkTo: 16 },
        { title: 'APPLIES TO', shrinkTo: 10 },
        { title: 'DOES', shrinkTo: 20 },
      ],
      lifecycle.value.map((rule) => [printable(rule.ID ?? '-'), printable(scopeOf(rule)), actionsOf(rule)]),
    );
  }
  output.text();
  for (const { severity, subject: about, message } of findings)
    output.text(
      `${output.paint(severity === 'broken' ? 'bad' : 'warning', severity)}  ${printable(`${about}: ${message}`)}`,
    );
  if (findings.length === 0) output.text(output.paint('good', 'The bucket is as it should be.'));
  return { broken };
}

const valueOf = <T>(reading: Reading<T>): T | null => ('value' in reading ? (reading.value ?? null) : null);

function inWords<T>(reading: Reading<T>, words: (value: T) => string): string {
  if ('value' in reading) return words(reading.value);
  return reading.unread === 'denied' ? 'may not be asked here' : 'not known to this store';
}

const periodOf = ({ Days, Years }: { Days?: number | undefined; Years?: number | undefined }): string =>
  Years ? `${Years} years` : `${Days ?? 0} days`;

function scopeOf({ Filter }: LifecycleRule): string {
  const { And, ...plain } = Filter ?? {};
  const { Prefix, ...more } = { ...plain, ...And };
  const others = Object.keys(more).length === 0 ? '' : ` ${JSON.stringify(more)}`;
  return `${Prefix || 'everything'}${others}`;
}

function actionsOf(rule: LifecycleRule): string {
  const { Expiration, NoncurrentVersionExpiration, AbortIncompleteMultipartUpload } = rule;
  const actions = [
    Expiration?.Days !== undefined && `delete after ${Expiration.Days}d`,
    Expiration?.Date && `delete on ${day(Expiration.Date)}`,
    Expiration?.ExpiredObjectDeleteMarker && 'remove lone markers',
    NoncurrentVersionExpiration && `older versions after ${NoncurrentVersionExpiration.NoncurrentDays}d`,
    AbortIncompleteMultipartUpload && `uploads after ${AbortIncompleteMultipartUpload.DaysAfterInitiation}d`,
    (rule.Transitions || rule.NoncurrentVersionTransitions) && 'move to another class',
  ].filter((action) => typeof action === 'string');
  return `${rule.Status === 'Enabled' ? '' : '(off) '}${actions.join(', ') || 'nothing'}`;
}
