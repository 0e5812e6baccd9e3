import { hash } from 'node:crypto';
import type { PrivateKey, PublicKey } from 'openpgp';
import { mapConcurrent } from '../concurrency.ts';
import { SealiftError } from '../errors.ts';
import { openSigned, signBytes } from '../seal/sign.ts';
import { largestObjectBytes, type Store, type StoredObject } from '../store/store.ts';
import type { IndexCache } from './index-cache.ts';
import { compareAge, formatIndex, objectsOf, parseIndex, type Index } from './index.ts';
import {
  formatKey,
  keysFolder,
  parseKey,
  parseSnapshotId,
  segmentKey,
  segmentsFolder,
  snapshotFolder,
  snapshotsFolder,
} from './object-key.ts';

/** What lies in one host's part of a store: folders by snapshot id, as a listing showed them. */
export type HostListing = ReadonlyMap<string, SnapshotFolder>;

export interface SnapshotFolder {
  /** Present if and only if the snapshot exists (rule R1). */
  index: StoredObject | undefined;
  /** By segment id. */
  readonly segments: Map<string, StoredObject>;
}

/** A snapshot whose index was read and verified. */
export interface Snapshot {
  readonly index: Index;
  /** The stored index object. */
  readonly object: StoredObject;
  /** SHA-256 of the stored index object, lower-case hex: what a successor names as `previous`. */
  readonly sha256: string;
}

export interface UnreadableSnapshot {
  readonly snapshot: string;
  readonly error: SealiftError;
}

/** What could be read of a host's snapshots, oldest first, expired ones included, and what could not. */
export interface FoundSnapshots {
  readonly snapshots: readonly Snapshot[];
  readonly unreadable: readonly UnreadableSnapshot[];
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Without one every index is fetched. */
  readonly cache?: IndexCache | undefined;
  /** An index that may not be read counts as unreadable, like one that cannot be verified. */
  readonly tolerant?: boolean;
}

const indexReadsAtOnce = 8;

const byId = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

/** One listing of everything that a host has stored; keys that are not ours are left out. */
export async function listHost(store: Store, host: string, signal?: AbortSignal): Promise<HostListing> {
  const folders = new Map<string, SnapshotFolder>();
  for await (const object of store.list(snapshotsFolder(host), signal)) {
    const key = parseKey(object.key);
    if (key?.type !== 'index' && key?.type !== 'segment') continue;
    let folder = folders.get(key.snapshot);
    if (!folder) folders.set(key.snapshot, (folder = { index: undefined, segments: new Map() }));
    if (key.type === 'index') folder.index = object;
    else folder.segments.set(key.id, object);
  }
  return folders;
}

/** The ids of a host's folders in the store, oldest first, by the times in their names. */
export async function snapshotIds(store: Store, host: string, signal: AbortSignal): Promise<string[]> {
  const names = await store.folders(snapshotsFolder(host), signal);
  return names.filter((name) => parseSnapshotId(name) !== undefined).toSorted(byId);
}

/** A folder without an index is a run that did not finish (rule R1). The index sorts before the segments. */
export async function storedIndex(
  store: Store,
  host: string,
  snapshot: string,
  signal?: AbortSignal,
): Promise<StoredObject | undefined> {
  const index = formatKey({ type: 'index', host, snapshot });
  for await (const object of store.list(snapshotFolder(host, snapshot), signal))
    if (object.key >= index) return object.key === index ? object : undefined;
  return undefined;
}

/**
 * The id of a job's newest snapshot, from names alone: cheap enough to ask before every run, however many segments
 * there are. Nothing is verified here; a run that is suppressed by a forged name is made at the next instant.
 */
export async function newestRun(
  store: Store,
  host: string,
  job: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const ids = await snapshotIds(store, host, signal);
  for (const id of ids.toReversed())
    if (parseSnapshotId(id)?.job === job && (await storedIndex(store, host, id, signal))) return id;
  return undefined;
}

/**
 * Reads and verifies the indexes of a listing, oldest first. One that cannot be read or verified is reported beside the
 * others; one that was pruned meanwhile is left out.
 */
export async function readSnapshots(
  store: Store,
  host: string,
  listing: HostListing,
  trusted: readonly PublicKey[],
  { signal, cache, tolerant = false }: ReadOptions = {},
): Promise<FoundSnapshots> {
  const present = [...listing].flatMap(([snapshot, { index }]) => (index ? [{ snapshot, index }] : []));
  const snapshots: Snapshot[] = [];
  const unreadable: UnreadableSnapshot[] = [];
  await mapConcurrent(present, indexReadsAtOnce, async ({ snapshot, index }) => {
    try {
      const read = await readSnapshot(store, host, snapshot, index, trusted, { signal, cache });
      if (read) snapshots.push(read);
      else if (await storedIndex(store, host, snapshot, signal)) throw listedOnly(host, snapshot);
    } catch (error) {
      const codes = ['verify-failed', 'key-untrusted', ...(tolerant ? ['store-denied'] : [])];
      if (!(error instanceof SealiftError)) throw error;
      if (!codes.includes(error.code) && !(await isOfOneObject(error, store, index.key, signal))) throw error;
      unreadable.push({ snapshot, error });
    }
  });
  return {
    snapshots: snapshots.toSorted((a, b) => compareAge(a.index, b.index)),
    unreadable: unreadable.toSorted((a, b) => byId(a.snapshot, b.snapshot)),
  };
}

const listedOnly = (host: string, snapshot: string): SealiftError =>
  new SealiftError(
    'verify-failed',
    `the index of ${host}/${snapshot} is listed, and the store does not have it`,
  );

/**
 * Whether this error is that of one object, as of one on a bad sector, which must not hide the others. It is not if the store
 * is away, so that a public key of the host cannot be had either, or was away and has come back, so that the object can.
 */
export async function isOfOneObject(
  error: SealiftError,
  store: Store,
  key: string,
  signal?: AbortSignal,
): Promise<boolean> {
  if (error.code !== 'store-unavailable') return false;
  try {
    for await (const other of store.list(keysFolder(key.slice(0, key.indexOf('/'))), signal)) {
      for await (const _ of store.versions(other.key, signal));
      break;
    }
  } catch {
    return false;
  }
  return failsAgain(store, key, signal);
}

async function failsAgain(store: Store, key: string, signal?: AbortSignal): Promise<boolean> {
  try {
    for await (const _ of store.versions(key, signal));
    return false;
  } catch {
    return signal?.aborted !== true;
  }
}

/** So many others are asked for before the right to read any counts as missing. */
const othersAsked = 5;

/**
 * Whether the store refuses this one segment, as one that was moved to an archive: it gives another, `given` if it has given
 * that before. One that gives none lacks a right for whoever asks, and no data.
 */
export async function isOneRefused(
  error: SealiftError,
  store: Store,
  key: string,
  given: string | undefined,
  signal?: AbortSignal,
): Promise<boolean> {
  if (error.code !== 'store-denied') return false;
  const others = given === undefined ? await otherSegments(store, key, signal) : [given];
  for (const other of others) if (await isGiven(store, other, signal)) return failsAgain(store, key, signal);
  return false;
}

async function otherSegments(store: Store, key: string, signal?: AbortSignal): Promise<string[]> {
  const others: string[] = [];
  const folder = snapshotsFolder(key.slice(0, key.indexOf('/')));
  for await (const other of store.list(folder, signal)) {
    if (other.key !== key && parseKey(other.key)?.type === 'segment') others.push(other.key);
    if (others.length === othersAsked) break;
  }
  return others;
}

/** Its newest version; older ones may need a right of their own. */
async function isGiven(store: Store, key: string, signal?: AbortSignal): Promise<boolean> {
  try {
    for await (const _ of store.versions(key, signal, 0)) return true;
    return false;
  } catch {
    return false;
  }
}

/** One that does not verify is fetched twice: to a backup that does not see it, the chain would be broken for a week. */
async function readSnapshot(...asked: Parameters<typeof readOnce>): Promise<Snapshot | undefined> {
  try {
    return await readOnce(...asked);
  } catch (error) {
    if (!(error instanceof SealiftError) || error.code !== 'verify-failed') throw error;
    return readOnce(...asked);
  }
}

/** The newest version of an index that verifies (rule R8); undefined when the object is gone. */
async function readOnce(
  store: Store,
  host: string,
  snapshot: string,
  object: StoredObject,
  trusted: readonly PublicKey[],
  { signal, cache }: ReadOptions,
): Promise<Snapshot | undefined> {
  const known = await cache?.read(host, snapshot, object);
  if (known && trusted.some((key) => key.getFingerprint().toUpperCase() === known.signer))
    return { index: parseIndex(known.content, { host, snapshot }), object, sha256: known.sha256 };
  let failure: unknown;
  for await (const bytes of store.versions(object.key, signal)) {
    try {
      if (bytes.length > largestObjectBytes)
        throw new SealiftError('verify-failed', `the index of ${host}/${snapshot} is larger than any can be`);
      const { content, signer } = await openSigned(bytes, trusted, `the index of ${host}/${snapshot}`);
      const index = parseIndex(content, { host, snapshot });
      if (signer.getFingerprint().toUpperCase() !== index.signer)
        throw new SealiftError(
          'verify-failed',
          `the index of ${host}/${snapshot} names another signer than it has`,
        );
      const sha256 = hash('sha256', bytes);
      await cache?.write(host, snapshot, object, { content, signer: index.signer, sha256 });
      return { index, object, sha256 };
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure) throw failure;
  return undefined;
}

/**
 * Makes a snapshot exist: everything it names is there and durable, then its signed index is written (rule R1). Returns
 * the SHA-256 and size of the stored index object. Throws `segments-gone` when something that it names has gone. When the
 * signal aborts it, the snapshot exists or not, whole: the answer to the last request is not known then.
 */
export async function commitSnapshot(
  store: Store,
  index: Index,
  signingKey: PrivateKey,
  signal?: AbortSignal,
): Promise<{ sha256: string; storedBytes: number }> {
  const content = formatIndex(index);
  // What a reader would refuse must not become a snapshot, whatever made it so.
  parseIndex(content, { host: index.host, snapshot: index.snapshot });
  const signed = await signBytes(content, signingKey, new Date(index.finishedAt));
  // A folder may hold segments of a run that died before it could settle them.
  await store.settle(index.folders.map(({ snapshot }) => segmentsFolder(index.host, snapshot)));
  await demandNamed(store, index, signal);
  await store.put(formatKey({ type: 'index', host: index.host, snapshot: index.snapshot }), signed, signal);
  await store.settle();
  return { sha256: hash('sha256', signed), storedBytes: signed.length };
}

/** No grace is shorter: (A + W)/2 with W = 0 and A = 24 h. Nobody's prune takes what is younger, named or not. */
const shortestGraceMs = 12 * 3600 * 1000;

/**
 * What was judged at the start of the run is looked at again at its end: a run that takes days may name what was pruned
 * meanwhile by limits that were lowered after it began, or by those of a pruner that knows no snapshot of this host yet,
 * and a person or a bucket may delete anything at any time. That goes for what it wrote itself, too, once it is so old.
 */
async function demandNamed(store: Store, index: Index, signal?: AbortSignal): Promise<void> {
  const byFolder = Map.groupBy(objectsOf(index), ({ folder }) => folder);
  const ranMs = Date.parse(index.finishedAt) - Date.parse(index.startedAt);
  if (ranMs < shortestGraceMs) byFolder.delete(index.snapshot);
  await mapConcurrent(byFolder, indexReadsAtOnce, async ([folder, segments]) => {
    const present = new Map<string, number>();
    for await (const { key, sizeBytes } of store.list(segmentsFolder(index.host, folder), signal))
      present.set(key, sizeBytes);
    for (const { id, storedBytes } of segments) {
      const key = segmentKey(index.host, { folder, id });
      if (present.get(key) === storedBytes) continue;
      throw new SealiftError('segments-gone', `${key}, which this run names, was deleted while it ran`, {
        hint:
          'So there is no new snapshot; run again, and it is written anew. Was retention.maxAge lowered during the run? ' +
          'If not, find out who deletes.',
      });
    }
  });
}
