import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { SealiftError } from '../../src/errors.ts';
import { chooseById, chooseLatest, chooseStreams, isExpired, sourcesOf } from '../../src/snapshot/choose.ts';
import type { Snapshot } from '../../src/snapshot/catalog.ts';
import type { IndexStream } from '../../src/snapshot/index.ts';
import { after, makeIndex, makeSnapshot, noon } from './fixture.ts';

const streamOf = (name: string, status: IndexStream['status'] = 'complete'): Partial<IndexStream> => ({
  name,
  source: name.slice(0, name.indexOf('/')),
  status,
});
const details: Partial<IndexStream> = { name: '_/details.jsonl', source: '_', role: 'details' };

/** One snapshot an hour, oldest first; each with its streams and the sources that failed in it. */
const history = (...runs: { streams: string[]; failed?: string[]; job?: string }[]): Snapshot[] =>
  runs.map(({ streams, failed = [], job = 'databases' }, i) =>
    makeSnapshot({
      job,
      startedAt: after(3600 * i),
      streams: [...streams.map((name) => streamOf(name)), details],
      problems: failed.map((source) => ({ source, code: 'stream-failed' as const })),
      status: failed.length > 0 ? 'partial' : 'complete',
    }),
  );

/** What is chosen, as `hour: stream, stream`. */
function latest(snapshots: readonly Snapshot[], ...wanted: string[]) {
  const { choices, passedOver } = chooseLatest(snapshots, { job: 'databases', wanted });
  const chosen = choices.map(({ snapshot, streams }) => {
    const hour = (Date.parse(snapshot.index.startedAt) - noon.getTime()) / 3_600_000;
    return `${hour}: ${streams.map(({ name }) => name).join(', ')}`;
  });
  return { chosen, passedOver };
}

suite('the latest', () => {
  test('is all data of the newest snapshot, where that is complete', () => {
    const snapshots = history({ streams: ['a/1', 'b/1'] }, { streams: ['a/1', 'a/2', 'b/1'] });
    assert.deepEqual(latest(snapshots), { chosen: ['1: a/1, a/2, b/1'], passedOver: [] });
  });

  test('of a source that failed comes from the snapshot before, and says so', () => {
    const snapshots = history({ streams: ['a/1', 'b/1'] }, { streams: ['a/1'], failed: ['b'] });
    const { chosen, passedOver } = latest(snapshots);
    assert.deepEqual(chosen, ['1: a/1', '0: b/1']);
    assert.equal(passedOver.length, 1);
    assert.match(passedOver[0]!, /^b is not complete in 20261122T130000Z.*; taking 20261122T120000Z/);
  });

  test('passes over as many snapshots as it must', () => {
    const runs = [
      { streams: ['b/1'] },
      ...Array.from({ length: 5 }, () => ({ streams: ['a/1'], failed: ['b'] })),
    ];
    assert.deepEqual(latest(history(...runs)).chosen, ['5: a/1', '0: b/1']);
  });

  test('takes a source of which a part is missing from where it was whole', () => {
    const snapshots = history({ streams: ['b/1', 'b/2'] }, { streams: ['b/1'], failed: ['b'] });
    assert.deepEqual(latest(snapshots).chosen, ['0: b/1, b/2']);
  });

  test('takes a part where the source was whole nowhere, and says so', () => {
    const snapshots = history({ streams: ['b/1'], failed: ['b'] }, { streams: ['b/2'], failed: ['b'] });
    const { chosen, passedOver } = latest(snapshots);
    assert.deepEqual(chosen, ['1: b/2']);
    assert.match(passedOver.join(), /^b is complete in no snapshot/);
  });

  test('says which source is nowhere', () => {
    const { chosen, passedOver } = latest(history({ streams: ['a/1'], failed: ['b'] }));
    assert.deepEqual(chosen, ['0: a/1']);
    assert.match(passedOver.join(), /^b is in no snapshot/);
  });

  test('does not look into other jobs', () => {
    const snapshots = history({ streams: ['a/1'] }, { streams: ['a/1'], job: 'system' });
    assert.deepEqual(latest(snapshots).chosen, ['0: a/1']);
    assert.throws(() => chooseLatest(snapshots, { job: 'none', wanted: [] }), { code: 'snapshot-not-found' });
  });

  test('of one source is that source alone', () => {
    assert.deepEqual(latest(history({ streams: ['a/1', 'b/1', 'b/2'] }), 'b').chosen, ['0: b/1, b/2']);
  });

  test('of one stream is that stream, even where its siblings failed', () => {
    const snapshots = history({ streams: ['b/1', 'b/2'] }, { streams: ['b/1'], failed: ['b'] });
    assert.deepEqual(latest(snapshots, 'b/1').chosen, ['1: b/1']);
    assert.deepEqual(latest(snapshots, 'b/2').chosen, ['0: b/2']);
  });

  test('of a stream that is partial itself is the complete one before it', () => {
    const snapshots = [
      makeSnapshot({ streams: [streamOf('a/1')] }),
      makeSnapshot({
        startedAt: after(3600),
        streams: [streamOf('a/1', 'partial')],
        problems: [{ source: 'a', code: 'unreadable' }],
      }),
    ];
    assert.deepEqual(latest(snapshots, 'a/1').chosen, ['0: a/1']);
    assert.deepEqual(latest(snapshots, 'a').chosen, ['0: a/1']);
  });

  test('counts a source with notes that cost no data as whole', () => {
    const snapshot = makeSnapshot({
      streams: [streamOf('a/1')],
      problems: [{ source: 'a', code: 'file-vanished' }],
    });
    assert.deepEqual(latest([snapshot]), { chosen: ['0: a/1'], passedOver: [] });
  });

  test('of something that no snapshot has is not found, with the names that there are', () => {
    for (const wanted of ['none', 'a/none', '_/details.jsonl', '_'])
      assert.throws(
        () => latest(history({ streams: ['a/1'] }), wanted),
        (error: unknown) => {
          assert.ok(error instanceof SealiftError);
          assert.equal(error.code, 'snapshot-not-found');
          assert.match(error.hint ?? '', /has: a\/1$/);
          return true;
        },
      );
  });

  test('of nothing is not found', () => {
    assert.throws(() => latest([]), { code: 'snapshot-not-found' });
  });
});

suite('a snapshot by its id', () => {
  const snapshots = [
    makeSnapshot({ startedAt: noon }),
    makeSnapshot({ startedAt: after(1) }),
    makeSnapshot({ startedAt: after(86_400) }),
  ];
  const broken = {
    snapshot: '20261124T120000Z-databases-aaaaaa',
    error: new SealiftError('verify-failed', 'it is damaged'),
  };
  const found = { snapshots, unreadable: [broken] };

  test('is found by the whole id and by every unique beginning', () => {
    const id = snapshots[2]!.index.snapshot;
    for (let length = '20261123'.length; length <= id.length; length++)
      assert.equal(chooseById(found, id.slice(0, length)), snapshots[2]);
  });

  test('is ambiguous where several begin so, and all of them are named', () => {
    for (const text of ['2', '2026', '20261122T12000'])
      assert.throws(
        () => chooseById(found, text),
        (error: unknown) => {
          assert.ok(error instanceof SealiftError);
          assert.equal(error.code, 'snapshot-ambiguous');
          assert.match(error.hint ?? '', /20261122T120000Z.*20261122T120001Z/);
          return true;
        },
      );
  });

  test('is not asked for by an empty text, as an unset variable of a shell gives', () => {
    assert.throws(() => chooseById(found, ''), { code: 'usage' });
  });

  test('is not found by its middle, its end or more than its id', () => {
    const id = snapshots[2]!.index.snapshot;
    for (const text of ['databases', id.slice(1), `${id}x`])
      assert.throws(() => chooseById(found, text), { code: 'snapshot-not-found' });
  });

  test('that cannot be read says what is wrong with it', () => {
    assert.throws(() => chooseById(found, '20261124'), broken.error);
  });

  test('is found by its whole id though others begin with it', () => {
    const short = makeSnapshot({ snapshot: 'a' });
    const long = makeSnapshot({ snapshot: 'ab' });
    assert.equal(chooseById({ snapshots: [long, short], unreadable: [] }, 'a'), short);
  });
});

test('a snapshot has expired from the second on that its index names', () => {
  const snapshot = makeSnapshot({ maxAge: 100 });
  assert.ok(!isExpired(snapshot, after(99)));
  assert.ok(isExpired(snapshot, after(100)));
  assert.ok(isExpired(snapshot, after(101)));
});

test('the streams of a snapshot are its data, or those that are wanted', () => {
  const index = makeIndex({ streams: [streamOf('a/1'), streamOf('a/2'), streamOf('b/1'), details] });
  const names = (...wanted: string[]): string[] => chooseStreams(index, wanted).map(({ name }) => name);
  assert.deepEqual(names(), ['a/1', 'a/2', 'b/1']);
  assert.deepEqual(names('a'), ['a/1', 'a/2']);
  assert.deepEqual(names('b', 'a/2'), ['b/1', 'a/2']);
  assert.throws(() => names('a', 'c'), { code: 'snapshot-not-found' });
});

test('the sources of a snapshot are those that it saved and those that it failed to save', () => {
  const index = makeIndex({
    streams: [streamOf('a/1'), streamOf('a/2'), details],
    problems: [
      { source: 'b', code: 'source-failed' },
      { source: 'c', code: 'file-vanished' },
    ],
  });
  assert.deepEqual(sourcesOf(index), ['a', 'b']);
});
