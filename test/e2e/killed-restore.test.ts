import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';

test('what a restore that was killed left in its target goes with the next one, which may come at once', async (t) => {
  const sources = [
    { name: 'dump', kind: 'command', argv: ['cat', 'blob'], cwd: '.', file: 'dump' },
    { name: 'tree', kind: 'files', paths: ['tree'] },
  ];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  const blob = pseudoRandom(1, 48 * 2 ** 20);
  put(join(world.dir, 'blob'), blob);
  mkdirSync(join(world.dir, 'tree/folder'), { recursive: true });
  put(join(world.dir, 'tree/folder/blob'), blob);
  await world.json('backup');
  const out = join(world.dir, 'out');
  const restore = ['restore', '--force', '--to', out, '--key', world.key];
  const names = (): string[] =>
    existsSync(out) ? readdirSync(out, { recursive: true, encoding: 'utf8' }) : [];
  const drafts = (): string[] => names().filter((name) => basename(name).startsWith('.sealift-'));

  for (const source of ['dump', 'tree']) {
    const isLeft = () => drafts().some((name) => name.startsWith(`${source}/`));
    for (let tries = 0; tries < 10 && !isLeft(); tries++) {
      const args = ['-c', world.configFile, ...restore, '--source', source];
      await killed(args, programEnv(world.dir), isLeft);
    }
    assert.ok(isLeft(), `no restore of ${source} was killed in time`);
  }
  // As another tool may call its own.
  put(join(out, 'dump/.sealift-mine'), '');

  const restored = await world.run(...restore);
  assert.equal(restored.status, 0, restored.stderr);
  assert.deepEqual(drafts(), ['dump/.sealift-mine']);
  for (const name of ['dump/dump', join('tree', world.dir, 'tree/folder/blob')])
    assert.ok(readFileSync(join(out, name)).equals(blob), name);
});

test('so does what it left beside a database', async (t) => {
  const sources = [{ name: 'db', kind: 'sqlite', path: 'db' }];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  using db = new DatabaseSync(join(world.dir, 'db'));
  db.exec('CREATE TABLE t (b)');
  db.prepare('INSERT INTO t VALUES (?)').run(pseudoRandom(1, 48 * 2 ** 20));
  await world.json('backup');
  mkdirSync(join(world.dir, 'place'));
  const into = join(world.dir, 'place/db');
  const restore = ['restore', '--into', into, '--key', world.key];
  const isLeft = () => readdirSync(join(world.dir, 'place')).some((name) => name !== 'db');
  for (let tries = 0; tries < 10 && !isLeft(); tries++) {
    rmSync(into, { force: true });
    await killed(['-c', world.configFile, ...restore], programEnv(world.dir), isLeft);
  }
  assert.ok(isLeft(), 'no restore was killed in time');
  const restored = await world.run(...restore);
  assert.equal(restored.status, 0, restored.stderr);
  assert.deepEqual(readdirSync(join(world.dir, 'place')), ['db']);
});

/** Runs the program and kills it as soon as this is so, unless it ends before. */
async function killed(args: readonly string[], env: NodeJS.ProcessEnv, when: () => boolean): Promise<void> {
  const child = spawn(launcher, args, { env, stdio: 'ignore' });
  const ended = once(child, 'exit');
  while (!when() && child.exitCode === null) await delay(1);
  child.kill('SIGKILL');
  await ended;
}
