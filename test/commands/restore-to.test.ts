import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Context } from '../../src/commands/context.ts';
import { restoreTo } from '../../src/commands/restore-to.ts';
import type { RestoreItem } from '../../src/commands/restore.ts';
import { temporary } from '../support/temporary.ts';

test('a stream comes back under the longest name that it can have', async (t) => {
  const file = `${'%E6'.repeat(82)}a.sql`;
  assert.equal(file.length, 251);
  const item: RestoreItem = {
    job: 'j',
    snapshot: 's',
    name: `web/${file}`,
    source: 'web',
    kind: 'mysql',
    bytes: 4,
    open: async function* () {
      yield Buffer.from('dump');
    },
    find: async () => undefined,
    around: () => Promise.reject(new Error('no tree')),
  };
  const context = { signal: t.signal, environment: { isRoot: false }, log: { debug: () => {} } };
  const target = join(temporary(t), 'back');
  const how = { force: false, setuid: false, access: [], closed: [] };
  const report = await restoreTo(context as unknown as Context, target, [item], how);
  assert.equal(report.files, 1);
  assert.deepEqual(readdirSync(join(target, 'web')), [file]);
  assert.equal(readFileSync(join(target, 'web', file), 'utf8'), 'dump');
});
