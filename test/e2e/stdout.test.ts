import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, programEnv } from '../support/cli.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld, type Listing, type World } from '../support/world.ts';

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

/** Runs the program by bash, as this line says it. */
function byShell(world: World, line: string): { status: number | null; stderr: string } {
  const script = `sealift() { ${launcher} -c ${world.configFile} "$@"; }; ${line}`;
  return spawnSync('bash', ['-c', script], { env: programEnv(world.dir), encoding: 'utf8' });
}

test('where standard output cannot be written, all is done that does not need it, and it is said', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const sources = [{ name: 'it', kind: 'command', argv: ['seq', '1000000'] }];
  world.setJobs({ a: { schedule: every2h, sources }, b: { schedule: every2h, sources } });
  for (const backup of ['sealift backup', 'sealift --json backup']) {
    const { status, stderr } = byShell(world, `${backup} > /dev/full`);
    assert.equal(status, 1);
    assert.match(stderr, /^error: standard output cannot be written: .*ENOSPC/m);
    assert.doesNotMatch(stderr, /^ +at /m);
  }
  const { snapshots } = await world.json<Listing>('list');
  assert.deepEqual(snapshots.map(({ job }) => job).toSorted(), ['a', 'a', 'b', 'b']);

  const restored = byShell(world, `sealift restore --job a --stdout --key ${world.key} > /dev/full`);
  assert.equal(restored.status, 1);
  assert.match(restored.stderr, /^error: no space left for standard output\n/m);
});

test('a restore to a pipe that nobody reads ends with the first signal', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const source = { name: 'it', kind: 'command', argv: ['seq', '2000000'] };
  world.setJobs({ j: { schedule: every2h, sources: [source] } });
  await world.json('backup');
  const args = ['-c', world.configFile, '-q', 'restore', '--stdout', '--key', world.key];
  const child = spawn(launcher, args, { env: programEnv(world.dir), stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'readable');
  child.kill('SIGTERM');
  const exit = once(child, 'exit') as Promise<[number | null]>;
  const [status] = await Promise.race([exit, delay(5000, ['still there'])]);
  assert.equal(status, 130);
});
