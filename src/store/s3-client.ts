import { pipeline, Readable, Transform } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import {
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type ServiceInputTypes,
  type ServiceOutputTypes,
} from '@aws-sdk/client-s3';
import { Budget } from '../budget.ts';
import type { S3Config } from '../config/config.ts';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { silentLog, type Log } from '../log.ts';

type Command<I extends ServiceInputTypes, O extends ServiceOutputTypes> = Parameters<
  typeof S3Client.prototype.send<I, O>
>[0];

/** An S3 bucket and how to speak to it. Connecting asks nothing; the first question shows whether the bucket is there. */
export interface S3Connection {
  readonly bucket: string;
  readonly prefix: string;
  /** For people: `s3://bucket/prefix`. */
  readonly address: string;
  readonly mostListed: number;
  /** Puts a question; if it fails, the error says what was asked: "cannot WHAT (ADDRESS): ...". */
  ask<T>(what: string, question: () => Promise<T>): Promise<T>;
  /**
   * One request and its answer, with what is taken from it: all of it anew for as long as a store that has answered before
   * is away. Errors are the SDK's.
   */
  send<I extends ServiceInputTypes, O extends ServiceOutputTypes, T = O>(
    command: Command<I, O>,
    signal?: AbortSignal,
    take?: (answer: O) => Promise<T>,
  ): Promise<T>;
  /** The `Date` header that came with an answer (rule R9). */
  dateOf(answer: object): Date | undefined;
  close(): void;
}

export interface S3Options {
  /** Hears when the store is away, and when it is back. */
  readonly log?: Log;
  /** So long may a connection be silent: before an answer, or in the midst of one. */
  readonly stalledAfterMs?: number;
  /**
   * The same for an object on its way up: what the system has taken is not there yet, and nothing is heard meanwhile. In ten
   * minutes an uplink of 90 KB/s takes all that two threads may have on its way at a time.
   */
  readonly putStalledAfterMs?: number;
  /** So long may a store be away that has answered before. */
  readonly patienceMs?: number;
  /** The same for one that has not answered yet: who looks on rather hears at once that the address is wrong. */
  readonly firstPatienceMs?: number;
  /** More keys than this no listing of one host has: what a store makes up without end must not fill the memory. */
  readonly mostListed?: number;
}

export function connect(
  config: S3Config,
  {
    log = silentLog(),
    stalledAfterMs = 120_000,
    putStalledAfterMs = 600_000,
    patienceMs = 300_000,
    firstPatienceMs = 0,
    mostListed = 3_000_000,
  }: S3Options = {},
): S3Connection {
  const client = makeClient(config, stalledAfterMs);
  const uploader = makeClient(config, putStalledAfterMs);
  const answerDates = recordAnswerDates(client);
  const address = `s3://${config.bucket}/${config.prefix}`;
  for (const one of [client, uploader]) limitAnswers(one, address);
  const others = [client, new Budget(connections)] as const;
  const uploads = [uploader, new Budget(connections)] as const;
  const place = `${address}${config.endpoint ? ` at ${config.endpoint}` : ''}`;
  let answeredMs = -Infinity;
  let isAway = false;

  const answered = (): void => {
    if (isAway) log.info(`the store is back (${place})`);
    [answeredMs, isAway] = [performance.now(), false];
  };

  /** Waits before a question is put again that failed first at that time; throws its error if that makes no sense. */
  async function wait(
    error: unknown,
    attempt: number,
    failedMs: number,
    signal?: AbortSignal,
  ): Promise<void> {
    if (!isTransient(error)) {
      if (statusOf(error) !== undefined) answered();
      throw error;
    }
    const pauseMs = Math.min(100 * 2 ** attempt, longestPauseMs);
    // Silence has been given its time.
    if (attempt >= quickRepeats || isSilence(error)) {
      const limitMs = answeredMs > -Infinity ? patienceMs : firstPatienceMs;
      if (performance.now() + pauseMs > failedMs + limitMs) throw error;
      // One question that fails while others are answered is no store that is away.
      if (!isAway && answeredMs < failedMs) {
        log.warn(`the store is away, asking again for ${limitMs / 1000} s (${place}): ${reasonOf(error)}`);
        isAway = true;
      }
    }
    await delay(pauseMs, undefined, signal ? { signal } : {});
  }

  return {
    bucket: config.bucket,
    prefix: config.prefix,
    address,
    mostListed,
    async ask(what, question) {
      try {
        return await question();
      } catch (error) {
        throw translate(error, `cannot ${what} (${place})`);
      }
    },
    async send(command, signal, take) {
      const [through, free] = command instanceof PutObjectCommand ? uploads : others;
      const once = async (): Promise<unknown> => {
        const connection = await free.take(1, signal);
        try {
          const answer = await through.send(command, options(signal));
          return take ? await take(answer) : answer;
        } finally {
          connection.giveBack();
        }
      };
      let failedMs: number | undefined;
      let isClockKnown = false;
      for (let attempt = 0; ; attempt++) {
        try {
          const taken = await once();
          answered();
          return taken as never;
        } catch (error) {
          // The next one is signed by the clock of the store.
          if (!isClockKnown && (isClockKnown = isAnotherClock(error))) continue;
          await wait(error, attempt, (failedMs ??= performance.now()), signal);
        }
      }
    },
    dateOf: (answer) => answerDates.get(answer),
    close() {
      client.destroy();
      uploader.destroy();
    },
  };
}

/** Within a second and a half, whoever asks. */
const quickRepeats = 4;
const longestPauseMs = 15_000;

/**
 * To the store at a time: so many for objects on their way up, and as many for all else. Enough where each answer takes a
 * tenth of a second; with the SDK's fifty a narrow uplink lost so many packets that connections broke, and what else the
 * machine sends had to share with all of them. The others wait here: in the SDK the time that a connection may take to be
 * made would pass for them.
 */
const connections = 16;

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
    maxAttempts: 1, // `send` asks again
    // Silence is what ends a request, not slowness: an object may take long on its way up.
    requestHandler: { connectionTimeout: 10_000, socketTimeout: stalledAfterMs },
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

/** Of all that is no object, the largest is a page of a listing: a thousand keys, which are at most a KiB each. */
const largestAnswerBytes = 2 ** 25;

/** The SDK gathers the whole of an answer before it looks at it, however long a hostile store goes on. */
function limitAnswers(client: S3Client, address: string): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const result = await next(args);
        const response = result.response as { statusCode?: number; body?: unknown };
        const isObject = commandName === 'GetObjectCommand' && (response.statusCode ?? 0) < 300;
        if (!isObject && response.body instanceof Readable) response.body = limited(response.body, address);
        return result;
      },
    { step: 'deserialize', name: 'limitAnswer', priority: 'low' },
  );
}

function limited(body: Readable, address: string): Readable {
  let total = 0;
  const limit = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      total += chunk.length;
      if (total <= largestAnswerBytes) return done(null, chunk);
      const error = new SealiftError('store-unavailable', `${address} answers with more than any answer has`);
      // Else the SDK adds words of its own.
      return done(Object.assign(error, { $metadata: {} }));
    },
  });
  return pipeline(body, limit, () => undefined);
}

const options = (abortSignal: AbortSignal | undefined): { abortSignal?: AbortSignal } =>
  abortSignal === undefined ? {} : { abortSignal };

export const statusOf = (error: unknown): number | undefined =>
  error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;

/** It may go well a little later: an overloaded or restarting store, a network that is away, a write that met another. */
function isTransient(error: unknown): boolean {
  // Also in the midst of an answer, whose status alone tells nothing then.
  if (nameOf(error) === 'TimeoutError' || lostConnection.has(systemCode(error) ?? '')) return true;
  const status = httpStatusOf(error);
  if (status === undefined) return false;
  return (
    (status >= 500 && ![501, 507].includes(status)) ||
    status === 429 ||
    ['RequestTimeout', 'ConditionalRequestConflict'].includes(nameOf(error))
  );
}

/** Also of an answer that is not S3's, such as the page of a gateway. */
const httpStatusOf = (error: unknown): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } } | undefined)?.$metadata?.httpStatusCode;

/** The SDK has learnt from this answer that the clock of the store is another one. Each of the clients learns it by itself. */
const isAnotherClock = (error: unknown): boolean =>
  (error as { $metadata?: { clockSkewCorrected?: boolean } } | undefined)?.$metadata?.clockSkewCorrected ===
  true;

/** The SDK calls a connection that was lost by the same name. */
const isSilence = (error: unknown): boolean =>
  nameOf(error) === 'TimeoutError' && !lostConnection.has(systemCode(error) ?? '');

const lostConnection = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EAI_AGAIN',
  'ENOTFOUND',
]);

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
    name === 'ExpiredToken' ||
    name === 'InvalidToken' ||
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
  if (systemCode(error) === 'ERR_INVALID_CHAR')
    return new SealiftError(
      'store-denied',
      `${what}: the access key holds a character that none has, such as a line break`,
      { hint: 'Check store.accessKeyId, its file or variable, or the AWS_* variables.', cause: error },
    );
  if (name === 'AuthorizationHeaderMalformed' || (status !== undefined && status >= 300 && status < 400))
    return new SealiftError('store-unavailable', `${what}: ${reasonOf(error)}${elsewhere(error)}`, {
      hint: 'Correct store.region or store.endpoint: what leads to another place is not followed.',
      cause: error,
    });
  const tls = tlsHint(systemCode(error) ?? '');
  if (tls !== undefined)
    return new SealiftError('store-unavailable', `${what}: ${reasonOf(error)}`, { hint: tls, cause: error });
  return new SealiftError('store-unavailable', `${what}: ${reasonOf(error)}`, {
    hint: isUnknown(error)
      ? 'This store does not know how to do that.'
      : 'Check store.endpoint, and that this machine can reach it. Nothing that is stored is harmed.',
    cause: error,
  });
}

export const notS3 = (address: string): SealiftError =>
  new SealiftError('store-unavailable', `what answers for ${address} does not speak S3`, {
    hint: 'Check store.endpoint: a console, a login page or another web server may be there.',
  });

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return messageOf(error);
  // Of a name with several addresses.
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('; ');
  const status = httpStatusOf(error);
  // What OpenSSL says, without the lines of its source; not what it advises to those who start Node.js.
  const routine = /SSL routines:[^:]*:([^:]+)/.exec(error.message)?.[1];
  const said = routine ?? error.message.replace(/; if the root CA is installed locally, .*/s, '');
  if (status === undefined) return `${error.name}: ${said || 'no answer'}`;
  if (!(error instanceof S3ServiceException) || error.name === 'Unknown') return `HTTP ${status}`;
  return `${error.name}: ${said === 'UnknownError' ? `HTTP ${status}` : said}`;
}

/** Where the store says that the bucket is. */
function elsewhere(error: unknown): string {
  const { Region, $response } = error as {
    Region?: string;
    $response?: { headers?: Record<string, string | undefined> };
  };
  const region = Region ?? $response?.headers?.['x-amz-bucket-region'];
  const location = $response?.headers?.['location'];
  if (region !== undefined) return ` (it is in the region ${region})`;
  return location === undefined ? '' : ` (it leads to ${location})`;
}

/** By the codes of Node.js for connections that cannot be encrypted or certificates that are not taken. */
function tlsHint(code: string): string | undefined {
  if (code === 'EPROTO')
    return 'Does it speak https on that port? If not, store.endpoint begins with http://.';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return 'store.endpoint has to have a name that the certificate is for.';
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return 'The certificate has to be renewed there, or the clock of this machine is wrong.';
  if (!/SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER|VERIFY)|CERT_(UNTRUSTED|SIGNATURE)/.test(code))
    return undefined;
  return 'Name the authority that vouches for it: NODE_EXTRA_CA_CERTS=/path/ca.pem in the environment of sealift.';
}
