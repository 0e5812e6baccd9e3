import { createHash } from 'node:crypto';
import { rfc3339 } from '../../src/clock.ts';
import type { HostListing, Snapshot, SnapshotFolder } from '../../src/snapshot/catalog.ts';
import { formatIndex, objectsOf, type Index, type IndexStream } from '../../src/snapshot/index.ts';
import { formatKey, formatSnapshotId } from '../../src/snapshot/object-key.ts';

const day = 86_400;
export const host = 'web';
export const noon = new Date('2026-11-22T12:00:00Z');
export const after = (seconds: number, from = noon): Date => new Date(from.getTime() + seconds * 1000);

export const ada = { primary: 'A'.repeat(40), subkey: 'B'.repeat(40) };
export const bob = { primary: 'C'.repeat(40), subkey: 'D'.repeat(64) };

/** 32 and 64 hex digits that stand for a content. */
export const idOf = (content: string): string => createHash('md5').update(content).digest('hex');
const sha256Of = (content: string): string => createHash('sha256').update(content).digest('hex');

interface Changes extends Partial<Omit<Index, 'startedAt' | 'streams'>> {
  readonly startedAt?: Date;
  readonly random?: string;
  readonly streams?: readonly Partial<IndexStream>[];
}

/** Segments of these contents in the index's folder of this number. */
export const segments = (contents: readonly string[], folder = 0): IndexStream['segments'] =>
  contents.map((content) => [folder, idOf(content), 4096, sha256Of(content)]);

/** A valid index; what a test does not say is of no importance to it. */
export function makeIndex({ startedAt = noon, random = 'aaaaaa', streams, ...changes }: Changes = {}): Index {
  const job = changes.job ?? 'databases';
  const snapshot = changes.snapshot ?? formatSnapshotId({ startedAt, job, random });
  const maxAge = changes.maxAge ?? 7 * day;
  return {
    format: 'sealift-index/1',
    host,
    job,
    snapshot,
    signer: 'E'.repeat(40),
    sequence: 1,
    previous: null,
    startedAt: rfc3339(startedAt),
    finishedAt: rfc3339(after(60, startedAt)),
    maxAge,
    reuseWindow: 26 * 3600,
    expiresAt: rfc3339(after(maxAge, startedAt)),
    schedule: '0 3 * * *',
    timezone: 'Europe/Berlin',
    tool: 'sealift 0.1.0',
    recipients: [ada],
    status: 'complete',
    problems: [],
    folders: [{ snapshot, recipients: [ada] }],
    ...changes,
    streams: (streams ?? [{}]).map((stream) => ({
      name: 'app/app.dump',
      source: 'app',
      kind: 'postgres',
      role: 'data',
      status: 'complete',
      bytes: 8192,
      segments: segments(['one', 'two']),
      ...stream,
    })),
  };
}

/** The snapshot of an index, as if it had been read from a store. */
export const snapshotOf = (index: Index): Snapshot => ({
  index,
  object: {
    key: formatKey({ type: 'index', host: index.host, snapshot: index.snapshot }),
    sizeBytes: 1000,
    lastModified: new Date(index.finishedAt),
    etag: index.snapshot,
  },
  sha256: createHash('sha256').update(formatIndex(index)).digest('hex'),
});

export const makeSnapshot = (changes: Changes = {}): Snapshot => snapshotOf(makeIndex(changes));

/** A listing that shows everything that these snapshots name, written at the end of the run that wrote it. */
export function listingOf(snapshots: readonly Snapshot[]): Map<string, SnapshotFolder> & HostListing {
  const listing = new Map<string, SnapshotFolder>();
  const folderOf = (snapshot: string): SnapshotFolder => {
    const folder = listing.get(snapshot) ?? { index: undefined, segments: new Map() };
    listing.set(snapshot, folder);
    return folder;
  };
  for (const { index, object } of snapshots) {
    folderOf(index.snapshot).index = object;
    for (const { folder, id, storedBytes } of objectsOf(index)) {
      const key = formatKey({ type: 'segment', host: index.host, snapshot: folder, id });
      const known = folderOf(folder).segments.get(id);
      const lastModified = known?.lastModified ?? new Date(index.finishedAt);
      folderOf(folder).segments.set(id, { key, sizeBytes: storedBytes, lastModified, etag: id });
    }
  }
  return listing;
}
