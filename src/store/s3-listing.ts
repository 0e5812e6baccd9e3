import {
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  type ListObjectsV2CommandOutput,
  type ObjectVersion,
} from '@aws-sdk/client-s3';
import { SealiftError } from '../errors.ts';
import { notS3, type S3Connection } from './s3-client.ts';
import type { StoredObject, StoredVersion, UnfinishedWrite } from './store.ts';

/**
 * The three listings of S3, page by page to the end. Prefixes and keys here are those of the bucket. Errors are the
 * SDK's, for the caller to judge; a listing that ends before its end is `store-unavailable`.
 */

export async function* objectPages(
  connection: S3Connection,
  Prefix: string,
  Delimiter: string | undefined,
  signal?: AbortSignal,
  hosts = 1,
): AsyncGenerator<Pick<ListObjectsV2CommandOutput, 'Contents' | 'CommonPrefixes' | 'EncodingType'>> {
  let ContinuationToken: string | undefined;
  let first: string | undefined;
  const { send, bucket: Bucket, address } = connection;
  const admit = openGate(connection, Prefix, hosts);
  let last: string[] = [];
  do {
    const page = await send(
      new ListObjectsV2Command({
        Bucket,
        Prefix,
        EncodingType: 'url',
        ...(Delimiter === undefined ? {} : { Delimiter }),
        ...(ContinuationToken === undefined ? {} : { ContinuationToken }),
      }),
      signal,
    );
    demandListing(page, address);
    const begins = page.Contents?.[0]?.Key ?? page.CommonPrefixes?.[0]?.Prefix;
    if (begins !== undefined && begins === first)
      throw new SealiftError(
        'store-unavailable',
        `${address} gives the same page of its listing of ${Prefix || 'the bucket'} again and again`,
      );
    first = begins ?? first;
    const keys = (page.Contents ?? []).map(({ Key }) => decode(Key ?? '', page));
    admit([...keys, ...(page.CommonPrefixes ?? []).map((common) => decode(common.Prefix ?? '', page))]);
    demandOrder([...last, ...keys], address);
    last = keys.slice(-1);
    yield page;
    ContinuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
    if (page.IsTruncated && !ContinuationToken) throw cutShort(address, Prefix);
  } while (ContinuationToken !== undefined);
}

export interface VersionPage {
  /** Versions and deletion markers, sorted by key and newest first within a key. */
  readonly versions: readonly StoredVersion[];
  /** With a delimiter: what keys begin with up to it. */
  readonly prefixes: readonly string[];
}

export async function* versionPages(
  connection: S3Connection,
  Prefix: string,
  Delimiter: string | undefined,
  signal?: AbortSignal,
): AsyncGenerator<VersionPage> {
  let KeyMarker: string | undefined;
  let VersionIdMarker: string | undefined;
  const { send, bucket: Bucket, address } = connection;
  const admit = openGate(connection, Prefix);
  for (;;) {
    const page = await send(
      new ListObjectVersionsCommand({
        Bucket,
        Prefix,
        EncodingType: 'url',
        ...(Delimiter === undefined ? {} : { Delimiter }),
        ...(KeyMarker === undefined ? {} : { KeyMarker }),
        ...(VersionIdMarker === undefined ? {} : { VersionIdMarker }),
      }),
      signal,
    );
    demandListing(page, address);
    const versions = (page.Versions ?? []).map((version) => storedVersion(version, false, page, address));
    const markers = (page.DeleteMarkers ?? []).map((marker) =>
      storedVersion({ ...marker, Size: 0, ETag: '' }, true, page, address),
    );
    // The SDK keeps the two kinds apart, each in the order of the answer.
    const both = markers.length === 0 ? versions : [...versions, ...markers].toSorted(byKeyAndAge);
    const prefixes = (page.CommonPrefixes ?? []).map((common) => decode(common.Prefix ?? '', page));
    admit([...both.map(({ key }) => key), ...prefixes]);
    yield { versions: both, prefixes };
    if (!page.IsTruncated) return;
    // Ceph does not encode this one as it encodes the keys.
    const isLast = [both.at(-1)?.key, prefixes.at(-1)].includes(page.NextKeyMarker);
    const next = isLast ? page.NextKeyMarker : decode(page.NextKeyMarker ?? '', page);
    if (!next || (next === KeyMarker && page.NextVersionIdMarker === VersionIdMarker))
      throw cutShort(address, Prefix);
    KeyMarker = next;
    VersionIdMarker = page.NextVersionIdMarker;
  }
}

export async function* uploadPages(
  connection: S3Connection,
  Prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<UnfinishedWrite[]> {
  // Ceph encodes the keys of uploads, too, but does not say so.
  const encoded = { EncodingType: 'url' } as const;
  let KeyMarker: string | undefined;
  let UploadIdMarker: string | undefined;
  const { send, bucket: Bucket, address } = connection;
  const admit = openGate(connection, Prefix);
  for (;;) {
    const page = await send(
      new ListMultipartUploadsCommand({
        Bucket,
        Prefix,
        EncodingType: 'url',
        ...(KeyMarker === undefined ? {} : { KeyMarker }),
        ...(UploadIdMarker === undefined ? {} : { UploadIdMarker }),
      }),
      signal,
    );
    const uploads = (page.Uploads ?? []).map(({ Key = '', UploadId, Initiated }): UnfinishedWrite => {
      const key = decode(Key, encoded);
      if (UploadId === undefined)
        throw new SealiftError('store-unavailable', `${address} lists an upload of ${key} without its id`);
      // SeaweedFS does not say when one began.
      return { key, upload: UploadId, startedAt: Initiated };
    });
    // They are abandoned: one that was not asked for may be somebody else's.
    const wanted = uploads.filter(({ key }) => key.startsWith(Prefix));
    admit(wanted.map(({ key }) => key));
    yield wanted;
    if (!page.IsTruncated) return;
    const last = uploads.at(-1)?.key;
    const next = page.NextKeyMarker === last ? last : decode(page.NextKeyMarker ?? '', encoded);
    if (!next || (next === KeyMarker && page.NextUploadIdMarker === UploadIdMarker))
      throw cutShort(address, Prefix);
    KeyMarker = next;
    UploadIdMarker = page.NextUploadIdMarker;
  }
}

/** A page counts for so many at least: one may be empty, and the next one, too. */
const leastOfPage = 100;

/**
 * Holds a store to what a listing is, a page at a time: keys that begin as was asked, and no more of them than can be held.
 * Throws `store-unavailable`.
 */
function openGate(
  { address, mostListed: mostOfHost }: S3Connection,
  prefix: string,
  hosts = 1,
): (keys: readonly string[]) => void {
  const mostListed = mostOfHost * hosts;
  const where = `${address}, in its listing of ${prefix || 'the bucket'},`;
  let listed = 0;
  return (keys) => {
    listed += Math.max(keys.length, leastOfPage);
    if (listed > mostListed)
      throw new SealiftError('store-unavailable', `${where} goes on after ${mostListed} keys`, {
        hint: 'Is it a store that makes them up? Else give each host a bucket or a prefix of its own, or a lower retention.maxAge.',
      });
    const other = keys.find((key) => !key.startsWith(prefix));
    if (other !== undefined)
      throw new SealiftError('store-unavailable', `${where} gives ${other}, which was not asked for`);
  };
}

/**
 * Readers look for an index where it has to stand: first in its folder. A server that goes through folders, and so comes to
 * `h1/` before `h1-x/`, is as good. Of folders and versions nobody relies on the order.
 */
function demandOrder(keys: readonly string[], address: string): void {
  const at = keys.findIndex((key, i) => {
    const before = keys[i - 1] ?? '';
    return !isInOrder(before, key) && !isInOrder(byFolder(before), byFolder(key));
  });
  if (at === -1) return;
  throw new SealiftError(
    'store-unavailable',
    `${address} lists ${keys[at]} after ${keys[at - 1]}: it is not sorted`,
    { hint: 'sealift needs a store that lists its keys sorted, as S3 does (but for its directory buckets)' },
  );
}

const isInOrder = (a: string, b: string): boolean =>
  a <= b || Buffer.compare(Buffer.from(a), Buffer.from(b)) <= 0;

const byFolder = (key: string): string => key.replaceAll('/', '\0');

/** What answers every question with a page of its own would otherwise hold nothing. */
export function demandListing(page: { IsTruncated?: boolean | undefined }, address: string): void {
  if (page.IsTruncated === undefined) throw notS3(address);
}

export function storedObject(
  key: string,
  sizeBytes: number | undefined,
  lastModified: Date | undefined,
  etag: string | undefined,
  address: string,
): StoredObject {
  if (sizeBytes === undefined || lastModified === undefined || etag === undefined)
    throw new SealiftError('store-unavailable', `${address} lists ${key} without its size, time or ETag`);
  return { key, sizeBytes, lastModified, etag: etag.replaceAll('"', '') };
}

function storedVersion(
  listed: ObjectVersion,
  marker: boolean,
  page: Encoded,
  address: string,
): StoredVersion {
  const { Key = '', Size, LastModified, ETag, VersionId, IsLatest } = listed;
  const object = storedObject(decode(Key, page), Size, LastModified, ETag, address);
  return { ...object, version: VersionId, latest: IsLatest === true, marker };
}

type Encoded = Pick<ListObjectsV2CommandOutput, 'EncodingType'>;

/** The key that this text of an answer stands for. Not every store encodes keys when it is asked to, nor all of them. */
export function decode(text: string, { EncodingType }: Encoded): string {
  if (EncodingType !== 'url') return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}

/** Keys in the order of S3, which is that of their bytes. */
function byKeyAndAge(a: StoredVersion, b: StoredVersion): number {
  if (a.key !== b.key) return Buffer.compare(Buffer.from(a.key), Buffer.from(b.key));
  return Number(b.latest) - Number(a.latest) || b.lastModified.getTime() - a.lastModified.getTime();
}

const cutShort = (address: string, prefix: string): SealiftError =>
  new SealiftError('store-unavailable', `${address} cut its listing of ${prefix || 'the bucket'} short`);
