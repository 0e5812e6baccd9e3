import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { every2h, makeWorld, type BackupSummary } from '../support/world.ts';

test('a stream that lost more than half since the last snapshot is reported loudly, once', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const tree = join(world.dir, 'tree');
  mkdirSync(tree);
  world.setJobs({ j: { schedule: every2h, sources: [{ name: 's', kind: 'files', paths: [tree] }] } });
  const backUp = async (sizeBytes: number) => {
    writeFileSync(join(tree, 'f'), randomBytes(sizeBytes));
    const { status, stdout, stderr } = await world.run('backup', '--json');
    assert.equal(status, 0, stderr);
    const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as BackupSummary;
    return { problems: snapshots[0]!.problems, stderr };
  };
  assert.deepEqual((await backUp(1_000_000)).problems, []);
  assert.deepEqual((await backUp(600_000)).problems, [], 'more than half is left');

  const { problems, stderr } = await backUp(200_000);
  assert.deepEqual(
    problems.map(({ source, code }) => [source, code]),
    [['s', 'shrank']],
  );
  assert.match(
    problems[0]!.text,
    /^s\/files\.tar has shrunk to 200 KiB; in the last snapshot it had 592 KiB/,
  );
  assert.match(stderr, /s\/files\.tar has shrunk/);
  assert.deepEqual((await backUp(200_000)).problems, [], 'it is measured against the last snapshot');
});
