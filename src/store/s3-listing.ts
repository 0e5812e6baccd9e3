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
  { send, bucket: Bucket, address }: S3Connection,
  Prefix: string,
  Delimiter: string | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Pick<ListObjectsV2CommandOutput, 'Contents' | 'CommonPrefixes' | 'EncodingType'>> {
  let ContinuationToken: string | undefined;
  let first: string | undefined;
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
  { send, bucket: Bucket, address }: S3Connection,
  Prefix: string,
  Delimiter: string | undefined,
  signal?: AbortSignal,
): AsyncGenerator<VersionPage> {
  let KeyMarker: string | undefined;
  let VersionIdMarker: string | undefined;
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
  { send, bucket: Bucket, address }: S3Connection,
  Prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<UnfinishedWrite[]> {
  // Ceph encodes the keys of uploads, too, but does not say so.
  const encoded = { EncodingType: 'url' } as const;
  let KeyMarker: string | undefined;
  let UploadIdMarker: string | undefined;
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
    yield uploads;
    if (!page.IsTruncated) return;
    const last = uploads.at(-1)?.key;
    const next = page.NextKeyMarker === last ? last : decode(page.NextKeyMarker ?? '', encoded);
    if (!next || (next === KeyMarker && page.NextUploadIdMarker === UploadIdMarker))
      throw cutShort(address, Prefix);
    KeyMarker = next;
    UploadIdMarker = page.NextUploadIdMarker;
  }
}

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
