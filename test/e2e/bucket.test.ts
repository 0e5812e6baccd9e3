import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import {
  CreateBucketCommand,
  GetBucketLifecycleConfigurationCommand,
  GetObjectLockConfigurationCommand,
  PutBucketAclCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketPolicyCommand,
  PutObjectCommand,
  PutPublicAccessBlockCommand,
  type LifecycleRule,
  type S3Client,
} from '@aws-sdk/client-s3';
import { needs, s3Client, theService } from '../services/services.ts';
import { errorAnswer, s3Proxy } from '../store/s3-proxy.ts';
import { bucketStore, makeWorld, readJson, type World } from '../support/world.ts';
import { backup, hostWithSnapshot, refuses, treeJob } from './bad-input.ts';

interface Shown {
  readonly hosts: readonly string[];
  readonly changed?: boolean;
  readonly lifecycle: readonly LifecycleRule[] | null;
  readonly versioning: string | null;
  readonly lock: { readonly Mode: string; readonly Days: number } | null;
  readonly publicBy: readonly string[] | null;
  readonly ok: boolean;
  readonly findings: readonly { rule: string; severity: string; subject: string; message: string }[];
}

const foreign: LifecycleRule[] = [
  { ID: 'logs', Status: 'Enabled', Filter: { Prefix: 'logs/' }, Expiration: { Days: 3 } },
  {
    ID: 'tagged',
    Status: 'Disabled',
    Filter: {
      And: {
        Prefix: 'x/',
        Tags: [
          { Key: 'a', Value: 'b' },
          { Key: 'c', Value: 'd' },
        ],
      },
    },
    Expiration: { Days: 3 },
  },
  { ID: 'dated', Status: 'Enabled', Filter: { Prefix: 'd/' }, Expiration: { Date: new Date('2030-01-01') } },
];

const putRules = (client: S3Client, Bucket: string, Rules: LifecycleRule[]) =>
  client.send(new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration: { Rules } }));
const getRules = async (client: S3Client, Bucket: string): Promise<LifecycleRule[]> =>
  (await client.send(new GetBucketLifecycleConfigurationCommand({ Bucket }))).Rules ?? [];

async function world(t: TestContext, store: object): Promise<World> {
  return makeWorld(t, { jobs: treeJob, store });
}

async function lockableBucket() {
  const { store } = await bucketStore();
  const bucket = `sealift-test-${randomBytes(6).toString('hex')}`;
  const client = s3Client();
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
  return { store: { ...store, bucket }, bucket, client };
}

suite('bucket', needs('s3'), () => {
  test('apply makes the rules for every host, keeps foreign ones, and changes nothing the second time', async (t) => {
    const { store, bucket, client } = await bucketStore({ versioned: true });
    const host = await world(t, store);
    for (const key of ['jabber/h2/snap/x', 'other/h3/snap/x', 'jabber/Not-A-Host/x'])
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: 'x' }));
    await putRules(client, bucket, foreign);
    const foreignBefore = await getRules(client, bucket);

    const before = await host.json<Shown>('bucket', 'show');
    // Of h2 nothing can be verified: its limits are not known, and ours are not its.
    assert.deepEqual(before.hosts, ['h1']);
    assert.deepEqual(
      before.findings.map(({ severity, subject }) => `${severity} ${subject}`),
      ['warning h1'],
    );
    assert.equal(before.versioning, 'Enabled');
    assert.deepEqual(await getRules(client, bucket), foreignBefore, 'show changes nothing');

    const first = await host.json<Shown>('bucket', 'apply');
    assert.deepEqual([first.changed, first.ok, first.findings], [true, true, []]);
    const applied = await getRules(client, bucket);
    const ids = ['dated', 'logs', 'sealift-jabber/h1', 'sealift-jabber/h1.markers', 'tagged'];
    assert.deepEqual(new Set(applied.map(({ ID }) => ID)), new Set(ids));
    assert.deepEqual(
      applied.filter(({ ID }) => !ID?.startsWith('sealift-')),
      foreignBefore,
    );
    const ours = applied.find(({ ID }) => ID === 'sealift-jabber/h1');
    assert.deepEqual([ours?.Filter?.Prefix, ours?.Expiration?.Days], ['jabber/h1/snap/', 10]);

    const second = await host.json<Shown>('bucket', 'apply');
    assert.equal(second.changed, false);
    assert.deepEqual(await getRules(client, bucket), applied);
    const { status, stdout } = await host.run('bucket', 'show');
    assert.equal(status, 0);
    assert.match(
      stdout,
      /sealift-jabber\/h1 +jabber\/h1\/snap\/ +delete after 10d, older versions after 10d, uploads after 1d/,
    );
    assert.match(stdout, /tagged +x\/ \{"Tags":.*\(off\) delete after 3d/);
    assert.match(stdout, /The bucket is as it should be/);
  });

  test('a lifecycle rule that deletes live data stops a backup, and apply says that it is still there', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const { world: host, nothingLost } = await hostWithSnapshot(t, { store });
    await putRules(client, bucket, [
      { ID: 'tidy up', Status: 'Enabled', Filter: { Prefix: 'jab' }, Expiration: { Days: 8 } },
    ]);
    const says =
      /lifecycle rule tidy up of s3:\/\/\S+ .*objects of h1 after 8 days; they are needed for 8d 2h/;
    await refuses(host, ['backup'], { exit: 1, code: 'bucket-unsafe', says, hint: /sealift bucket show/ });
    const applied = await host.run('bucket', 'apply', '--json');
    assert.equal(applied.status, 1);
    const { changed, findings } = JSON.parse(applied.stdout) as Shown;
    assert.equal(changed, true);
    assert.deepEqual(
      findings.map(({ severity, subject }) => `${severity} ${subject}`),
      ['broken lifecycle rule tidy up'],
    );
    assert.match((await host.run('bucket', 'show')).stdout, /broken {2}lifecycle rule tidy up: it deletes/);
    await nothingLost();

    await putRules(client, bucket, [
      { ID: 'tidy up', Status: 'Enabled', Filter: { Prefix: 'jab' }, Expiration: { Days: 9 } },
    ]);
    await backup(host);
  });

  test('a store that knows no lifecycle rules says so', async (t) => {
    const { store } = await bucketStore();
    const { world } = await hostWithSnapshot(t, { store });
    const endpoint = await s3Proxy(t, async (exchange) => {
      if (exchange.method !== 'PUT' || !/[?&]lifecycle/.test(exchange.path))
        return exchange.answer(await exchange.ask());
      exchange.answer(errorAnswer(501, 'NotImplemented'));
    });
    setStore(world, { ...store, endpoint });
    const { status, stderr } = await world.run('bucket', 'apply');
    assert.equal(status, 1);
    assert.match(stderr, /cannot change the lifecycle rules .*NotImplemented/);
    assert.match(stderr, /hint: This store does not know how to do that/);
  });

  test('a backup asks once for the rules, and goes on where they may not be read or are not known', async (t) => {
    const { store } = await bucketStore();
    const { world: host } = await hostWithSnapshot(t, { store });
    let questions = 0;
    for (const [status, code, why] of [
      [403, 'AccessDenied', /lifecycle rules of s3:\S+ were not checked: they may not be read/],
      [501, 'NotImplemented', /lifecycle rules of s3:\S+ were not checked: it knows none/],
      [400, 'InvalidRequest', /lifecycle rules of s3:\S+ were not checked: it knows none/],
    ] as const) {
      questions = 0;
      const endpoint = await s3Proxy(t, async (exchange) => {
        if (!/[?&]lifecycle/.test(exchange.path)) return exchange.answer(await exchange.ask());
        questions++;
        exchange.answer(errorAnswer(status, code));
      });
      setStore(host, { ...store, endpoint });
      const { status: exit, stderr } = await host.run('backup', '-v');
      assert.equal(exit, 0, stderr);
      assert.match(stderr, why);
      assert.equal(questions, 1);
    }
  });

  test('a default lock is set if it is short enough, else refused with the reason', async (t) => {
    const { store, bucket, client } = await lockableBucket();
    const host = await world(t, store);
    const lock = async () =>
      (await client.send(new GetObjectLockConfigurationCommand({ Bucket: bucket }))).ObjectLockConfiguration
        ?.Rule;
    const refused = (duration: string, says: RegExp) =>
      refuses(host, ['bucket', 'apply', '--lock', duration], { exit: 2, code: 'usage', says });
    await refused(
      '5d',
      /a lock of 5d keeps objects .*at most 4d are possible: .*7d.* longest run \(2d 22h\) and 2h/,
    );
    for (const odd of ['36h', '0d', 'long', '30m']) await refused(odd, /must be a whole number of days/);
    assert.equal(await lock(), undefined);
    assert.deepEqual(await getRules(client, bucket).catch(() => []), [], 'nothing else was applied either');
    for (let i = 0; i < 2; i++) {
      const applied = await host.json<Shown>('bucket', 'apply', '--lock', '96h');
      assert.deepEqual(applied.lock, { Mode: 'GOVERNANCE', Days: 4 });
      assert.equal(applied.ok, true);
    }
    assert.deepEqual((await lock())?.DefaultRetention, { Mode: 'GOVERNANCE', Days: 4 });
    assert.match((await host.run('bucket', 'show')).stdout, /Object Lock +GOVERNANCE, 4 days/);

    setRetention(host, '6d');
    const { findings } = await host.json<Shown>('bucket', 'show');
    assert.match(
      findings.map(({ subject, message }) => `${subject}: ${message}`).join(),
      /default Object Lock: a lock of 4d/,
    );
  });

  test('a default lock must be short enough for every host in the bucket', async (t) => {
    const { store, bucket, client } = await lockableBucket();
    const { world: other } = await hostWithSnapshot(t, {
      store,
      host: 'h2',
      settings: { retention: { maxAge: '3d' } },
    });
    const host = await world(t, store);
    const pin = 'keys/hosts/h2.asc';
    cpSync(join(other.dir, pin), join(host.dir, pin));
    const says = /a lock of 4d keeps objects .*at most 2d .*3d.*\(host h2\)/;
    await refuses(host, ['bucket', 'apply', '--lock', '4d'], { exit: 2, code: 'usage', says });
    const { ObjectLockConfiguration } = await client.send(
      new GetObjectLockConfigurationCommand({ Bucket: bucket }),
    );
    assert.equal(ObjectLockConfiguration?.Rule, undefined);
    assert.deepEqual(await getRules(client, bucket).catch(() => []), []);
  });

  test('a lock for a bucket that was made without says so', async (t) => {
    const { store } = await bucketStore();
    const host = await world(t, store);
    const says = /Object Lock is not enabled for the bucket/;
    await refuses(host, ['bucket', 'apply', '--lock', '4d'], {
      exit: 1,
      code: 'failed',
      says,
      hint: /is made/,
    });
  });

  test('a public bucket is found by its access list and by its policy, unless public access is blocked', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const host = await world(t, store);
    const publicBy = async (): Promise<string> => {
      const shown = await host.json<Shown>('bucket', 'show');
      const broken = shown.findings.filter(({ severity }) => severity === 'broken');
      assert.equal(broken.length, shown.publicBy?.length === 0 ? 0 : 1);
      return shown.publicBy?.join() ?? 'unknown';
    };
    assert.equal(await publicBy(), '');
    await client.send(new PutBucketAclCommand({ Bucket: bucket, ACL: 'public-read' }));
    assert.match(await publicBy(), /access control list \(READ for AllUsers\)/);
    await client.send(new PutBucketAclCommand({ Bucket: bucket, ACL: 'authenticated-read' }));
    assert.match(await publicBy(), /access control list \(READ for AuthenticatedUsers\)/);
    await client.send(new PutBucketAclCommand({ Bucket: bucket, ACL: 'private' }));
    const Statement = [
      { Effect: 'Allow', Principal: '*', Action: ['s3:GetObject'], Resource: [`arn:aws:s3:::${bucket}/*`] },
    ];
    await client.send(
      new PutBucketPolicyCommand({
        Bucket: bucket,
        Policy: JSON.stringify({ Version: '2012-10-17', Statement }),
      }),
    );
    assert.equal(await publicBy(), 'its policy');
    const PublicAccessBlockConfiguration = { IgnorePublicAcls: true, RestrictPublicBuckets: true };
    await client.send(new PutPublicAccessBlockCommand({ Bucket: bucket, PublicAccessBlockConfiguration }));
    assert.equal(await publicBy(), '');
  });

  test('somebody who may read objects only is told what could not be asked, and may not apply', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const { stranger } = theService('s3');
    const host = await world(t, { ...store, ...stranger });
    const Statement = [
      {
        Effect: 'Allow',
        Principal: { AWS: ['arn:aws:iam:::user/stranger'] },
        Action: ['s3:ListBucket', 's3:GetObject'],
        Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
      },
    ];
    await client.send(
      new PutBucketPolicyCommand({
        Bucket: bucket,
        Policy: JSON.stringify({ Version: '2012-10-17', Statement }),
      }),
    );
    const { lifecycle, publicBy, findings } = await host.json<Shown>('bucket', 'show');
    assert.deepEqual([lifecycle, publicBy], [null, null]);
    assert.deepEqual(
      findings.map(({ severity }) => severity),
      ['warning', 'warning'],
    );
    const says = /cannot change the lifecycle rules .*not allowed/;
    await refuses(host, ['bucket', 'apply'], { exit: 1, code: 'store-denied', says });
  });
});

test('a directory has no rules of its own', async (t) => {
  const host = await makeWorld(t, { jobs: treeJob });
  for (const command of ['show', 'apply']) {
    const says = /is a directory, which has no rules of its own/;
    await refuses(host, ['bucket', command], { exit: 2, code: 'usage', says, hint: /sealift prune/ });
  }
});

function change(host: World, settings: object): void {
  writeFileSync(host.configFile, JSON.stringify({ ...(readJson(host.configFile) as object), ...settings }));
}
const setStore = (host: World, store: object): void => change(host, { store });
const setRetention = (host: World, maxAge: string): void => change(host, { retention: { maxAge } });

test(
  'a folder of somebody else is no host to it, and a question that always fails ends it soon',
  needs('s3'),
  async (t) => {
    let fails = false;
    const endpoint = await s3Proxy(t, async (exchange) =>
      fails && exchange.path.includes('publicAccessBlock')
        ? exchange.answer(errorAnswer(500, 'InternalError'))
        : exchange.answer(await exchange.ask()),
    );
    const { store, bucket, client } = await bucketStore();
    const Key = `${store.prefix}photos/cat.jpg`;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'meow' }));
    const world = await makeWorld(t, { store: { ...store, endpoint }, jobs: {} });
    const { stderr } = await world.run('bucket', 'show');
    assert.equal(stderr.includes('photos'), false);
    fails = true;
    const startedMs = performance.now();
    const { status } = await world.run('bucket', 'show');
    assert.equal(status, 1);
    assert.ok(performance.now() - startedMs < 10_000);
  },
);
