import { wasSetBack } from '../clock.ts';
import type { FoundSnapshots, HostListing, Snapshot } from './catalog.ts';
import type { NamedSegment } from './index.ts';
import { formatKey, isPast, startOf } from './object-key.ts';

export interface Failure {
  readonly snapshot: string;
  /** The key of the object that is concerned. */
  readonly key: string;
  readonly reason: string;
}

/** Whether the listing shows the object of a segment, with its size. */
export const isListed = ({ folder, id, storedBytes }: NamedSegment, listing: HostListing): boolean =>
  listing.get(folder)?.segments.get(id)?.sizeBytes === storedBytes;

/**
 * Where the chain of a job is broken: each snapshot must name its predecessor by the hash of its stored index, and a
 * predecessor that has not expired must be there. `snapshots` are all that were read, oldest first; what could not be is
 * there as well.
 */
export function brokenLinks(
  { snapshots, unreadable }: Pick<FoundSnapshots, 'snapshots' | 'unreadable'>,
  now: Date,
): Failure[] {
  const cannotBeRead = new Set(unreadable.map(({ snapshot }) => snapshot));
  // A host that lowered maxAge has pruned by the new one: its newest snapshot tells.
  const currentMaxAge = snapshots.at(-1)?.index.maxAge ?? 0;
  const bySnapshot = new Map(snapshots.map((snapshot) => [snapshot.index.snapshot, snapshot]));
  const bySequence = new Map<string, Snapshot>();
  return snapshots.flatMap((snapshot) => {
    const { host, job, sequence, previous, maxAge } = snapshot.index;
    const failure = (reason: string): Failure => ({
      snapshot: snapshot.index.snapshot,
      key: formatKey({ type: 'index', host, snapshot: snapshot.index.snapshot }),
      reason,
    });
    const twin = bySequence.get(`${job} ${sequence}`);
    bySequence.set(`${job} ${sequence}`, snapshot);
    if (twin) return [failure(`has the same sequence number ${sequence} as ${twin.index.snapshot}`)];
    if (!previous) return [];
    const before = bySnapshot.get(previous.snapshot);
    if (!before) {
      const expired = previous.expiresAt
        ? Date.parse(previous.expiresAt) <= now.getTime()
        : isPast(previous.snapshot, maxAge, now);
      return expired ||
        isPast(previous.snapshot, currentMaxAge, now) ||
        wasSetBack(startOf(previous.snapshot), startOf(snapshot.index.snapshot))
        ? []
        : [
            failure(
              `its predecessor ${previous.snapshot} ` +
                (cannotBeRead.has(previous.snapshot) ? 'cannot be read' : 'is gone before its time'),
            ),
          ];
    }
    if (before.sha256 !== previous.sha256)
      return [failure(`its predecessor ${previous.snapshot} was replaced`)];
    if (before.index.sequence + 1 !== sequence)
      return [failure(`a snapshot between ${previous.snapshot} and this one is missing`)];
    return [];
  });
}
