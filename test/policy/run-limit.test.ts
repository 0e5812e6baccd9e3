import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { every2h, makeWorld } from '../support/world.ts';

test('a backup runs with any maxAge, also where the run limit is longer than a timer of Node can be', async (t) => {
  for (const maxAge of ['50d', '60d', '3650d']) {
    const world = await makeWorld(t, { jobs: {}, settings: { retention: { maxAge } } });
    const tree = join(world.dir, 'tree');
    mkdirSync(tree);
    writeFileSync(join(tree, 'file'), 'content');
    world.setJobs({
      files: { schedule: every2h, sources: [{ name: 'tree', kind: 'files', paths: [tree] }] },
    });
    const { status, stdout, stderr } = await world.run('backup');
    assert.equal(status, 0, `maxAge ${maxAge}: ${stdout}${stderr}`);
  }
});
