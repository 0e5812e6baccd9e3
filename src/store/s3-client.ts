import { S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import type { S3Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';

/** An S3 bucket and how to speak to it. Connecting asks nothing; the first question shows whether the bucket is there. */
export interface S3Connection {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
  /** For people: `s3://bucket/prefix`. */
  readonly address: string;
  /** Puts a question; if it fails, the error says what was asked: "cannot WHAT (ADDRESS): ...". */
  ask<T>(what: string, question: () => Promise<T>): Promise<T>;
  /** The `Date` header that came with an answer (rule R9). */
  dateOf(answer: object): Date | undefined;
}

/** `stalledAfterMs`: so long may a connection be silent in the midst of an answer. */
export function connect(config: S3Config, stalledAfterMs = 120_000): S3Connection {
  const client = makeClient(config, stalledAfterMs);
  const answerDates = recordAnswerDates(client);
  const address = `s3://${config.bucket}/${config.prefix}`;
  const place = `${address}${config.endpoint ? ` at ${config.endpoint}` : ''}`;
  return {
    client,
    bucket: config.bucket,
    prefix: config.prefix,
    address,
    async ask(what, question) {
      try {
        return await question();
      } catch (error) {
        throw translate(error, `cannot ${what} (${place})`);
      }
    },
    dateOf: (answer) => answerDates.get(answer),
  };
}

function makeClient(config: S3Config, stalledAfterMs: number): S3Client {
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
    // The time for a request ends with the headers of its answer; a body that stalls is silence on the socket.
    requestHandler: {
      connectionTimeout: 10_000,
      requestTimeout: 120_000,
      socketTimeout: stalledAfterMs,
      throwOnRequestTimeout: true,
    },
  });
}

/** Keeps the `Date` header of each answer beside its output. */
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

export const options = (abortSignal: AbortSignal | undefined): { abortSignal?: AbortSignal } =>
  abortSignal === undefined ? {} : { abortSignal };

export const statusOf = (error: unknown): number | undefined =>
  error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;

export const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '');

/** The object, version or upload that was asked for does not exist; the bucket does. */
export const isAbsent = (error: unknown): boolean =>
  statusOf(error) === 404 && nameOf(error) !== 'NoSuchBucket';

/** The store does not know this kind of question at all. */
export const isUnknown = (error: unknown): boolean =>
  [405, 501].includes(statusOf(error) ?? 0) || nameOf(error) === 'NotImplemented';

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
