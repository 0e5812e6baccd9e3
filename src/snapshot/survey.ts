import type { PublicKey } from 'openpgp';
import { mapConcurrent } from '../concurrency.ts';
import { namePattern } from '../config/fields.ts';
import { SealiftError } from '../errors.ts';
import type { Store, StoredVersion } from '../store/store.ts';
import { readSnapshots, type FoundSnapshots, type ReadOptions, type SnapshotFolder } from './catalog.ts';
import { formatKey, keysFolder, parseKey, segmentKey, snapshotsFolder, startOf } from './object-key.ts';

/**
 * Everything that lies in one host's folder, all versions and deletion markers included: what a pruner and an auditor
 * judge. A reader is content with `listHost`, which sees what is current.
 */
export interface HostSurvey extends FoundSnapshots {
  readonly host: string;
  /** Indexes and segments, sorted by key, newest version first. */
  readonly objects: readonly SurveyedObject[];
  /** The host's public keys and its restore guide. */
  readonly companions: readonly StoredVersion[];
  /** What is not ours: reported, never touched. */
  readonly foreign: readonly StoredVersion[];
  /** Snapshots whose index lies under a deletion marker: readers do not see them, their objects are there. */
  readonly hidden: ReadonlySet<string>;
}

/** Lean, because there may be a million: its key is made again by `keyOf`. */
export interface SurveyedObject extends Pick<StoredVersion, 'version' | 'sizeBytes' | 'marker'> {
  /** The snapshot in whose folder it lies. */
  readonly folder: string;
  /** The id of a segment; undefined for an index. */
  readonly segment: string | undefined;
  /** Milliseconds since 1970. */
  readonly modifiedMs: number;
}

/**
 * The hosts that left anything in the store, also where all of it lies under markers of deletion: a folder that was
 * deleted with common tools is not gone from a versioned bucket, and nobody else will miss it.
 */
export const surveyedHosts = (store: Store, signal?: AbortSignal, only?: string): Promise<string[]> =>
  hostsAmong(
    (folder) =>
      // Who may not see versions is told so for each host.
      store.allFolders(folder, signal).catch(ifDenied(() => store.folders(folder, signal))),
    only,
  );

/**
 * The hosts of a store whose folders these are, or the one that is asked for. A folder that holds nothing of ours is
 * somebody else's.
 */
export async function hostsAmong(
  folders: (folder: string) => Promise<string[]>,
  only?: string,
): Promise<string[]> {
  const names = only === undefined ? await folders('') : [only];
  const possible = names.filter((name) => namePattern.test(name));
  const areHosts = await mapConcurrent(possible, asksAtOnce, async (name) => {
    const ours = [keysFolder(name), snapshotsFolder(name)];
    // What may not be looked at may be a host.
    const found = await folders(`${name}/`).catch(ifDenied(async () => undefined));
    return found?.some((folder) => ours.includes(`${name}/${folder}/`)) ?? true;
  });
  return possible.filter((_, i) => areHosts[i]);
}

const ifDenied =
  <T>(instead: () => Promise<T>) =>
  (error: unknown): Promise<T> => {
    if (error instanceof SealiftError && error.code === 'store-denied') return instead();
    throw error;
  };

const asksAtOnce = 8;

/** `trusted`: the pinned keys of the host; a snapshot that none of them signed is among the unreadable. */
export async function surveyHost(
  store: Store,
  host: string,
  trusted: readonly PublicKey[],
  options: ReadOptions = {},
): Promise<HostSurvey> {
  const objects: SurveyedObject[] = [];
  const companions: StoredVersion[] = [];
  const foreign: StoredVersion[] = [];
  const hidden = new Set<string>();
  const listing = new Map<string, SnapshotFolder>();
  let folder = '';
  for await (const version of store.listVersions(`${host}/`, options.signal)) {
    const key = parseKey(version.key);
    if (key?.type !== 'index' && key?.type !== 'segment') {
      (key === undefined ? foreign : companions).push(version);
      continue;
    }
    if (key.snapshot !== folder) folder = copied(key.snapshot);
    const segment = key.type === 'segment' ? copied(key.id) : undefined;
    const { version: id, sizeBytes, marker } = version;
    const modifiedMs = version.lastModified.getTime();
    objects.push({ version: id, sizeBytes, marker, folder, segment, modifiedMs });
    if (segment !== undefined) continue;
    if (version.marker && version.latest) hidden.add(folder);
    if (!version.marker && !listing.has(folder)) listing.set(folder, { index: version, segments: new Map() });
  }
  const read = await readSnapshots(store, host, listing, trusted, options);
  await options.cache?.retain(host, new Set(listing.keys()));
  return { host, objects, companions, foreign, hidden, ...read };
}

/** V8 keeps the whole text that a part was cut from, which may be a page of a listing. */
export const copied = (text: string): string => Buffer.from(text, 'latin1').toString('latin1');

export const keyOf = (host: string, { folder: snapshot, segment }: SurveyedObject): string =>
  segment === undefined
    ? formatKey({ type: 'index', host, snapshot })
    : segmentKey(host, { folder: snapshot, id: segment });

/** When the store took the index of a snapshot in (milliseconds since 1970): its newest version that is there. */
export const indexModified = ({ objects }: HostSurvey, snapshot: string): number =>
  objects.find(({ folder, segment, marker }) => folder === snapshot && segment === undefined && !marker)
    ?.modifiedMs ?? startOf(snapshot);
