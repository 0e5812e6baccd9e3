import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  type S3ServiceException,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { freshBucket, freshDatabase, needs, psql, s3Client, theService } from './services.ts';

const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest('base64');

test('what psql writes to a fresh database, psql reads back', needs('postgres'), async () => {
  const database = await freshDatabase();
  await psql(database, `CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'one'), (2, 'zwölf');`);
  assert.equal(await psql(database, 'SELECT * FROM t ORDER BY n'), '1|one\n2|zwölf');
  assert.equal(await psql('postgres', `SELECT to_regclass('t') IS NULL`), 't');
});

test('psql reports the first SQL error', needs('postgres'), async () => {
  await assert.rejects(
    psql('postgres', 'SELECT 1; SELECT broken; SELECT 2;'),
    /column "broken" does not exist/,
  );
});

test('PostgreSQL asks for the password over TCP, and refuses a wrong one', needs('postgres'), async () => {
  const { tcpHost, port, user, password, binDir } = theService('postgres');
  const select = ['--no-psqlrc', '--no-password', '--tuples-only', '--no-align', '--command=SELECT 1'];
  const args = [...select, '--host', tcpHost, '--port', String(port), '--username', user, 'postgres'];
  const ask = (env: NodeJS.ProcessEnv) => promisify(execFile)(join(binDir, 'psql'), args, { env });
  assert.equal((await ask({ PGPASSWORD: password })).stdout, '1\n');
  await assert.rejects(ask({ PGPASSWORD: 'wrong' }), /password authentication failed/);
  await assert.rejects(ask({ PGPASSFILE: '/dev/null' }), /no password supplied/);
});

test('an object that was put is listed and read back', needs('s3'), async () => {
  const { bucket: Bucket, client } = await freshBucket();
  const Body = Buffer.from('some bytes');
  await client.send(new PutObjectCommand({ Bucket, Key: 'a/b', Body, ContentMD5: md5(Body) }));
  const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'a/' }));
  assert.deepEqual(
    Contents?.map(({ Key, Size }) => ({ Key, Size })),
    [{ Key: 'a/b', Size: Body.length }],
  );
  const answer = await client.send(new GetObjectCommand({ Bucket, Key: 'a/b' }));
  assert.equal(await answer.Body?.transformToString(), 'some bytes');
});

test('in a versioned bucket only the deletion of every version deletes', needs('s3'), async () => {
  const { bucket: Bucket, client } = await freshBucket({ versioned: true });
  for (const Body of ['first', 'second']) await client.send(new PutObjectCommand({ Bucket, Key: 'k', Body }));
  await client.send(new DeleteObjectCommand({ Bucket, Key: 'k' }));

  const left = await client.send(new ListObjectVersionsCommand({ Bucket }));
  assert.equal(left.Versions?.length, 2);
  assert.equal(left.DeleteMarkers?.length, 1);
  const VersionId = left.Versions?.[1]?.VersionId;
  const first = await client.send(new GetObjectCommand({ Bucket, Key: 'k', VersionId }));
  assert.equal(await first.Body?.transformToString(), 'first');

  for (const { VersionId } of [...(left.Versions ?? []), ...(left.DeleteMarkers ?? [])])
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'k', VersionId }));
  const after = await client.send(new ListObjectVersionsCommand({ Bucket }));
  assert.deepEqual([after.Versions, after.DeleteMarkers], [undefined, undefined]);
});

test('a conditional put does not replace an object', needs('s3'), async () => {
  const { bucket: Bucket, client } = await freshBucket();
  const put = (Body: string) =>
    client.send(new PutObjectCommand({ Bucket, Key: 'k', Body, IfNoneMatch: '*' }));
  await put('first');
  await assert.rejects(put('second'), (error: S3ServiceException) => error.$metadata.httpStatusCode === 412);
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: 'k' }));
  assert.equal(await Body?.transformToString(), 'first');
});

test('bytes that do not match their Content-MD5 are refused', needs('s3'), async () => {
  const { bucket: Bucket, client } = await freshBucket();
  const ContentMD5 = md5(Buffer.from('other bytes'));
  const put = client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'some bytes', ContentMD5 }));
  await assert.rejects(put, { name: 'BadDigest' });
  assert.equal((await client.send(new ListObjectsV2Command({ Bucket }))).KeyCount, 0);
});

test('the second user may make buckets and may not touch those of the first', needs('s3'), async () => {
  const { bucket: Bucket } = await freshBucket();
  const stranger = s3Client(theService('s3').stranger);
  await stranger.send(new CreateBucketCommand({ Bucket: `${Bucket}-own` }));
  const denied = { name: 'AccessDenied' };
  await assert.rejects(stranger.send(new ListObjectsV2Command({ Bucket })), denied);
  await assert.rejects(stranger.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'x' })), denied);
});
