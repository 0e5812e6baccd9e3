import { isDeepStrictEqual } from 'node:util';
import {
  GetBucketAclCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketPolicyStatusCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
  GetPublicAccessBlockCommand,
  PutBucketLifecycleConfigurationCommand,
  PutObjectLockConfigurationCommand,
  type DefaultRetention,
  type GetBucketAclCommandOutput,
  type LifecycleRule,
} from '@aws-sdk/client-s3';
import type { S3Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { connect, isAbsent, isUnknown, nameOf, statusOf, type S3Options } from './s3-client.ts';

/**
 * The rules of a bucket as a whole, beside the objects in it: what deletes, keeps and shows them without us. Nobody
 * but the owner may read most of them, and many S3-compatible stores know only some.
 */

/** An answer, or why there is none: we may not ask, or the store does not know the question. */
export type Reading<T> = { readonly value: T } | { readonly unread: 'denied' | 'unknown' };

export interface BucketRules {
  readonly lifecycle: Reading<readonly LifecycleRule[]>;
  readonly versioning: Reading<'Enabled' | 'Suspended' | 'off'>;
  /** The retention that new objects get; `value: undefined` for none. */
  readonly lock: Reading<DefaultRetention | undefined>;
  /** By what everybody may read the bucket; empty when nobody else may. */
  readonly publicBy: Reading<readonly string[]>;
}

export interface Bucket extends Disposable {
  readonly address: string;
  read(signal?: AbortSignal): Promise<BucketRules>;
  /** The lifecycle rules alone: one request. */
  lifecycle(signal?: AbortSignal): Promise<Reading<readonly LifecycleRule[]>>;
  /** Replaces the lifecycle rules. Without the right to read the present ones it throws and changes nothing. */
  changeLifecycle(
    change: (present: readonly LifecycleRule[]) => LifecycleRule[],
    signal?: AbortSignal,
  ): Promise<{ changed: boolean; rules: readonly LifecycleRule[] }>;
  /** New objects get this retention, which a holder of the right can lift; objects that are there keep theirs. */
  lockByDefault(days: number, signal?: AbortSignal): Promise<void>;
}

export function openBucket(config: S3Config, options?: S3Options): Bucket {
  // Some stores fail at what they do not know: by itself nobody waits for an answer to that.
  const { send, bucket: Bucket, address, ask, close } = connect(config, { patienceMs: 0, ...options });

  /** `none`: what it means that the bucket has nothing of the kind. */
  async function reading<T>(what: string, question: () => Promise<T>, none: T): Promise<Reading<T>> {
    return ask(`read ${what} of the bucket`, async () => {
      try {
        return { value: await question() };
      } catch (error) {
        if (isAbsent(error)) return { value: none };
        if (isUnknown(error) || statusOf(error) === 400) return { unread: 'unknown' };
        if (statusOf(error) === 403 && !isLogin(error)) return { unread: 'denied' };
        throw error;
      }
    });
  }

  const getLifecycle = (signal?: AbortSignal) =>
    send(new GetBucketLifecycleConfigurationCommand({ Bucket }), signal);

  const lifecycle = (signal?: AbortSignal): Promise<Reading<readonly LifecycleRule[]>> =>
    reading(
      'the lifecycle rules',
      async () => ((await getLifecycle(signal)).Rules ?? []).map(wellFormed),
      [],
    );

  async function publicBy(signal?: AbortSignal): Promise<Reading<readonly string[]>> {
    const [policy, acl, block] = await Promise.all([
      reading(
        'the policy status',
        async () => (await send(new GetBucketPolicyStatusCommand({ Bucket }), signal)).PolicyStatus,
        undefined,
      ),
      reading(
        'the access control list',
        async () => publicGrants(await send(new GetBucketAclCommand({ Bucket }), signal)),
        [],
      ),
      reading(
        'the public access block',
        async () =>
          (await send(new GetPublicAccessBlockCommand({ Bucket }), signal)).PublicAccessBlockConfiguration,
        undefined,
      ),
    ]);
    const blocked = 'value' in block ? block.value : undefined;
    const byPolicy = 'value' in policy && policy.value?.IsPublic && !blocked?.RestrictPublicBuckets;
    const byAcl = 'value' in acl && !blocked?.IgnorePublicAcls ? acl.value : [];
    const reasons = [...(byPolicy ? ['its policy'] : []), ...byAcl];
    const denied = [policy, acl].some((one) => 'unread' in one && one.unread === 'denied');
    return reasons.length === 0 && denied ? { unread: 'denied' } : { value: reasons };
  }

  return {
    address,
    lifecycle,
    async read(signal) {
      const [rules, versioning, lock, access] = await Promise.all([
        lifecycle(signal),
        reading(
          'the versioning state',
          async () => (await send(new GetBucketVersioningCommand({ Bucket }), signal)).Status ?? 'off',
          'off' as const,
        ),
        reading(
          'the Object Lock',
          async () =>
            (await send(new GetObjectLockConfigurationCommand({ Bucket }), signal)).ObjectLockConfiguration
              ?.Rule?.DefaultRetention,
          undefined,
        ),
        publicBy(signal),
      ]);
      return { lifecycle: rules, versioning, lock, publicBy: access };
    },
    changeLifecycle: (change, signal) =>
      ask('change the lifecycle rules of the bucket', async () => {
        const present = await getLifecycle(signal).catch((error: unknown) => {
          if (isAbsent(error)) return undefined;
          throw error;
        });
        const before = (present?.Rules ?? []).map(wellFormed);
        const rules = change(before);
        if (isDeepStrictEqual(sorted(rules), sorted(before))) return { changed: false, rules };
        const size = present?.TransitionDefaultMinimumObjectSize;
        await send(
          new PutBucketLifecycleConfigurationCommand({
            Bucket,
            LifecycleConfiguration: { Rules: rules },
            ...(size === undefined ? {} : { TransitionDefaultMinimumObjectSize: size }),
          }),
          signal,
        );
        return { changed: true, rules };
      }),
    lockByDefault: (Days, signal) =>
      ask('set the default Object Lock of the bucket', async () => {
        const DefaultRetention = { Mode: 'GOVERNANCE', Days } as const;
        const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention } } as const;
        try {
          const command = new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration });
          await send(command, signal);
        } catch (error) {
          if (nameOf(error) !== 'InvalidBucketState' && !isUnknown(error)) throw error;
          throw new SealiftError('failed', `Object Lock is not enabled for the bucket ${Bucket}`, {
            hint: 'Most stores allow it only when the bucket is made, as an option of its creation.',
            cause: error,
          });
        }
      }),
    [Symbol.dispose]: close,
  };
}

const isLogin = (error: unknown): boolean =>
  ['InvalidAccessKeyId', 'SignatureDoesNotMatch', 'RequestTimeTooSkewed'].includes(nameOf(error));

function publicGrants({ Grants = [] }: GetBucketAclCommandOutput): string[] {
  return Grants.flatMap(({ Grantee, Permission }) => {
    const group = /\/(AllUsers|AuthenticatedUsers)$/.exec(Grantee?.URI ?? '')?.[1];
    return group === undefined ? [] : [`its access control list (${Permission} for ${group})`];
  });
}

/**
 * A rule in the present form of S3, in which all rules of a bucket can be written together: a prefix without a filter is
 * the old form, and Ceph puts the prefix of an `And` beside it.
 */
function wellFormed({ Prefix, ...rule }: LifecycleRule): LifecycleRule {
  const { And, Tag, ...beside } = rule.Filter ?? { Prefix: Prefix ?? '' };
  if (!And) return { ...rule, Filter: { ...beside, ...(Tag && { Tag }) } };
  return {
    ...rule,
    Filter: { And: { ...beside, ...And, ...(Tag && { Tags: [...(And.Tags ?? []), Tag] }) } },
  };
}

const sorted = (rules: readonly LifecycleRule[]): LifecycleRule[] =>
  rules.toSorted((a, b) => ((a.ID ?? '') < (b.ID ?? '') ? -1 : 1));
