import { formatKey, parseSnapshotId, snapshotFolder, snapshotsFolder } from '../snapshot/object-key.ts';
import type { Store, StoredObject } from '../store/store.ts';

/** The ids of a host's folders in the store, oldest first, by the times in their names. */
export async function snapshotIds(store: Store, host: string, signal: AbortSignal): Promise<string[]> {
  const names = await store.folders(snapshotsFolder(host), signal);
  return names.filter((name) => parseSnapshotId(name) !== undefined);
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

/** A folder without an index is a run that did not finish (rule R1). The index sorts before the segments. */
export async function storedIndex(
  store: Store,
  host: string,
  snapshot: string,
  signal: AbortSignal,
): Promise<StoredObject | undefined> {
  const index = formatKey({ type: 'index', host, snapshot });
  for await (const object of store.list(snapshotFolder(host, snapshot), signal))
    if (object.key >= index) return object.key === index ? object : undefined;
  return undefined;
}
