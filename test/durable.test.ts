import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeNew } from '../src/durable.ts';
import { temporary } from './support/temporary.ts';

test('a new file is made where there are no hard links, too, and replaces none', async (t) => {
  // As FAT and exFAT say, which USB sticks have.
  t.mock.method(files, 'link', async () => {
    throw Object.assign(new Error('operation not permitted, link'), { code: 'EPERM' });
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  const folder = temporary(t);
  const path = join(folder, 'op.key.asc');
  await writeNew(path, 'first', 0o600);
  await assert.rejects(writeNew(path, 'second', 0o600), { code: 'target-exists' });
  assert.equal(readFileSync(path, 'utf8'), 'first');
  assert.deepEqual(readdirSync(folder), ['op.key.asc']);
});
