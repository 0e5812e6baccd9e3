import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, programEnv } from '../support/cli.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';

test('whoever reads --stdout slowly gets every byte', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const content = pseudoRandom(1, 12_345_678);
  const file = put(join(world.dir, 'content'), content);
  const source = { name: 'slow', kind: 'command', argv: ['cat', file], file: 'content' };
  world.setJobs({ j: { schedule: every2h, sources: [source] } });
  assert.equal((await world.run('backup')).status, 0);

  const args = ['-c', world.configFile, '-q', 'restore', '--stdout', '--key', world.key];
  const child = spawn(launcher, args, { env: programEnv(world.dir), stdio: ['ignore', 'pipe', 'inherit'] });
  const read: Buffer[] = [];
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    read.push(chunk);
    await delay(2);
  }
  assert.ok(content.equals(Buffer.concat(read)));
});
