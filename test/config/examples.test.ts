import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { put, temporary } from '../support/temporary.ts';

const repository = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(repository, path), 'utf8');

for (const example of readdirSync(join(repository, 'examples')).filter((name) => name.endsWith('.yaml')))
  test(`examples/${example} is a valid configuration, with what stands in its comments too`, (t) => {
    const folder = temporary(t);
    const text = read(`examples/${example}`);
    const jobsOf = (yaml: string) =>
      loadConfig(put(join(folder, 'sealift.yaml'), yaml), environment({ HOME: folder }, folder)).jobs;
    assert.ok(jobsOf(text).length > 0);
    const other = text.replace(/^ *database:.*\n/m, '').replace('# database:', 'database:');
    assert.notDeepEqual(jobsOf(other), jobsOf(text));
  });

test('the example in the README is the one that is shipped', () => {
  assert.ok(read('README.md').includes(`\`\`\`yaml\n${read('examples/prosody.yaml')}\`\`\`\n`));
});
