import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import {
  formatIndex,
  objectsOf,
  parseIndex,
  recipientsEqual,
  segmentsOf,
  storedSizes,
  partialProblems,
} from '../../src/snapshot/index.ts';
import { ada, after, bob, host, idOf, makeIndex, segments } from './fixture.ts';

const older = '20261121T120000Z-databases-bbbbbb';
const rich = makeIndex({
  sequence: 7,
  previous: { snapshot: older, sha256: 'f'.repeat(64) },
  status: 'partial',
  problems: [{ source: 'app', code: 'stream-failed' }],
  recipients: [ada, bob],
  folders: [
    { snapshot: '20261122T120000Z-databases-aaaaaa', recipients: [ada, bob] },
    { snapshot: older, recipients: [ada, bob] },
  ],
  streams: [
    { segments: [...segments(['new', 'again', 'again']), ...segments(['old'], 1)] },
    { name: 'app/empty.sql', segments: [], bytes: 0 },
    {
      name: '_/details.jsonl',
      source: '_',
      kind: 'details',
      role: 'details',
      segments: segments(['details']),
    },
  ],
});
const at = { host, snapshot: rich.snapshot };

test('an index that was written is read back', () => {
  for (const index of [rich, makeIndex(), makeIndex({ startedAt: after(86_400) })])
    assert.deepEqual(parseIndex(formatIndex(index), { host, snapshot: index.snapshot }), index);
});

test('the text of an index is JSON with one segment a line', () => {
  const text = formatIndex(rich).toString();
  assert.deepEqual(JSON.parse(text), rich);
  assert.ok(text.endsWith('\n') && !text.includes('\r'));
  const lines = text.split('\n').filter((line) => /"[0-9a-f]{32}"/.test(line));
  assert.equal(lines.length, 5);
  for (const line of lines) assert.match(line, /^\[\d+,"[0-9a-f]{32}",\d+,"[0-9a-f]{64}"\],?$/);
});

test('the index that format 1 was defined with is still written the same way and read', () => {
  const golden = readFileSync(join(import.meta.dirname, '../golden/format-1/index.json'));
  assert.equal(formatIndex(rich).toString(), golden.toString());
  assert.deepEqual(parseIndex(golden, at), rich);
});

test('fields of a later version are passed over', () => {
  const later = { ...rich, extra: { a: 1 } };
  assert.deepEqual(parseIndex(Buffer.from(JSON.stringify(later)), at), rich);
});

test('an index of a later format says what reads it', () => {
  const later = Buffer.from(JSON.stringify({ ...rich, format: 'sealift-index/2' }));
  assert.throws(() => parseIndex(later, at), {
    code: 'verify-failed',
    hint: /^A later version of sealift made it/,
  });
});

test('a code of a later version counts as one that cost data where any did', () => {
  for (const [status, counted] of [
    ['complete', []],
    ['partial', ['later']],
  ] as const) {
    const problems = [
      { source: 'noted', code: 'shrank' },
      // What every object of JavaScript has is no code.
      { source: 'later', code: 'constructor' },
    ];
    const later = { ...rich, status, problems };
    const read = parseIndex(Buffer.from(JSON.stringify(later)), at);
    assert.deepEqual(read.problems, problems);
    assert.deepEqual(
      partialProblems(read).map(({ source }) => source),
      counted,
    );
  }
});

suite('an index is refused', () => {
  const [first, ...others] = rich.streams;
  const change = (changes: object): Buffer => Buffer.from(JSON.stringify({ ...rich, ...changes }));
  const changeStream = (changes: object): Buffer =>
    change({ streams: [{ ...first, ...changes }, ...others] });
  const segment = (...changes: unknown[]): Buffer =>
    changeStream({ segments: [Object.assign([...rich.streams[0]!.segments[0]!], changes)] });
  const cases: Record<string, readonly [Buffer, RegExp]> = {
    'that is empty': [Buffer.alloc(0), /not JSON/],
    'that is no JSON': [Buffer.from('{'), /not JSON/],
    'that is null': [Buffer.from('null'), /its format is no text;/],
    'of no format that could be told': [
      Buffer.from(`{"format":${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
      /its format is no text;/,
    ],
    'of a format that is a book': [change({ format: 'x'.repeat(1_000_000) }), /its format is "x{40}";/],
    'of a later format': [change({ format: 'sealift-index/2' }), /"sealift-index\/2"; this version reads/],
    'of another host': [change({ host: 'mail' }), /made for mail\//],
    'of another snapshot': [change({ snapshot: older }), /made for web\/20261121/],
    'of another job than its id': [change({ job: 'system' }), /its job is system/],
    'that started at another time than its id': [
      change({ startedAt: '2026-11-22T12:00:01Z', expiresAt: '2026-11-29T12:00:01Z' }),
      /it started at/,
    ],
    'that expires later than maxAge says': [change({ expiresAt: '2026-11-29T12:00:01Z' }), /it expires at/],
    'that expires earlier than maxAge says': [change({ expiresAt: '2026-11-29T11:59:59Z' }), /it expires at/],
    'without expiry': [change({ expiresAt: undefined }), /expiresAt/],
    'with a time that is none': [change({ finishedAt: 'yesterday' }), /finishedAt/],
    'with a time of another zone': [change({ finishedAt: '2026-11-22T12:00:00+01:00' }), /finishedAt/],
    'with a negative maxAge': [change({ maxAge: -1 }), /maxAge/],
    'with a fraction of a second': [change({ reuseWindow: 0.5 }), /reuseWindow/],
    'with sequence 0': [change({ sequence: 0 }), /sequence/],
    'with a predecessor that is no snapshot': [
      change({ previous: { snapshot: 'x', sha256: 'f'.repeat(64) } }),
      /previous\.snapshot/,
    ],
    'with a predecessor without hash': [change({ previous: { snapshot: older } }), /previous\.sha256/],
    'with a lower-case signer': [change({ signer: 'e'.repeat(40) }), /signer/],
    'without recipients': [change({ recipients: [] }), /recipients/],
    'with a status of its own': [change({ status: 'fine' }), /status/],
    'with a problem of no code': [
      change({ problems: [{ source: 'app', code: 'A b' }] }),
      /problems\.0\.code/,
    ],
    'with a source that is no name': [
      change({ problems: [{ source: '../x', code: 'unreadable' }] }),
      /problems\.0\.source/,
    ],
    'without folders': [change({ folders: [] }), /folders/],
    'with another folder first': [change({ folders: rich.folders.toReversed() }), /folder 0 is not its own/],
    'with a folder that is no snapshot': [
      change({ folders: [...rich.folders, { snapshot: '../..', recipients: [ada] }] }),
      /folders\.2\.snapshot/,
    ],
    'with a folder without recipients': [
      change({ folders: [{ snapshot: rich.snapshot, recipients: [] }] }),
      /folders\.0\.recipients/,
    ],
    'without streams': [change({ streams: [] }), /streams/],
    'with two streams of one name': [change({ streams: [first, first] }), /two streams have one name/],
    'with a stream that leads elsewhere': [changeStream({ name: 'app/../../x' }), /streams\.0\.name/],
    'with a stream of another source': [
      changeStream({ source: 'other' }),
      /stream app\/app\.dump is misnamed/,
    ],
    'with a role of its own': [changeStream({ role: 'x' }), /streams\.0\.role/],
    'with a negative size': [changeStream({ bytes: -1 }), /streams\.0\.bytes/],
    'with a segment in a folder that is not listed': [segment(2), /names a folder that is not listed/],
    'with a segment in a negative folder': [segment(-1), /segments\.0\.0/],
    'with a segment whose id is no id': [segment(0, '../x'), /segments\.0\.1/],
    'with a segment whose size is no number': [segment(0, idOf('x'), '1'), /segments\.0\.2/],
    'with a segment without hash': [segment(0, idOf('x'), 1, undefined), /segments\.0\.3/],
  };
  for (const [what, [bytes, message]] of Object.entries(cases))
    test(what, () => {
      assert.throws(() => parseIndex(bytes, at), { code: 'verify-failed', message });
    });

  test('for no other reason: the same changes of nothing are read', () => {
    assert.deepEqual(parseIndex(change({}), at), rich);
    assert.deepEqual(parseIndex(changeStream({}), at), rich);
    parseIndex(segment(0), at);
  });
});

test('the segments of a stream come in order, with the folder that they lie in', () => {
  assert.deepEqual(
    segmentsOf(rich, rich.streams[0]!).map(({ folder, id }) => [folder, id]),
    [
      [rich.snapshot, idOf('new')],
      [rich.snapshot, idOf('again')],
      [rich.snapshot, idOf('again')],
      [older, idOf('old')],
    ],
  );
});

test('an object that is named twice is counted once', () => {
  assert.equal(objectsOf(rich).length, 4);
  assert.deepEqual(storedSizes(rich), {
    objects: 4,
    newObjects: 3,
    storedBytes: 4 * 4096,
    newBytes: 3 * 4096,
  });
});

test('recipients are equal only if all fingerprints are, in order', () => {
  assert.ok(recipientsEqual([ada, bob], [{ ...ada }, { ...bob }]));
  assert.ok(!recipientsEqual([ada], [ada, bob]));
  assert.ok(!recipientsEqual([ada, bob], [ada]));
  assert.ok(!recipientsEqual([ada], [{ ...ada, subkey: bob.subkey }]));
  assert.ok(!recipientsEqual([ada], [{ ...ada, primary: bob.primary }]));
});
