import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
} from '@aws-sdk/client-s3';
import { suite, test } from 'node:test';
import { freePorts } from '../services/server-group.ts';
import { freshBucket, needs, s3Client, theService } from '../services/services.ts';
import { mapConcurrent } from '../../src/concurrency.ts';
import type { Store } from '../../src/store/store.ts';
import { contentsOf, keysBelow, removeAll, storeContract } from './contract.ts';
import { freshPrefix, s3Store } from './s3-store.ts';

const { skip } = needs('s3');
const plain = skip ? undefined : await freshBucket();
const versioned = skip ? undefined : await freshBucket({ versioned: true });
type Bucket = NonNullable<typeof plain>;

const plantIn =
  ({ bucket, client }: Bucket, prefix = '') =>
  async (key: string, bytes: Uint8Array): Promise<void> => {
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: prefix + key, Body: bytes }));
  };

const beginIn =
  ({ bucket, client }: Bucket, prefix = '') =>
  async (key: string): Promise<void> => {
    await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: prefix + key }));
  };

const hideIn =
  ({ bucket, client }: Bucket, prefix = '') =>
  async (key: string): Promise<void> => {
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: prefix + key }));
  };

const besides = (bucket: Bucket, prefix = '') => ({
  plant: plantIn(bucket, prefix),
  hide: hideIn(bucket, prefix),
  begin: beginIn(bucket, prefix),
});

storeContract('a bucket', { skip }, async (t) => {
  const bucket = await freshBucket();
  return { store: s3Store(t, { bucket: bucket.bucket }), ...besides(bucket) };
});

storeContract('a prefix of a bucket', { skip, few: true }, async (t) => {
  const prefix = freshPrefix();
  const store = s3Store(t, { bucket: plain!.bucket, prefix });
  return { store, ...besides(plain!, prefix) };
});

storeContract('a versioned bucket', { skip, versioned: true, few: true }, async (t) => {
  const bucket = await freshBucket({ versioned: true });
  return { store: s3Store(t, { bucket: bucket.bucket }), ...besides(bucket) };
});

storeContract('a prefix of a versioned bucket', { skip, versioned: true }, async (t) => {
  const prefix = freshPrefix();
  const store = s3Store(t, { bucket: versioned!.bucket, prefix });
  return { store, ...besides(versioned!, prefix) };
});

suite('a bucket', { skip }, () => {
  test('what lies beside the prefix is not seen', async (t) => {
    const prefix = freshPrefix();
    const { bucket } = plain!;
    const plant = plantIn(plain!);
    for (const key of ['other/x', prefix.slice(0, -1), `${prefix.slice(0, -1)}-2/x`, `x/${prefix}x`])
      await plant(key, Buffer.from('x'));
    await beginIn(plain!)('other/begun');
    const store = s3Store(t, { bucket, prefix });
    await store.put('mine', Buffer.from('1'));
    assert.deepEqual(await Array.fromAsync(store.listVersions(''), ({ key }) => key), ['mine']);
    assert.deepEqual(await Array.fromAsync(store.unfinished()), []);
    assert.deepEqual(await keysBelow(store, ''), ['mine']);
    assert.deepEqual(await store.folders(''), []);
  });

  test('a prefix with odd characters is a prefix like any other', async (t) => {
    const store = s3Store(t, { bucket: plain!.bucket, prefix: `ü +%/${freshPrefix()}` });
    await store.put('a/b', Buffer.from('1'));
    assert.deepEqual(await keysBelow(store, ''), ['a/b']);
    assert.deepEqual(await store.folders(''), ['a']);
    assert.deepEqual(await contentsOf(store, 'a/b'), ['1']);
  });
});

suite('a versioned bucket', { skip }, () => {
  test('older versions are read below a delete marker, newest first, and without those of other keys', async (t) => {
    const prefix = freshPrefix();
    const { bucket, client } = versioned!;
    const store = s3Store(t, { bucket, prefix });
    for (const content of ['1', '2', '3']) await store.replace('key', Buffer.from(content));
    await store.put('key-2', Buffer.from('of another key'));
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: `${prefix}key` }));
    assert.deepEqual(await contentsOf(store, 'key'), ['3', '2', '1']);
    assert.deepEqual(await keysBelow(store, ''), ['key-2']);
    await store.put('key', Buffer.from('4'));
    assert.deepEqual(await contentsOf(store, 'key'), ['4', '3', '2', '1']);
  });

  test('only as many versions are fetched as the reader asks for', async (t) => {
    const store = s3Store(t, { bucket: versioned!.bucket, prefix: freshPrefix() });
    for (const content of ['1', '2', '3']) await store.replace('key', Buffer.from(content));
    for await (const content of store.versions('key')) {
      assert.equal(String(content), '3');
      break;
    }
  });
});

const described = async (store: Store): Promise<unknown[]> =>
  Array.fromAsync(store.listVersions(''), ({ key, sizeBytes, latest, marker }) => [
    key,
    marker ? 'marker' : sizeBytes,
    ...(latest ? ['latest'] : []),
  ]);

suite('removing from a bucket', { skip }, () => {
  test('leaves no version and no deletion marker', async (t) => {
    const prefix = freshPrefix();
    const { bucket, client } = versioned!;
    const store = s3Store(t, { bucket, prefix });
    const hide = (key: string) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key: prefix + key }));
    for (const key of ['a', 'b']) await store.put(key, Buffer.from('1'));
    await hide('a');
    await store.replace('a', Buffer.from('22'));
    await hide('a');
    assert.deepEqual(await described(store), [
      ['a', 'marker', 'latest'],
      ['a', 2],
      ['a', 'marker'],
      ['a', 1],
      ['b', 1, 'latest'],
    ]);
    const [marker] = await Array.fromAsync(store.listVersions(''));
    await store.remove(marker!);
    assert.deepEqual(await contentsOf(store, 'a'), ['22', '1'], 'what the marker hid is there again');
    await removeAll(store);
    assert.deepEqual(await described(store), []);
  });

  test('works whether versions are kept, were never kept, or are no longer kept', async (t) => {
    const { bucket, client } = await freshBucket();
    const store = s3Store(t, { bucket });
    const keep = (Status: 'Enabled' | 'Suspended') =>
      client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration: { Status } }));
    await store.replace('a', Buffer.from('1'));
    await keep('Enabled');
    await store.replace('a', Buffer.from('22'));
    assert.deepEqual(await described(store), [
      ['a', 2, 'latest'],
      ['a', 1],
    ]);
    await keep('Suspended');
    await store.replace('a', Buffer.from('333')); // in place of the version `null`
    assert.deepEqual(await described(store), [
      ['a', 3, 'latest'],
      ['a', 2],
    ]);
    const versions = await Array.fromAsync(store.listVersions(''));
    await store.remove(versions[0]!);
    assert.deepEqual(await described(store), [['a', 2, 'latest']]);
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: 'a' }));
    assert.deepEqual(await described(store), [
      ['a', 'marker', 'latest'],
      ['a', 2],
    ]);
    await removeAll(store);
    assert.deepEqual(await described(store), []);
  });

  test('finds all of more than a thousand versions and markers of one object', async (t) => {
    const { bucket, client } = await freshBucket({ versioned: true });
    const prefix = 'ü +%/';
    const store = s3Store(t, { bucket, prefix });
    const todo = Array.from({ length: 1005 }, (_, i) => i);
    const Key = `${prefix}a+b %`;
    await mapConcurrent(todo, 16, (i) =>
      client.send(
        i % 100 === 0
          ? new DeleteObjectCommand({ Bucket: bucket, Key })
          : (new PutObjectCommand({ Bucket: bucket, Key, Body: String(i) }) as never),
      ),
    );
    await store.put('a+b %/z', Buffer.from('z'));
    const versions = await Array.fromAsync(store.listVersions(''));
    assert.equal(versions.length, 1006);
    assert.equal(new Set(versions.map(({ key, version }) => `${version} ${key}`)).size, 1006);
    assert.equal(versions.filter(({ marker }) => marker).length, 11);
    assert.equal(versions.filter(({ latest }) => latest).length, 2);
    await mapConcurrent(versions, 16, (version) => store.remove(version));
    assert.deepEqual(await described(store), []);
  });

  test('is refused while a lock or a legal hold lasts, and says how long', async (t) => {
    const { bucket, client } = await lockableBucket();
    const store = s3Store(t, { bucket });
    const until = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3600_000);
    const lock = { ObjectLockMode: 'GOVERNANCE', ObjectLockRetainUntilDate: until } as const;
    const ContentMD5 = createHash('md5').update('1').digest('base64');
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'a', Body: '1', ContentMD5, ...lock }));
    await store.put('held', Buffer.from('2'));
    const hold = (Status: 'ON' | 'OFF') =>
      client.send(new PutObjectLegalHoldCommand({ Bucket: bucket, Key: 'held', LegalHold: { Status } }));
    await hold('ON');
    const [a, held] = await Array.fromAsync(store.listVersions(''));
    await assert.rejects(store.remove(a!), {
      code: 'object-locked',
      message: new RegExp(`cannot delete a .*kept until ${until.toISOString().slice(0, 19)}Z`),
    });
    await assert.rejects(store.remove(held!), { code: 'object-locked', message: /legal hold/ });
    assert.deepEqual(await contentsOf(store, 'a'), ['1']);
    await hold('OFF');
    await store.remove(held!);
    assert.deepEqual(await described(store), [['a', 1, 'latest']]);
  });

  test('and looking for versions are rights of their own', async (t) => {
    const { bucket, client } = await freshBucket({ versioned: true });
    const owner = s3Store(t, { bucket });
    await owner.put('a', Buffer.from('1'));
    const statement = {
      Effect: 'Allow',
      Principal: { AWS: ['arn:aws:iam:::user/stranger'] },
      Action: ['s3:ListBucket', 's3:GetObject'],
      Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
    };
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
    const reader = s3Store(t, { bucket, as: theService('s3').stranger });
    assert.deepEqual(await keysBelow(reader, ''), ['a']);
    await assert.rejects(Array.fromAsync(reader.listVersions('')), { code: 'store-denied' });
    await assert.rejects(Array.fromAsync(reader.unfinished()), { code: 'store-denied' });
    const [a] = await Array.fromAsync(owner.listVersions(''));
    await assert.rejects(reader.remove(a!), {
      code: 'store-denied',
      message: /cannot delete a .*not allowed/,
    });
    assert.deepEqual(await contentsOf(owner, 'a'), ['1']);
  });
});

async function lockableBucket(): Promise<Bucket> {
  const bucket = `sealift-test-${randomBytes(6).toString('hex')}`;
  const client = s3Client();
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
  return { bucket, client };
}

const questions = (store: Store): Record<string, () => Promise<unknown>> => ({
  put: () => store.put('new', Buffer.from('1')),
  replace: () => store.replace('new', Buffer.from('1')),
  versions: () => Array.fromAsync(store.versions('none')),
  list: () => Array.fromAsync(store.list('')),
  folders: () => store.folders(''),
  now: () => store.now(),
  listVersions: () => Array.fromAsync(store.listVersions('')),
  remove: () => store.remove({ key: 'none', version: undefined }),
  'remove a version': () => store.remove({ key: 'none', version: 'null' }),
  unfinished: () => Array.fromAsync(store.unfinished()),
  abandon: () => store.abandon({ key: 'none', upload: 'none', startedAt: new Date() }),
});
const allReject = async (store: Store, code: string, message: RegExp): Promise<void> => {
  for (const [what, ask] of Object.entries(questions(store)))
    await assert.rejects(ask(), { code, message }, what);
};

suite('a store that cannot answer says why:', { skip }, () => {
  test('the bucket does not exist', async (t) => {
    const store = s3Store(t, { bucket: 'sealift-test-no-such-bucket' });
    await allReject(store, 'store-not-found', /no-such-bucket.*the bucket does not exist/);
  });

  test('nobody knows the access key', async (t) => {
    const as = { accessKeyId: 'NOBODY', secretAccessKey: 'x' };
    const store = s3Store(t, { bucket: plain!.bucket, as });
    await allReject(store, 'store-denied', /credentials are missing or wrong \(InvalidAccessKeyId\)/);
  });

  test('the secret is wrong', async (t) => {
    const { accessKeyId } = theService('s3');
    const store = s3Store(t, { bucket: plain!.bucket, as: { accessKeyId, secretAccessKey: 'wrong-secret' } });
    await allReject(store, 'store-denied', /credentials are missing or wrong \(SignatureDoesNotMatch\)/);
    await assert.rejects(store.now(), (error: Error) => !JSON.stringify(error).includes('wrong-secret'));
  });

  test('the bucket is of somebody else', async (t) => {
    const store = s3Store(t, { bucket: plain!.bucket, as: theService('s3').stranger });
    await allReject(store, 'store-denied', /not allowed \(AccessDenied\)/);
  });

  test('nobody listens', async (t) => {
    const [port] = await freePorts(1);
    const store = s3Store(t, { bucket: plain!.bucket, endpoint: `http://127.0.0.1:${port}` });
    await assert.rejects(store.now(), { code: 'store-unavailable', message: /ECONNREFUSED/ });
    await assert.rejects(store.put('a', Buffer.from('1')), { code: 'store-unavailable' });
  });

  test('the address is none', async (t) => {
    const store = s3Store(t, { bucket: plain!.bucket, endpoint: 'http://store.invalid' });
    await assert.rejects(store.now(), { code: 'store-unavailable', message: /store\.invalid/ });
  });
});

test('an upload that is called off ends soon and stores nothing', { skip }, async (t) => {
  const store = s3Store(t, { bucket: plain!.bucket, prefix: freshPrefix() });
  const controller = new AbortController();
  const upload = store.put('big', Buffer.alloc(64 * 2 ** 20), controller.signal);
  setTimeout(() => controller.abort(), 5);
  await assert.rejects(upload, { name: 'AbortError' });
  assert.deepEqual(await keysBelow(store, ''), []);
});
