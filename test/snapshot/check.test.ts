import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { rfc3339 } from '../../src/clock.ts';
import { SealiftError } from '../../src/errors.ts';
import type { HostListing, Snapshot } from '../../src/snapshot/catalog.ts';
import { brokenLinks, isListed } from '../../src/snapshot/check.ts';
import { objectsOf } from '../../src/snapshot/index.ts';
import { after, idOf, listingOf, makeSnapshot, segments } from './fixture.ts';

const day = 86_400;

/** Snapshots one day apart, each of which names the one before. */
function chain(count: number, job = 'databases'): Snapshot[] {
  const snapshots: Snapshot[] = [];
  for (let i = 0; i < count; i++) {
    const before = snapshots.at(-1);
    const previous = before ? { snapshot: before.index.snapshot, sha256: before.sha256 } : null;
    snapshots.push(makeSnapshot({ job, startedAt: after(i * day), sequence: i + 1, previous }));
  }
  return snapshots;
}

const reasons = (snapshots: readonly Snapshot[], nowDay = 3): string[] =>
  brokenLinks({ snapshots, unreadable: [] }, after(nowDay * day)).map(
    ({ snapshot, reason }) => `${snapshot.slice(0, 8)} ${reason}`,
  );

suite('objects that a snapshot names', () => {
  const older = makeSnapshot({ startedAt: after(-day), streams: [{ segments: segments(['old']) }] });
  const newer = makeSnapshot({
    folders: [makeSnapshot().index.folders[0]!, ...older.index.folders],
    streams: [{ segments: [...segments(['new', 'new']), ...segments(['old'], 1)] }],
  });

  const unlisted = (listing: HostListing): string[] =>
    objectsOf(newer.index).flatMap((object) => (isListed(object, listing) ? [] : object.id));

  test('are listed where the listing shows them with their size, in whichever folder', () => {
    assert.deepEqual(unlisted(listingOf([older, newer])), []);
    assert.deepEqual(unlisted(new Map()), [idOf('new'), idOf('old')]);
  });

  test('are not where they lie in another folder', () => {
    const listing = listingOf([older, newer]);
    const folder = listing.get(older.index.snapshot)!;
    listing.get(newer.index.snapshot)!.segments.set(idOf('old'), folder.segments.get(idOf('old'))!);
    folder.segments.clear();
    assert.deepEqual(unlisted(listing), [idOf('old')]);
  });

  test('are not with another size', () => {
    const listing = listingOf([older, newer]);
    const objects = listing.get(newer.index.snapshot)!.segments;
    objects.set(idOf('new'), { ...objects.get(idOf('new'))!, sizeBytes: 4095 });
    assert.deepEqual(unlisted(listing), [idOf('new')]);
  });
});

suite('the chain of a job', () => {
  test('is whole where each snapshot names the one before it', () => {
    assert.deepEqual(reasons(chain(4)), []);
    assert.deepEqual(reasons([]), []);
    assert.deepEqual(reasons(chain(1)), []);
  });

  test('is whole where only its expired beginning is gone', () => {
    assert.deepEqual(reasons(chain(4).slice(2), 8), []);
  });

  test('is broken where the predecessor is gone before its time, to the second', () => {
    const snapshots = chain(2).slice(1);
    const at = (seconds: number) =>
      brokenLinks({ snapshots, unreadable: [] }, after(seconds)).map(({ reason }) => reason);
    assert.match(at(7 * day - 1).join(), /^its predecessor 20261122T120000Z-.* is gone before its time$/);
    assert.deepEqual(at(7 * day), []);
  });

  test('is whole where the predecessor went by a maxAge that was lowered since, as the newest snapshot tells', () => {
    const [, second, third] = chain(3);
    const index = { ...third!.index, maxAge: 2 * day, expiresAt: rfc3339(after(4 * day)) };
    const at = (seconds: number) =>
      brokenLinks({ snapshots: [second!, { ...third!, index }], unreadable: [] }, after(seconds)).length;
    assert.deepEqual([at(2 * day - 1), at(2 * day)], [1, 0]);
  });

  test('is whole where the predecessor was made by a clock that was set back since', () => {
    const gone = (seconds: number): Snapshot => {
      const { snapshot } = makeSnapshot({ startedAt: after(seconds) }).index;
      const previous = { snapshot, sha256: '0'.repeat(64) };
      return makeSnapshot({ startedAt: after(day), sequence: 2, previous });
    };
    assert.equal(reasons([gone(day + 300)]).length, 1);
    assert.deepEqual(reasons([gone(day + 301)]), []);
  });

  test('is broken where a snapshot in the middle is gone', () => {
    const [first, , third, fourth] = chain(4);
    assert.deepEqual(reasons([first!, third!, fourth!]), [
      '20261124 its predecessor 20261123T120000Z-databases-aaaaaa is gone before its time',
    ]);
  });

  test('is broken where the predecessor cannot be read, which does not mean that it is gone', () => {
    const [first, second] = chain(2);
    const { snapshot } = first!.index;
    const unreadable = [{ snapshot, error: new SealiftError('verify-failed', 'torn') }];
    assert.deepEqual(
      brokenLinks({ snapshots: [second!], unreadable }, after(day)).map(({ reason }) => reason),
      [`its predecessor ${snapshot} cannot be read`],
    );
  });

  test('is broken where the predecessor was replaced', () => {
    const [first, second] = chain(2);
    const forged = { ...first!, sha256: '0'.repeat(64) };
    assert.match(reasons([forged, second!]).join(), /^20261123 its predecessor .* was replaced$/);
  });

  test('is broken where the numbers leave a gap', () => {
    const [first, second] = chain(2);
    const skipping = { ...second!, index: { ...second!.index, sequence: 3 } };
    assert.match(reasons([first!, skipping]).join(), /^20261123 a snapshot between .* is missing$/);
  });

  test('is broken where two snapshots have one number', () => {
    const [first, second] = chain(2);
    const twin = makeSnapshot({ startedAt: after(day + 60), sequence: 2, previous: second!.index.previous });
    assert.match(
      reasons([first!, second!, twin]).join(),
      /^20261123 has the same sequence number 2 as 20261123T120000Z/,
    );
  });

  test('is not that of another job', () => {
    assert.deepEqual(reasons([...chain(3), ...chain(3, 'system')]), []);
  });
});
