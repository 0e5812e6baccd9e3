import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { SnapshotFolder } from '../../src/snapshot/catalog.ts';
import { reusableSegments } from '../../src/snapshot/reuse.ts';
import { ada, after, bob, idOf, listingOf, makeSnapshot, noon, segments } from './fixture.ts';

const window = 26 * 3600;
const yesterday = after(-86_400);
const before = makeSnapshot({ startedAt: yesterday, streams: [{ segments: segments(['one', 'two']) }] });
const { snapshot: folder } = before.index;

type Found = Parameters<typeof reusableSegments>[0];

/** The contents that a run which starts at noon may name again. */
function reusable(changes: Partial<Found> = {}, contents = ['one', 'two']): string[] {
  const snapshots = changes.snapshots ?? [before];
  const found = reusableSegments({
    listing: listingOf(snapshots),
    snapshots,
    journals: [],
    recipients: [ada],
    startedAt: noon,
    reuseWindowSeconds: window,
    ...changes,
  });
  return contents.filter((content) => found.has(idOf(content)));
}

/** The same listing with one object that differs. */
function listingWith(
  content: string,
  change: Partial<{ sizeBytes: number; lastModified: Date }> | 'gone',
): Map<string, SnapshotFolder> {
  const listing = listingOf([before]);
  const objects = listing.get(folder)!.segments;
  const object = objects.get(idOf(content))!;
  if (change === 'gone') objects.delete(idOf(content));
  else objects.set(idOf(content), { ...object, ...change });
  return listing;
}

test("yesterday's segments are named again, as they were recorded", () => {
  assert.deepEqual(reusable(), ['one', 'two']);
  const found = reusableSegments({
    listing: listingOf([before]),
    snapshots: [before],
    journals: [],
    recipients: [ada],
    startedAt: noon,
    reuseWindowSeconds: window,
  });
  const [, id, storedBytes, sha256] = before.index.streams[0]!.segments[0]!;
  assert.deepEqual(found.get(id), { folder, id, storedBytes, sha256 });
});

const aged = (seconds: number): string[] =>
  reusable({ listing: listingWith('one', { lastModified: after(-seconds) }) });

const expiring = (maxAge: number): string[] => {
  const snapshot = makeSnapshot({ startedAt: yesterday, maxAge, streams: before.index.streams });
  return reusable({ snapshots: [snapshot] });
};

const starting = (seconds: number): string[] => {
  const snapshot = makeSnapshot({ startedAt: after(seconds), streams: before.index.streams });
  return reusable({ snapshots: [snapshot] });
};

/** An unfinished run in the same folder. */
const journal = {
  snapshot: folder,
  recipients: [ada],
  segments: [{ folder, id: idOf('one'), storedBytes: 4096, sha256: 'f'.repeat(64) }],
};

suite('a segment is written again', () => {
  test('if its object is gone, and its neighbours are not', () => {
    assert.deepEqual(reusable({ listing: listingWith('one', 'gone') }), ['two']);
  });

  test('if its whole folder is gone', () => {
    assert.deepEqual(reusable({ listing: new Map() }), []);
  });

  test('if its object has another size than the index says', () => {
    for (const sizeBytes of [0, 4095, 4097])
      assert.deepEqual(reusable({ listing: listingWith('one', { sizeBytes }) }), ['two']);
  });

  test('from the second on at which it is as old as the re-use window', () => {
    assert.deepEqual(aged(window - 1), ['one', 'two']);
    assert.deepEqual(aged(window), ['two']);
    assert.deepEqual(aged(window + 1), ['two']);
  });

  test('if the window is 0, however young it is', () => {
    // Another job that runs at the same time may write after this run has started.
    const listing = listingWith('one', { lastModified: after(1) });
    assert.deepEqual(reusable({ listing, reuseWindowSeconds: 0 }), []);
    assert.deepEqual(reusable({ listing, snapshots: [], journals: [journal], reuseWindowSeconds: 0 }), []);
    assert.deepEqual(reusable({ listing, snapshots: [], journals: [journal], reuseWindowSeconds: window }), [
      'one',
    ]);
  });

  test('if its folder was sealed to others than the recipients of today', () => {
    for (const recipients of [[bob], [ada, bob], [{ ...ada, subkey: bob.subkey }]])
      assert.deepEqual(reusable({ recipients }), []);
  });

  test('if only the folder that it lies in was sealed to others', () => {
    const index = {
      ...before.index,
      folders: [
        ...before.index.folders,
        { snapshot: '20261121T110000Z-databases-cccccc', recipients: [bob] },
      ],
      streams: before.index.streams.map((stream) => ({
        ...stream,
        segments: [...segments(['one']), ...segments(['two'], 1)],
      })),
    };
    assert.deepEqual(reusable({ snapshots: [{ ...before, index }] }), ['one']);
  });

  test('if the snapshot that names it has expired, from the second of its expiry on', () => {
    assert.deepEqual(expiring(86_401), ['one', 'two']);
    assert.deepEqual(expiring(86_400), []);
    assert.deepEqual(expiring(86_399), []);
  });

  test('if the snapshot that names it claims to start after this run', () => {
    assert.deepEqual(starting(0), ['one', 'two']);
    assert.deepEqual(starting(1), []);
  });

  test('if no index that could be read names it', () => {
    assert.deepEqual(reusable({ snapshots: [], listing: listingOf([before]) }), []);
  });
});

test('of several copies the youngest is named, in whatever order they are met', () => {
  const copy = makeSnapshot({
    startedAt: after(-3600),
    job: 'system',
    streams: [{ segments: segments(['one']) }],
  });
  for (const snapshots of [
    [before, copy],
    [copy, before],
  ]) {
    const found = reusableSegments({
      listing: listingOf(snapshots),
      snapshots,
      journals: [],
      recipients: [ada],
      startedAt: noon,
      reuseWindowSeconds: window,
    });
    assert.equal(found.get(idOf('one'))?.folder, copy.index.snapshot);
    assert.equal(found.get(idOf('two'))?.folder, folder);
  }
});

suite('a segment of an unfinished run', () => {
  test('is adopted without an index', () => {
    assert.deepEqual(reusable({ snapshots: [], listing: listingOf([before]), journals: [journal] }), ['one']);
  });

  test('is not adopted if its recipients were others, or its object is gone, old or of another size', () => {
    const cases: Partial<Found>[] = [
      { listing: listingOf([before]), recipients: [ada, bob] },
      { listing: new Map() },
      { listing: listingWith('one', { lastModified: after(-window) }) },
      { listing: listingWith('one', { sizeBytes: 1 }) },
    ];
    for (const changes of cases)
      assert.deepEqual(reusable({ snapshots: [], journals: [journal], ...changes }), []);
  });
});
