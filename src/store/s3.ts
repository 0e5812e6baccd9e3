import { createHash } from 'node:crypto';
import {
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3';
import type { S3Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import type { Store, StoredObject } from './store.ts';

/** A store in an S3 bucket below a prefix. Opening it asks nothing; the first call shows whether the bucket is there. */
export function openS3Store(config: S3Config): Store {
  const client = makeClient(config);
  const { bucket: Bucket, prefix } = config;
  const address = `s3://${Bucket}/${prefix}`;
  const answerDates = recordAnswerDates(client);
  /** Some stores know no conditional put (501); the random snapshot id in every key keeps writes apart there. */
  let conditionalPut = true;

  const ask = async <T>(what: string, question: () => Promise<T>): Promise<T> => {
    try {
      return await question();
    } catch (error) {
      throw translate(error, `cannot ${what} (${address}${config.endpoint ? ` at ${config.endpoint}` : ''})`);
    }
  };

  async function put(key: string, body: Uint8Array, once: boolean, abortSignal?: AbortSignal): Promise<void> {
    const md5 = createHash('md5').update(body).digest();
    const Key = prefix + key;
    const send = (condition: { IfNoneMatch?: string }) =>
      client.send(
        new PutObjectCommand({ Bucket, Key, Body: body, ContentMD5: md5.toString('base64'), ...condition }),
        options(abortSignal),
      );
    if (!once || !conditionalPut) return void (await send({}));
    try {
      await send({ IfNoneMatch: '*' });
    } catch (error) {
      if (statusOf(error) === 501) {
        conditionalPut = false;
        return void (await send({}));
      }
      if (statusOf(error) !== 412) throw error;
      if (!(await isSame(key, body, md5.toString('hex'), abortSignal)))
        throw new SealiftError('store-conflict', `${key} is already in the store with other content`, {
          cause: error,
        });
    }
  }

  /** Is what lies there our own earlier attempt, whose answer was lost? The ETag of an encrypted bucket is no MD5. */
  async function isSame(
    key: string,
    body: Uint8Array,
    md5: string,
    abortSignal?: AbortSignal,
  ): Promise<boolean> {
    const head = await client.send(
      new HeadObjectCommand({ Bucket, Key: prefix + key }),
      options(abortSignal),
    );
    if (head.ContentLength !== body.byteLength) return false;
    if (head.ETag?.replaceAll('"', '') === md5) return true;
    return (await readVersion(key, undefined, abortSignal))?.bytes.equals(body) === true;
  }

  const readVersion = async (key: string, VersionId: string | undefined, abortSignal?: AbortSignal) => {
    try {
      const answer = await client.send(
        new GetObjectCommand({
          Bucket,
          Key: prefix + key,
          ...(VersionId === undefined ? {} : { VersionId }),
        }),
        options(abortSignal),
      );
      const bytes = await answer.Body?.transformToByteArray();
      return {
        bytes: Buffer.from(bytes?.buffer ?? new ArrayBuffer(0), bytes?.byteOffset, bytes?.byteLength),
        version: answer.VersionId,
      };
    } catch (error) {
      if (error instanceof S3ServiceException && (error.name === 'NoSuchKey' || error.name === 'NotFound'))
        return undefined;
      if (statusOf(error) === 404 && nameOf(error) !== 'NoSuchBucket') return undefined;
      throw error;
    }
  };

  async function* pages(
    folder: string,
    Delimiter: string | undefined,
    abortSignal?: AbortSignal,
  ): AsyncGenerator<ListObjectsV2CommandOutput> {
    let ContinuationToken: string | undefined;
    do {
      const page = await ask(`list ${folder || 'the store'}`, () =>
        client.send(
          new ListObjectsV2Command({
            Bucket,
            Prefix: prefix + folder,
            EncodingType: 'url',
            ...(Delimiter === undefined ? {} : { Delimiter }),
            ...(ContinuationToken === undefined ? {} : { ContinuationToken }),
          }),
          options(abortSignal),
        ),
      );
      yield page;
      if (page.IsTruncated && !page.NextContinuationToken)
        throw new SealiftError('store-unavailable', `${address} cut its listing of ${folder} short`);
      ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (ContinuationToken !== undefined);
  }

  return {
    address,
    put: (key, bytes, signal) => ask(`write ${key}`, () => put(key, bytes, true, signal)),
    replace: (key, bytes, signal) => ask(`write ${key}`, () => put(key, bytes, false, signal)),
    async settle() {
      // An acknowledged PutObject is durable.
    },
    async *versions(key, signal) {
      const current = await ask(`read ${key}`, () => readVersion(key, undefined, signal));
      if (current) {
        yield current.bytes;
        if (current.version === undefined) return; // not a versioned bucket
      }
      const older = await ask(`read the versions of ${key}`, () =>
        listVersions(client, Bucket, prefix + key, signal),
      );
      for (const version of older) {
        if (version === current?.version) continue;
        const found = await ask(`read version ${version} of ${key}`, () => readVersion(key, version, signal));
        if (found) yield found.bytes;
      }
    },
    async *list(folder, signal) {
      for await (const page of pages(folder, undefined, signal))
        for (const { Key, Size, LastModified } of page.Contents ?? [])
          yield storedObject(decode(Key ?? '').slice(prefix.length), Size, LastModified, address);
    },
    async folders(folder, signal) {
      const names: string[] = [];
      for await (const page of pages(folder, '/', signal))
        for (const { Prefix } of page.CommonPrefixes ?? [])
          names.push(decode(Prefix ?? '').slice(prefix.length + folder.length, -1));
      return names;
    },
    async now(signal) {
      const answer = await ask('reach the store', () =>
        client.send(new ListObjectsV2Command({ Bucket, Prefix: prefix, MaxKeys: 1 }), options(signal)),
      );
      const date = answerDates.get(answer);
      if (!date) throw new SealiftError('clock-wrong', `${address} does not tell its time (no Date header)`);
      return date;
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
    },
  };
}

function makeClient(config: S3Config): S3Client {
  const { accessKeyId, secretAccessKey } = config;
  return new S3Client({
    region: config.region,
    forcePathStyle: config.forcePathStyle,
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
    ...(accessKeyId && secretAccessKey
      ? { credentials: { accessKeyId: accessKeyId.reveal(), secretAccessKey: secretAccessKey.reveal() } }
      : {}),
    // The default CRC32 trailers break several S3-compatible stores; Content-MD5 is understood by all.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 5,
    requestHandler: { connectionTimeout: 10_000, requestTimeout: 120_000, throwOnRequestTimeout: true },
  });
}

/** Keeps the `Date` header of each answer beside its output (rule R9). */
function recordAnswerDates(client: S3Client): WeakMap<object, Date> {
  const dates = new WeakMap<object, Date>();
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const { headers } = result.response as { headers?: Record<string, string> };
      const date = new Date(headers?.['date'] ?? Number.NaN);
      if (result.output && !Number.isNaN(date.getTime())) dates.set(result.output, date);
      return result;
    },
    { step: 'deserialize', name: 'recordAnswerDate', priority: 'high' },
  );
  return dates;
}

/** Version ids of one key, newest first; none where the store knows no versions or does not let us see them. */
async function listVersions(
  client: S3Client,
  Bucket: string,
  key: string,
  signal?: AbortSignal,
): Promise<string[]> {
  const ids: string[] = [];
  let KeyMarker: string | undefined;
  let VersionIdMarker: string | undefined;
  do {
    const page = await client
      .send(
        new ListObjectVersionsCommand({
          Bucket,
          Prefix: key,
          ...(KeyMarker === undefined ? {} : { KeyMarker }),
          ...(VersionIdMarker === undefined ? {} : { VersionIdMarker }),
        }),
        options(signal),
      )
      .catch((error: unknown) => {
        if ([403, 405, 501].includes(statusOf(error) ?? 0)) return undefined;
        throw error;
      });
    for (const version of page?.Versions ?? [])
      if (version.Key === key && version.VersionId !== undefined) ids.push(version.VersionId);
    KeyMarker = page?.IsTruncated ? page.NextKeyMarker : undefined;
    VersionIdMarker = page?.IsTruncated ? page.NextVersionIdMarker : undefined;
  } while (KeyMarker !== undefined);
  return ids;
}

function storedObject(
  key: string,
  sizeBytes: number | undefined,
  lastModified: Date | undefined,
  address: string,
): StoredObject {
  if (sizeBytes === undefined || lastModified === undefined)
    throw new SealiftError('store-unavailable', `${address} lists ${key} without its size or time`);
  return { key, sizeBytes, lastModified };
}

const options = (abortSignal: AbortSignal | undefined): { abortSignal?: AbortSignal } =>
  abortSignal === undefined ? {} : { abortSignal };

const decode = (urlEncoded: string): string => decodeURIComponent(urlEncoded.replaceAll('+', ' '));

const statusOf = (error: unknown): number | undefined =>
  error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '');

function translate(error: unknown, what: string): unknown {
  if (error instanceof SealiftError || nameOf(error) === 'AbortError') return error;
  const name = nameOf(error);
  const status = statusOf(error);
  if (name === 'NoSuchBucket')
    return new SealiftError('store-not-found', `${what}: the bucket does not exist`, {
      hint: 'Create the bucket, or correct store.bucket and store.endpoint in the configuration.',
      cause: error,
    });
  if (name === 'RequestTimeTooSkewed')
    return new SealiftError(
      'clock-wrong',
      `${what}: the clocks of this machine and the store are too far apart`,
      { hint: 'Set the clock of this machine (timedatectl set-ntp true).', cause: error },
    );
  if (
    name === 'CredentialsProviderError' ||
    name === 'InvalidAccessKeyId' ||
    name === 'SignatureDoesNotMatch' ||
    status === 401
  )
    return new SealiftError('store-denied', `${what}: the credentials are missing or wrong (${name})`, {
      hint: 'Check store.accessKeyId and store.secretAccessKey, or the AWS_* variables.',
      cause: error,
    });
  if (status === 507 || name === 'QuotaExceeded')
    // Ceph says 403 with it
    return new SealiftError('store-full', `${what}: no space left (${name})`, { cause: error });
  if (status === 403)
    return new SealiftError('store-denied', `${what}: not allowed (${name})`, {
      hint: 'The credentials are known but lack this right on the bucket.',
      cause: error,
    });
  const reason = error instanceof Error ? `${name}: ${error.message || 'no answer'}` : String(error);
  return new SealiftError('store-unavailable', `${what}: ${reason}`, {
    hint: 'Check store.endpoint, and that this machine can reach it. Nothing that is stored is harmed.',
    cause: error,
  });
}
