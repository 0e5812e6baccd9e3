import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setInterval } from 'node:timers/promises';
import { every2h, makeWorld, type BackupSummary } from '../support/world.ts';
import { assertRefusal } from './bad-input.ts';

test('a run is aborted at its limit, while it waits for its source, and leaves no snapshot', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const pidFile = join(world.dir, 'pid');
  writeFileSync(join(world.dir, 'file'), 'x'.repeat(100_000));
  const sources = [
    { name: 'quick', kind: 'files', paths: [join(world.dir, 'file')] },
    { name: 'slow', kind: 'command', shell: `echo $$ >${pidFile}; exec sleep 1000`, timeLimit: 0 },
  ];
  world.setJobs({ j: { schedule: every2h, sources } });

  // Of timers only those that fire once: what polls below goes on in real time.
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const failed = world.run('backup', '--json');
  for await (const _ of setInterval(50)) if (existsSync(pidFile)) break;
  const limitMs = ((7 * 24 - 26) / 2 - 1) * 3_600_000;
  t.mock.timers.tick(limitMs - 1000);
  for await (const _ of setInterval(200)) break;
  assert.ok(existsSync(`/proc/${readFileSync(pidFile, 'utf8').trim()}`), 'not a second before');
  t.mock.timers.tick(2000);
  const result = await failed;
  t.mock.timers.reset();
  assertRefusal(result, {
    exit: 1,
    code: 'run-limit',
    says: /job j ran longer than 70 hours and was aborted/,
  });
  assert.ok(!existsSync(`/proc/${readFileSync(pidFile, 'utf8').trim()}`), 'its program has ended');
  const [snapshot = '', ...more] = readdirSync(join(world.dir, 'store/h1/snap'));
  assert.deepEqual(
    [more, existsSync(join(world.dir, 'store/h1/snap', snapshot, 'index.json.gpg'))],
    [[], false],
  );

  world.setJobs({ j: { schedule: every2h, sources: sources.slice(0, 1) } });
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.equal(snapshots[0]?.newSegments, 1, 'the details: what the aborted run stored is adopted');
});
