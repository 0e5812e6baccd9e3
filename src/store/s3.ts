import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { rfc3339 } from '../clock.ts';
import type { S3Config } from '../config/config.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { connect, isAbsent, isUnknown, notS3, statusOf, type S3Options } from './s3-client.ts';
import { decode, demandListing, objectPages, storedObject, uploadPages, versionPages } from './s3-listing.ts';
import { largestObjectBytes, type Store, type StoredObject, type StoredVersion } from './store.ts';

/** A store in an S3 bucket below a prefix. Opening it asks nothing; the first call shows whether the bucket is there. */
export function openS3Store(config: S3Config, options?: S3Options): Store {
  const connection = connect(config, options);
  const { send, bucket: Bucket, prefix, address, ask } = connection;
  /** Some stores know no conditional put (501); the random snapshot id in every key keeps writes apart there. */
  let conditionalPut = true;

  async function put(key: string, body: Uint8Array, once: boolean, abortSignal?: AbortSignal): Promise<void> {
    const md5 = createHash('md5').update(body).digest();
    const Key = prefix + key;
    const write = async (condition: { IfNoneMatch?: string }): Promise<void> => {
      const { ETag } = await send(
        new PutObjectCommand({ Bucket, Key, Body: body, ContentMD5: md5.toString('base64'), ...condition }),
        abortSignal,
      );
      if (ETag === undefined) throw notS3(address);
    };
    if (!once || !conditionalPut) return write({});
    try {
      await write({ IfNoneMatch: '*' });
    } catch (error) {
      if (statusOf(error) === 501) {
        conditionalPut = false;
        return write({});
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
    const head = await send(new HeadObjectCommand({ Bucket, Key: prefix + key }), abortSignal);
    if (head.ContentLength !== body.byteLength) return false;
    if (head.ETag?.replaceAll('"', '') === md5) return true;
    return (await readVersion(key, undefined, body.byteLength, abortSignal))?.bytes.equals(body) === true;
  }

  const readVersion = async (
    key: string,
    VersionId: string | undefined,
    mostBytes: number,
    abortSignal?: AbortSignal,
  ) => {
    const place = { Bucket, Key: prefix + key, ...(VersionId === undefined ? {} : { VersionId }) };
    try {
      return await send(new GetObjectCommand(place), abortSignal, async (answer) => {
        const body = answer.Body as AsyncIterable<Uint8Array> | undefined;
        return { bytes: await bytesOf(body, mostBytes + 1), version: answer.VersionId };
      });
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  };

  /** Version ids of one key, newest first; none where the store knows no versions or does not let us see them. */
  async function versionsOf(key: string, signal?: AbortSignal): Promise<string[]> {
    const ids: string[] = [];
    try {
      for await (const { versions } of versionPages(connection, prefix + key, undefined, signal))
        for (const { key: found, version, marker } of versions)
          if (found === prefix + key && version !== undefined && !marker) ids.push(version);
    } catch (error) {
      if (!isUnknown(error) && statusOf(error) !== 403) throw error;
    }
    return ids;
  }

  async function remove(
    { key, version }: Pick<StoredVersion, 'key' | 'version'>,
    signal?: AbortSignal,
  ): Promise<void> {
    // Without a version id a versioned bucket only adds a marker. The version `null` is the one that was written
    // before versioning was enabled or while it was suspended; in a bucket without versions it is the object.
    const place = { Bucket, Key: prefix + key, ...(version === undefined ? {} : { VersionId: version }) };
    try {
      await send(new DeleteObjectCommand(place), signal);
    } catch (error) {
      if (isAbsent(error)) return;
      const saysLock = /object[ -]?lock|worm|retention/i.test(messageOf(error));
      if (statusOf(error) !== 403 && !saysLock) throw error;
      const lock = await lockOf(place, signal);
      if (lock === undefined && !saysLock) throw error;
      throw new SealiftError(
        'object-locked',
        `cannot delete ${key} (${address}): ${lock ?? 'it is locked'}`,
        {
          hint: 'Object Lock of the bucket forbids it; it can be deleted once the lock has ended.',
          cause: error,
        },
      );
    }
  }

  /** What holds this version, in words; undefined if nothing does, or we are not told. */
  async function lockOf(
    place: { Bucket: string; Key: string; VersionId?: string },
    signal?: AbortSignal,
  ): Promise<string | undefined> {
    const head = await send(new HeadObjectCommand(place), signal).catch(() => undefined);
    if (!head) return undefined;
    if (head.ObjectLockLegalHoldStatus === 'ON') return 'it is kept under a legal hold';
    const until = head.ObjectLockRetainUntilDate;
    const now = connection.dateOf(head);
    return until && now && until > now ? `it is kept until ${rfc3339(until)}` : undefined;
  }

  async function* list(folder: string, signal?: AbortSignal, hosts?: number): AsyncGenerator<StoredObject> {
    const pages = objectPages(connection, prefix + folder, undefined, signal, hosts);
    for await (const page of asked(`list ${folder || 'the store'}`, pages))
      for (const { Key, Size, LastModified, ETag } of page.Contents ?? [])
        yield storedObject(decode(Key ?? '', page).slice(prefix.length), Size, LastModified, ETag, address);
  }

  const nameIn = (folder: string, found: string): string => found.slice(prefix.length + folder.length, -1);

  async function folders(folder: string, signal?: AbortSignal): Promise<string[]> {
    const names: string[] = [];
    const pages = objectPages(connection, prefix + folder, '/', signal);
    for await (const page of asked(`list ${folder || 'the store'}`, pages))
      for (const { Prefix } of page.CommonPrefixes ?? [])
        names.push(nameIn(folder, decode(Prefix ?? '', page)));
    return names;
  }

  /** Pages of a listing, with errors that say what was asked. */
  async function* asked<T>(what: string, pages: AsyncGenerator<T>): AsyncGenerator<T> {
    for (;;) {
      const page = await ask(what, () => pages.next());
      if (page.done) return;
      yield page.value;
    }
  }

  return {
    address,
    put: (key, bytes, signal) => ask(`write ${key}`, () => put(key, bytes, true, signal)),
    replace: (key, bytes, signal) => ask(`write ${key}`, () => put(key, bytes, false, signal)),
    async settle() {
      // An acknowledged PutObject is durable, and so is a deletion.
    },
    async *versions(key, signal, mostBytes = largestObjectBytes) {
      const current = await ask(`read ${key}`, () => readVersion(key, undefined, mostBytes, signal));
      if (current) {
        yield current.bytes;
        if (current.version === undefined) return; // not a versioned bucket
      }
      const older = await ask(`read the versions of ${key}`, () => versionsOf(key, signal));
      for (const version of older) {
        if (version === current?.version) continue;
        const found = await ask(`read version ${version} of ${key}`, () =>
          readVersion(key, version, mostBytes, signal),
        );
        if (found) yield found.bytes;
      }
    },
    list,
    async *listVersions(folder, signal) {
      let any = false;
      const pages = noneIfUnknown(versionPages(connection, prefix + folder, undefined, signal));
      for await (const { versions } of asked(`list the versions below ${folder || 'the store'}`, pages))
        for (const version of versions) {
          any = true;
          yield { ...version, key: version.key.slice(prefix.length) };
        }
      if (any) return;
      // A store without versions; one that mistakes the question for another must not look empty either.
      for await (const object of list(folder, signal))
        yield { ...object, version: undefined, latest: true, marker: false };
    },
    remove: (object, signal) => ask(`delete ${object.key}`, () => remove(object, signal)),
    async *unfinished(signal) {
      const pages = noneIfUnknown(uploadPages(connection, prefix, signal));
      for await (const page of asked('list unfinished uploads', pages))
        for (const upload of page) yield { ...upload, key: upload.key.slice(prefix.length) };
    },
    abandon: ({ key, upload: UploadId }, signal) =>
      ask(`abandon the upload of ${key}`, async () => {
        try {
          const place = { Bucket, Key: prefix + key, UploadId };
          await send(new AbortMultipartUploadCommand(place), signal);
        } catch (error) {
          if (!isAbsent(error)) throw error;
        }
      }),
    folders,
    async allFolders(folder, signal) {
      const names = new Set<string>();
      const pages = noneIfUnknown(versionPages(connection, prefix + folder, '/', signal));
      for await (const { prefixes } of asked(`list the versions below ${folder || 'the store'}`, pages))
        for (const found of prefixes) names.add(nameIn(folder, found));
      // As above: a store without versions.
      return names.size > 0 ? [...names] : folders(folder, signal);
    },
    async now(signal) {
      const answer = await ask('reach the store', () =>
        send(new ListObjectsV2Command({ Bucket, Prefix: prefix, MaxKeys: 1 }), signal),
      );
      demandListing(answer, address);
      const date = connection.dateOf(answer);
      if (!date) throw new SealiftError('clock-wrong', `${address} does not tell its time (no Date header)`);
      return date;
    },
    async [Symbol.asyncDispose]() {
      connection.close();
    },
  };
}

/** Leaving the loop ends the connection. */
async function bytesOf(body: AsyncIterable<Uint8Array> | undefined, mostBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    total += chunk.length;
    if (total >= mostBytes) break;
  }
  return Buffer.concat(chunks, Math.min(total, mostBytes));
}

/** The pages of a listing that the store may never have heard of; then there are none. */
async function* noneIfUnknown<T>(pages: AsyncGenerator<T>): AsyncGenerator<T> {
  let any = false;
  try {
    for await (const page of pages) {
      any = true;
      yield page;
    }
  } catch (error) {
    if (any || !isUnknown(error)) throw error;
  }
}
