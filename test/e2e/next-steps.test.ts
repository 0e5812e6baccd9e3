import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { launcher, programEnv } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';

test('the steps that a restore leaves do what they say as they stand there', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const [config, data] = [join(world.dir, 'etc/prosody'), join(world.dir, 'lib/prosody')];
  for (const folder of [config, data]) mkdirSync(folder, { recursive: true });
  put(join(config, 'prosody.cfg.lua'), 'VirtualHost "example.org"');
  put(join(data, 'roster.dat'), 'return {}');
  world.setJobs({
    chat: { schedule: every2h, sources: [{ name: 'prosody', kind: 'prosody', config, data }] },
  });
  await world.json('backup');

  const told = await world.run('restore', '--to', join(world.dir, 'back'), '--key', world.key);
  assert.equal(told.status, 0, told.stderr);
  for (const folder of [config, data]) rmSync(folder, { recursive: true });
  const steps = told.stdout.split('\n').filter((line) => line.startsWith('  '));
  assert.equal(steps.length, 1, told.stdout);
  const script = `set -euo pipefail; sealift() { ${launcher} "$@"; }\n${steps.join('\n')}`;
  const done = spawnSync('bash', ['-c', script], { env: programEnv(world.dir), cwd: '/', encoding: 'utf8' });
  assert.equal(done.status, 0, done.stderr);
  assert.equal(readFileSync(join(config, 'prosody.cfg.lua'), 'utf8'), 'VirtualHost "example.org"');
  assert.equal(readFileSync(join(data, 'roster.dat'), 'utf8'), 'return {}');
});
