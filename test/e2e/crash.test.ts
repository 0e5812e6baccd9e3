import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readJournals } from '../../src/snapshot/journal.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { every2h, makeWorld, type BackupSummary, type Listing, type World } from '../support/world.ts';

const treeBytes = 24 * 2 ** 20;

/** A world whose one job takes long enough to be struck in the middle. */
async function makeLargeWorld(t: Parameters<typeof makeWorld>[0], name: string): Promise<World> {
  const world = await makeWorld(t, {
    jobs: {
      tree: {
        schedule: every2h,
        sources: [
          { name: 'chat', kind: 'sqlite', path: 'chat.db' },
          { name: 'big', kind: 'files', paths: ['tree'] },
        ],
      },
    },
  });
  mkdirSync(join(world.dir, 'tree'));
  mkdirSync(join(world.dir, 'tmp'));
  using database = new DatabaseSync(join(world.dir, 'chat.db'));
  database.exec('CREATE TABLE message (body BLOB); INSERT INTO message VALUES (randomblob(4000000))');
  change(world, name);
  return world;
}

let changes = 0;
/** New content, so that the next run has everything to do. */
function change(world: World, name: string): void {
  writeFileSync(join(world.dir, 'tree', name), pseudoRandom(++changes, treeBytes));
}

/** Starts a backup and sends it the signal when the moment has come; resolves with its exit status. */
async function strike(
  world: World,
  signal: NodeJS.Signals,
  moment: () => Promise<void>,
): Promise<number | null> {
  const child = spawn(launcher, ['-c', world.configFile, '-q', 'backup'], {
    env: { ...programEnv(world.dir), TMPDIR: join(world.dir, 'tmp') },
    stdio: 'ignore',
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  await Promise.race([moment(), exited]);
  child.kill(signal);
  return (await exited)[0];
}

async function whenStored(world: World, segments: number): Promise<void> {
  while (segmentFiles(world).length < segments) await delay(5);
}

const segmentFiles = (world: World): string[] =>
  readdirSync(join(world.dir, 'store'), { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.zst.gpg'),
  );

test('ten SIGKILLs at random moments leave list and restore working, and the next run adopts what was there', async (t) => {
  const world = await makeLargeWorld(t, 'blob');
  const { snapshots: first } = await world.json<BackupSummary>('backup');
  change(world, 'blob');
  const uninterrupted = await world.json<BackupSummary>('backup');
  const { newSegments: needed } = uninterrupted.snapshots[0]!;
  assert.ok(needed > 15, 'the change is large enough to be struck in');

  let adopted = 0;
  const sums = { left: 0, recorded: 0 };
  for (let round = 0; round < 10; round++) {
    change(world, 'blob');
    const before = segmentFiles(world).length;
    // By what is stored, not by time, so that every machine is struck in the middle.
    const after = Math.floor(Math.random() * needed);
    await strike(world, 'SIGKILL', () => whenStored(world, before + after));
    const journals = await readJournals(join(world.dir, 'state', 'journal'));
    const recorded = journals.reduce((sum, run) => sum + run.segments.length, 0);
    // A run that came to its end has forgotten its journal.
    if (journals.length > 0) {
      sums.left += segmentFiles(world).length - before;
      sums.recorded += recorded;
    }

    const { snapshots } = await world.json<Listing>('list');
    assert.ok(snapshots.length >= 2);
    const verified = await world.run('verify', '--all');
    assert.equal(verified.status, 0, `killed after ${after} segments: ${verified.stdout}${verified.stderr}`);
    const out = join(world.dir, `out${round}`);
    const restored = await world.run('restore', 'latest', '--to', out, '--key', world.key);
    assert.equal(restored.status, 0, restored.stderr);

    const { snapshots: next } = await world.json<BackupSummary>('backup');
    const { segments, newSegments, status } = next[0]!;
    assert.equal(status, 'complete');
    // All that the killed run had put is not written again, but for what its journal had no time to record and, if it
    // came that far, its details.
    assert.ok(
      newSegments <= segments - (recorded - 1),
      `recorded ${recorded}, wrote ${newSegments} of ${segments}`,
    );
    if (recorded > 1) adopted++;
  }
  t.diagnostic(`${adopted} of 10 runs left segments that were adopted`);
  assert.ok(sums.recorded > sums.left / 2, `left ${sums.left}, recorded ${sums.recorded}`);
  assert.ok(adopted > 0, 'at least one of the ten kills left segments');
  assert.equal((await world.run('verify', '--all', '--read-data')).status, 0);
  const out = join(world.dir, 'last');
  assert.equal((await world.run('restore', 'latest', '--to', out, '--key', world.key)).status, 0);
  assert.deepEqual(
    readFileSync(join(out, 'big', world.dir.slice(1), 'tree', 'blob')).equals(
      readFileSync(join(world.dir, 'tree', 'blob')),
    ),
    true,
  );
  assert.equal(first.length, 1);
});

test('Ctrl-C ends a backup with 130, commits nothing and leaves no temporary file', async (t) => {
  const world = await makeLargeWorld(t, 'blob');
  await world.json('backup');
  const committed = (await world.json<Listing>('list')).snapshots.length;
  for (const afterMs of [100, 400, 700, 1000]) {
    change(world, 'blob');
    const before = (await world.json<Listing>('list')).snapshots.length;
    const status = await strike(world, 'SIGINT', () => delay(afterMs));
    const after = (await world.json<Listing>('list')).snapshots.length;
    assert.ok(status === 130 || status === 0 || status === null, `status ${status}`);
    assert.equal(after - before, status === 0 ? 1 : 0);
    const drafts = readdirSync(join(world.dir, 'store'), { recursive: true, encoding: 'utf8' }).filter(
      (path) => /\.tmp\/./.test(path),
    );
    assert.deepEqual(drafts, []);
    assert.deepEqual(readdirSync(join(world.dir, 'tmp')), [], 'the copy of the database is gone');
  }
  assert.ok(committed >= 1);
  assert.equal((await world.run('backup')).status, 0);
});

test('two runs of one job at a time: the second ends with 11 and the first is not disturbed', async (t) => {
  const world = await makeLargeWorld(t, 'blob');
  const [a, b] = await Promise.all([world.start('backup'), world.start('backup')]);
  assert.deepEqual(new Set([a.status, b.status]), new Set([0, 11]));
  const second = a.status === 11 ? a : b;
  assert.match(second.stderr, /another run of job tree on this host is active/);
  assert.equal((await world.json<Listing>('list')).snapshots.length, 1);
});

const jobOf = (shell: string): object => ({
  j: { schedule: every2h, sources: [{ name: 'it', kind: 'command', shell }] },
});

test('an index that arrives while the next run is at work is that of its predecessor', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  world.setJobs(jobOf('echo a'));
  const first = (await world.json<BackupSummary>('backup')).snapshots[0]!.snapshot;
  // As of a run that was broken off while the store took it.
  const index = join(world.dir, 'store/h1/snap', first, 'index.json.gpg');
  const late = join(world.dir, 'late');
  renameSync(index, late);
  rmSync(join(world.dir, 'state/sequence'), { recursive: true });
  mkdirSync(join(world.dir, 'state/sequence'));
  world.setJobs(jobOf(`mv ${late} ${index}; echo b`));
  const second = (await world.json<BackupSummary>('backup')).snapshots[0]!.snapshot;
  const shown = await world.json<{ sequence: number; previous: { snapshot: string } }>('show', second);
  assert.deepEqual([shown.sequence, shown.previous.snapshot], [2, first]);
});
