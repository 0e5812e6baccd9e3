import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import type { Context } from '../../src/commands/context.ts';
import { restoreTo } from '../../src/commands/restore-to.ts';
import type { RestoreItem } from '../../src/commands/restore.ts';
import { DamagedSegment } from '../../src/segments/reader.ts';
import { TreePart } from '../../src/sources/tree-part.ts';
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
