import assert from 'node:assert/strict';
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { suite, test } from 'node:test';
import { freePorts } from '../services/server-group.ts';
import { freshBucket, needs, theService } from '../services/services.ts';
import type { Store } from '../../src/store/store.ts';
import { storeContract } from './contract.ts';
import { freshPrefix, s3Store } from './s3-store.ts';

const { skip } = needs('s3');
const plain = skip ? undefined : await freshBucket();
const versioned = skip ? undefined : await freshBucket({ versioned: true });
type Bucket = NonNullable<typeof plain>;

const contentsOf = async (store: Store, key: string): Promise<string[]> =>
  (await Array.fromAsync(store.versions(key))).map(String);
const keysIn = async (store: Store): Promise<string[]> =>
  (await Array.fromAsync(store.list(''))).map(({ key }) => key);

const plantIn =
  ({ bucket, client }: Bucket, prefix = '') =>
  async (key: string, bytes: Uint8Array): Promise<void> => {
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: prefix + key, Body: bytes }));
  };

storeContract('a bucket', { skip }, async (t) => {
  const bucket = await freshBucket();
  return { store: s3Store(t, { bucket: bucket.bucket }), plant: plantIn(bucket) };
});

storeContract('a prefix of a bucket', { skip, few: true }, async (t) => {
  const prefix = freshPrefix();
  return { store: s3Store(t, { bucket: plain!.bucket, prefix }), plant: plantIn(plain!, prefix) };
});

storeContract('a versioned bucket', { skip, versioned: true, few: true }, async (t) => {
  const bucket = await freshBucket({ versioned: true });
  return { store: s3Store(t, { bucket: bucket.bucket }), plant: plantIn(bucket) };
});

storeContract('a prefix of a versioned bucket', { skip, versioned: true }, async (t) => {
  const prefix = freshPrefix();
  return { store: s3Store(t, { bucket: versioned!.bucket, prefix }), plant: plantIn(versioned!, prefix) };
});

suite('a bucket', { skip }, () => {
  test('what lies beside the prefix is not seen', async (t) => {
    const prefix = freshPrefix();
    const { bucket } = plain!;
    const plant = plantIn(plain!);
    for (const key of ['other/x', prefix.slice(0, -1), `${prefix.slice(0, -1)}-2/x`, `x/${prefix}x`])
      await plant(key, Buffer.from('x'));
    const store = s3Store(t, { bucket, prefix });
    await store.put('mine', Buffer.from('1'));
    assert.deepEqual(await keysIn(store), ['mine']);
    assert.deepEqual(await store.folders(''), []);
  });

  test('a prefix with odd characters is a prefix like any other', async (t) => {
    const store = s3Store(t, { bucket: plain!.bucket, prefix: `ü +%/${freshPrefix()}` });
    await store.put('a/b', Buffer.from('1'));
    assert.deepEqual(await keysIn(store), ['a/b']);
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
    assert.deepEqual(await keysIn(store), ['key-2']);
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

const questions = (store: Store): Record<string, () => Promise<unknown>> => ({
  put: () => store.put('new', Buffer.from('1')),
  replace: () => store.replace('new', Buffer.from('1')),
  versions: () => Array.fromAsync(store.versions('none')),
  list: () => Array.fromAsync(store.list('')),
  folders: () => store.folders(''),
  now: () => store.now(),
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
  assert.deepEqual(await keysIn(store), []);
});
