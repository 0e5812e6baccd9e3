import type { HostListing, Snapshot } from './catalog.ts';
import { objectsOf, recipientsEqual, type NamedSegment, type Recipient } from './index.ts';
import type { JournalledRun } from './journal.ts';

/**
 * The segments that a run may name instead of writing them again, by id: those that a live verified index names, or
 * the journal of an unfinished run, if the listing shows the object with the recorded size, it is younger than the
 * re-use window at the start of the run, and its folder is sealed to exactly these recipients (docs/format.md, "Re-use").
 * Of several copies the youngest, which can be named the longest.
 */
export function reusableSegments(found: {
  readonly listing: HostListing;
  readonly snapshots: readonly Snapshot[];
  readonly journals: readonly JournalledRun[];
  readonly recipients: readonly Recipient[];
  readonly startedAt: Date;
  readonly reuseWindowSeconds: number;
}): Map<string, NamedSegment> {
  const { listing, startedAt, recipients } = found;
  const oldest = startedAt.getTime() - found.reuseWindowSeconds * 1000;
  const reusable = new Map<string, NamedSegment>();
  if (found.reuseWindowSeconds === 0) return reusable;
  const modifiedAt = new Map<string, number>();

  const offer = (segment: NamedSegment): void => {
    const object = listing.get(segment.folder)?.segments.get(segment.id);
    if (object?.sizeBytes !== segment.storedBytes) return;
    const modified = object.lastModified.getTime();
    if (modified <= oldest || modified <= (modifiedAt.get(segment.id) ?? -Infinity)) return;
    reusable.set(segment.id, segment);
    modifiedAt.set(segment.id, modified);
  };

  for (const { index } of found.snapshots) {
    if (
      Date.parse(index.startedAt) > startedAt.getTime() ||
      Date.parse(index.expiresAt) <= startedAt.getTime()
    )
      continue;
    const folders = new Set(
      index.folders
        .filter((folder) => recipientsEqual(folder.recipients, recipients))
        .map(({ snapshot }) => snapshot),
    );
    for (const segment of objectsOf(index)) if (folders.has(segment.folder)) offer(segment);
  }
  for (const run of found.journals)
    if (recipientsEqual(run.recipients, recipients)) for (const segment of run.segments) offer(segment);
  return reusable;
}
