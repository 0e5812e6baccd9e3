/**
 * A store keeps objects under keys: an S3 bucket with a prefix, or a directory. Both pass one contract suite
 * (test/store/contract.ts).
 *
 * - An object is visible whole or not at all, whatever interrupts `put`. `put` resolves after the object is durable,
 *   except that a directory makes folder entries durable in `settle`, once, before an index is written.
 * - `put` never overwrites where the store can prevent it. The same bytes again count as success, so a retry is safe;
 *   other bytes throw `store-conflict`.
 * - Absent means absent: only `undefined` or an empty listing says so. A question that could not be asked throws
 *   `store-unavailable`, `store-denied` or `store-not-found` (the bucket or directory itself).
 * - Time is the store's (rule R9), never the local clock.
 * - Keys are relative to the store's prefix and are built by snapshot/object-key.ts.
 */
export interface Store extends AsyncDisposable {
  /** For people: `s3://bucket/prefix` or the directory's path. */
  readonly address: string;
  /** Writes a new object. `bytes` must not change until it resolves. */
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Writes an object that may be there already (the restore guide alone). */
  replace(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Makes everything that was put or removed so far survive a power cut, and what others put into these folders. */
  settle(folders?: readonly string[]): Promise<void>;
  /**
   * The object's content, newest version first, and then on a versioned bucket the older versions, so that a reader can
   * take the first that has the signed hash (rule R8). Yields nothing for a key that does not exist.
   *
   * Anybody may have laid it there: of one that has more bytes than `mostBytes`, one byte more is yielded and no others,
   * enough to see that it is not the one that is looked for.
   */
  versions(key: string, signal?: AbortSignal, mostBytes?: number): AsyncIterable<Buffer>;
  /**
   * All current objects below `prefix` (empty or ending with a slash), sorted by key; nothing found is an empty listing.
   * One that may hold what several hosts have stored is given up so much later.
   */
  list(prefix: string, signal?: AbortSignal, hosts?: number): AsyncIterable<StoredObject>;
  /**
   * Every version of every object below `prefix`, and the markers of their deletion: sorted by key, newest first within
   * a key. A store that keeps no versions lists its objects. Throws `store-denied` when versions may not be listed.
   */
  listVersions(prefix: string, signal?: AbortSignal): AsyncIterable<StoredVersion>;
  /**
   * Removes this version for good (in a directory, once it is settled); one that is gone already counts as removed.
   * Throws `object-locked` while a lock of the store holds it, else `store-denied`, `store-unavailable`.
   */
  remove(object: Pick<StoredVersion, 'key' | 'version'>, signal?: AbortSignal): Promise<void>;
  /** Writes that were begun and neither finished nor abandoned, in the whole store: multipart uploads, temporary files. */
  unfinished(signal?: AbortSignal): AsyncIterable<UnfinishedWrite>;
  /** Ends such a write and gives its space back; one that is gone already counts as ended. */
  abandon(write: UnfinishedWrite, signal?: AbortSignal): Promise<void>;
  /** The names of the folders directly below `prefix` (empty or ending with a slash), sorted, without slashes. */
  folders(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /**
   * The same, and those in which nothing is left but older versions and markers of deletion, which `list` does not
   * show. Throws `store-denied` when versions may not be listed.
   */
  allFolders(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /** The store's time, asked anew. Throws `clock-wrong` when the store gives none. */
  now(signal?: AbortSignal): Promise<Date>;
}

/** No object of sealift's is larger: an index is one text, and Node makes none that is. */
export const largestObjectBytes = 2 ** 29;

export interface StoredObject {
  readonly key: string;
  readonly sizeBytes: number;
  readonly lastModified: Date;
  /** Changes whenever the content does; means nothing else. */
  readonly etag: string;
}

export interface StoredVersion extends StoredObject {
  /** Undefined where the store knows no versions; `null` in a bucket that could keep some and did not for this one. */
  readonly version: string | undefined;
  /** The one that `list` shows, or the marker because of which it shows none. */
  readonly latest: boolean;
  /** A marker of a deletion: no bytes, but a trace of the name until it is removed. */
  readonly marker: boolean;
}

export interface UnfinishedWrite {
  /** The key that is being written, or the name of the temporary file. */
  readonly key: string;
  readonly upload: string;
  /** Undefined where the store does not say. */
  readonly startedAt: Date | undefined;
}
