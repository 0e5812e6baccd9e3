import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { pack } from 'tar-stream';
import type { Context } from '../../src/commands/context.ts';
import { restoreTo } from '../../src/commands/restore-to.ts';
import type { RestoreItem } from '../../src/commands/restore.ts';
import { SealiftError } from '../../src/errors.ts';
import { DamagedSegment } from '../../src/segments/reader.ts';
import { TreePart } from '../../src/sources/tree-part.ts';
import { collect } from '../support/bytes.ts';
import { temporary } from '../support/temporary.ts';

const context = (t: TestContext): Context =>
  ({ signal: t.signal, environment: { isRoot: false }, log: { debug: () => {} } }) as unknown as Context;
const how = { force: false, setuid: false, access: [], closed: [] };

test('a stream comes back under the longest name that it can have', async (t) => {
  const file = `${'%E6'.repeat(82)}a.sql`;
  assert.equal(file.length, 251);
  const item: RestoreItem = {
    job: 'j',
    snapshot: 's',
    name: `web/${file}`,
    source: 'web',
    file,
    kind: 'mysql',
    bytes: 4,
    open: async function* () {
      yield Buffer.from('dump');
    },
    find: async () => undefined,
    around: () => Promise.reject(new Error('no tree')),
  };
  const target = join(temporary(t), 'back');
  const report = await restoreTo(context(t), target, [item], how);
  assert.equal(report.files, 1);
  assert.deepEqual(readdirSync(join(target, 'web')), [file]);
  assert.equal(readFileSync(join(target, 'web', file), 'utf8'), 'dump');
});

test('of a tree, however many files are lost, all are named', async (t) => {
  const segment = { folder: 'f', id: 'i', storedBytes: 1, sha256: '' };
  const lost = Array.from({ length: 300_000 }, (_, number) => `${number}`);
  const item: RestoreItem = {
    job: 'j',
    snapshot: 's',
    name: 'etc/files.tar',
    source: 'etc',
    file: 'files.tar',
    kind: 'files',
    bytes: 4,
    // oxlint-disable-next-line require-yield
    open: async function* () {
      throw new DamagedSegment(segment, 'lost');
    },
    find: async () => undefined,
    around: async () => ({ part: new TreePart([], []), lost, body: Readable.from([]) }),
  };
  const { damaged } = await restoreTo(context(t), join(temporary(t), 'back'), [item], how);
  assert.equal(damaged?.length, 1 + lost.length);
});

test('a stream or tree that is not as it was saved keeps no other from coming back', async (t) => {
  const nothing = { find: async () => undefined, around: () => Promise.reject(new Error('no part')) };
  const item = (source: string, kind: string, bytes: Uint8Array, isWhole: boolean): RestoreItem => ({
    ...nothing,
    job: 'j',
    snapshot: 's',
    name: `${source}/out`,
    source,
    file: 'out',
    kind,
    bytes: bytes.length,
    open: async function* () {
      yield bytes;
      if (!isWhole) throw new SealiftError('verify-failed', `${source} did not come back as it was`);
    },
  });
  const packer = pack();
  packer.entry({ name: 'file' }, 'content');
  packer.finalize();
  const tar = await collect(packer as AsyncIterable<Uint8Array>);
  const target = join(temporary(t), 'back');
  const items = [
    item('dump', 'mysql', Buffer.from('wrong'), false),
    item('tree', 'files', tar, false),
    item('rubbish', 'files', Buffer.alloc(2000, 'x'), true),
    item('good', 'mysql', Buffer.from('dump'), true),
  ];
  const lacks = 'may lack files, and lacks its symlinks and the attributes of its folders';
  const { damaged, restored, bytes } = await restoreTo(context(t), target, items, how);
  assert.deepEqual(damaged, [
    'dump did not come back as it was',
    `${target}/tree/ ${lacks}: tree did not come back as it was`,
    `${target}/rubbish/ ${lacks}: The archive is damaged: Invalid tar header. Maybe the tar is corrupted or it needs to be gunzipped?`,
  ]);
  assert.deepEqual([restored.length, bytes], [1, 4]);
  assert.deepEqual(readdirSync(join(target, 'dump')), []);
  assert.equal(readFileSync(join(target, 'good/out'), 'utf8'), 'dump');
});
