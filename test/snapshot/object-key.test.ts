import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  detailsStream,
  formatKey,
  formatSnapshotId,
  formatStreamName,
  keysFolder,
  parseKey,
  parseSnapshotId,
  parseStreamName,
  randomTag,
  segmentsFolder,
  snapshotFolder,
  snapshotsFolder,
  type ObjectKey,
} from '../../src/snapshot/object-key.ts';

const textOf = (alphabet: string, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...alphabet.split('')), minLength, maxLength });
const plainRecord = { noNullPrototype: true } as const;
const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';
const name = fc.tuple(textOf(letters, 1, 1), textOf(`${letters}-`, 0, 40)).map((parts) => parts.join(''));
const second = fc
  .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true })
  .map((date) => new Date(Math.floor(date.getTime() / 1000) * 1000));
const snapshotId = fc.record(
  { startedAt: second, job: name, random: textOf('abcdefghijklmnopqrstuvwxyz234567', 6, 6) },
  plainRecord,
);
const hex = (length: number): fc.Arbitrary<string> => textOf('0123456789abcdef', length, length);
const fingerprint = fc.oneof(hex(40), hex(64)).map((text) => text.toUpperCase());
const snapshot = snapshotId.map(formatSnapshotId);
const objectKey: fc.Arbitrary<ObjectKey> = fc.oneof(
  fc.record({ type: fc.constant('host-key' as const), host: name, fingerprint }, plainRecord),
  fc.record({ type: fc.constant('guide' as const), host: name }, plainRecord),
  fc.record({ type: fc.constant('segment' as const), host: name, snapshot, id: hex(32) }, plainRecord),
  fc.record({ type: fc.constant('index' as const), host: name, snapshot }, plainRecord),
);

test('every key is parsed to what it was built from', () => {
  fc.assert(fc.property(objectKey, (key) => assert.deepEqual(parseKey(formatKey(key)), key)));
});

test('every snapshot id is parsed to what it was built from', () => {
  fc.assert(fc.property(snapshotId, (id) => assert.deepEqual(parseSnapshotId(formatSnapshotId(id)), id)));
});

test('whatever is parsed at all is built back to the same text', () => {
  const id = '20261122T120000Z-databases-k3f7qz';
  const near = fc.tuple(objectKey.map(formatKey), fc.nat(200), fc.string({ maxLength: 2 }));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        near.map(([key, at, text]) => key.slice(0, at) + text + key.slice(at + 1)),
      ),
      (text) => {
        const key = parseKey(text);
        if (key) assert.equal(formatKey(key), text);
      },
    ),
    { numRuns: 2000 },
  );
  assert.deepEqual(parseKey(`web/snap/${id}/index.json.gpg`), { type: 'index', host: 'web', snapshot: id });
});

const snap = 'web/snap/20261122T120000Z-databases-k3f7qz';
const id = '0123456789abcdef0123456789abcdef';

test('the keys of format 1 are written as documented', () => {
  const parts = { host: 'web', snapshot: '20261122T120000Z-databases-k3f7qz' };
  assert.equal(formatKey({ type: 'segment', ...parts, id }), `${snap}/s/${id}.zst.gpg`);
  assert.equal(formatKey({ type: 'index', ...parts }), `${snap}/index.json.gpg`);
  assert.equal(formatKey({ type: 'guide', host: 'web' }), 'web/RESTORE.md');
  assert.equal(formatKey({ type: 'host-key', host: 'web', fingerprint: 'AB' }), 'web/keys/AB.asc');
  assert.equal(keysFolder('web'), 'web/keys/');
  assert.equal(snapshotsFolder('web'), 'web/snap/');
  assert.equal(snapshotFolder('web', parts.snapshot), `${snap}/`);
  assert.equal(segmentsFolder('web', parts.snapshot), `${snap}/s/`);
});

test('near misses are not ours', () => {
  assert.ok(
    parseKey(`${snap}/s/${id}.zst.gpg`) && parseKey(`${snap}/index.json.gpg`) && parseKey('web/RESTORE.md'),
  );
  const misses = [
    '',
    '/',
    'web',
    'web/',
    '/web/RESTORE.md',
    'web//RESTORE.md',
    'web/RESTORE.md/',
    'web/restore.md',
    'web/RESTORE.md.bak',
    'Web/RESTORE.md',
    '-web/RESTORE.md',
    'we_b/RESTORE.md',
    `${'a'.repeat(42)}/RESTORE.md`,
    '../RESTORE.md',
    './RESTORE.md',
    `${snap}/index.json`,
    `${snap}/index.json.gpg/`,
    `${snap}/index.json.gpg.tmp`,
    `${snap}/s/index.json.gpg`,
    `${snap}//index.json.gpg`,
    `${snap}/s/${id}`,
    `${snap}/s/${id}.gpg`,
    `${snap}/s/${id.toUpperCase()}.zst.gpg`,
    `${snap}/s/${id}0.zst.gpg`,
    `${snap}/s/${id.slice(1)}.zst.gpg`,
    `${snap}/s/${id}.zst.gpg/x`,
    `${snap}/t/${id}.zst.gpg`,
    `${snap}/${id}.zst.gpg`,
    `${snap}/s/`,
    `${snap}/`,
    `${snap}/s/${id}.zst.gpg\n`,
    `x/${snap}/index.json.gpg`,
    `${snap.replace('snap', 'Snap')}/index.json.gpg`,
    `web/keys/${'a'.repeat(40)}.asc`,
    `web/keys/${'A'.repeat(39)}.asc`,
    `web/keys/${'A'.repeat(41)}.asc`,
    `web/keys/${'A'.repeat(40)}.gpg`,
    `web/keys/x/${'A'.repeat(40)}.asc`,
  ];
  for (const key of misses) assert.equal(parseKey(key), undefined, JSON.stringify(key));
});

test('times that do not exist and tags of other letters are no snapshot ids', () => {
  const valid = '20260228T235959Z-db-abc237';
  assert.ok(parseSnapshotId(valid));
  const misses = [
    '20260229T000000Z-db-abc237',
    '20261301T000000Z-db-abc237',
    '20260001T000000Z-db-abc237',
    '20260131T240000Z-db-abc237',
    '20260131T236000Z-db-abc237',
    '20260131T235960Z-db-abc237',
    '20260228T235959-db-abc237',
    '2026-02-28T23:59:59Z-db-abc237',
    '20260228T235959Z-db-abc231',
    '20260228T235959Z-db-ABC237',
    '20260228T235959Z-db-abc23',
    '20260228T235959Z-abc237',
    '20260228T235959Z--abc237',
    '20260228T235959Z-DB-abc237',
    ` ${valid}`,
    `${valid} `,
    `${valid}\n`,
  ];
  for (const id of misses) assert.equal(parseSnapshotId(id), undefined, id);
});

test('a job may have dashes, and what looks like a tag, in its name', () => {
  const parsed = parseSnapshotId('20260228T235959Z-my-db-abc237-zzzzzz');
  assert.equal(parsed?.job, 'my-db-abc237');
  assert.equal(parsed?.random, 'zzzzzz');
});

test('tags are six of the letters and differ', () => {
  const tags = Array.from({ length: 200 }, randomTag);
  for (const tag of tags) assert.match(tag, /^[a-z2-7]{6}$/);
  assert.equal(new Set(tags).size, 200);
});

test('a stream is a source and a file, and nothing that leads elsewhere', () => {
  for (const [source, file] of [
    ['xmpp', 'ejabberd.dump'],
    ['x', 'a%20b%2Fc.dump'],
    ['web', '_x-1.tar'],
  ] as const)
    assert.deepEqual(parseStreamName(formatStreamName(source, file)), { source, file });
  assert.deepEqual(parseStreamName(detailsStream), { source: '_', file: 'details.jsonl' });
  for (const name of [
    '',
    'a',
    'a/',
    '/a',
    'a/b/c',
    'a/.b',
    'a/..',
    '../a',
    'A/b',
    'a/b c',
    'a/ü',
    '__/a',
    'a/b\n',
    `a/${'b'.repeat(252)}`,
  ])
    assert.equal(parseStreamName(name), undefined, JSON.stringify(name));
});
