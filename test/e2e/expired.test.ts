import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { madeDaysAgo } from '../support/aged.ts';
import type { Listing } from '../support/world.ts';
import { backup, hostWithSnapshot, refuses } from './bad-input.ts';

test('an expired snapshot is passed over by latest, and refused by its id without --expired', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const old = await madeDaysAgo(world, id, 8);
  const { snapshots } = await world.json<Listing>('list');
  assert.deepEqual(
    snapshots.map(({ snapshot, status }) => [snapshot, status]),
    [[old, 'expired']],
  );

  const restore = (wanted: string, to: string) => [
    'restore',
    wanted,
    '--to',
    join(world.dir, to),
    '--key',
    world.key,
  ];
  const expired = {
    exit: 2,
    code: 'snapshot-expired',
    says: new RegExp(`${old} expired at \\S+Z`),
    hint: /--expired/,
  };
  await refuses(world, restore(old, 'a'), expired);
  const nothing = { exit: 10, code: 'snapshot-not-found', says: /h1 has no snapshot that could be restored/ };
  await refuses(world, restore('latest', 'a'), nothing);
  await world.json(...restore(old, 'b'), '--expired');
  assert.deepEqual(readdirSync(join(world.dir, 'b')), ['tree']);

  const young = await backup(world);
  await world.json(...restore('latest', 'c'));
  const { snapshots: both } = await world.json<Listing>('list');
  assert.deepEqual(
    both.map(({ snapshot, status }) => [snapshot, status]),
    [
      [young, 'complete'],
      [old, 'expired'],
    ],
  );
});

test('a snapshot that is dated in the future does not count, and is reported', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const future = await madeDaysAgo(world, id, -2);
  const listed = await world.run('list', '--json');
  assert.equal(listed.status, 3);
  assert.match(listed.stderr, new RegExp(`${future} is dated in the future`));
  assert.deepEqual((JSON.parse(listed.stdout) as Listing).snapshots, []);
  assert.equal((await world.run('verify', '--all')).status, 21);

  await backup(world);
  const to = ['--to', join(world.dir, 'd'), '--key', world.key];
  const restored = await world.run('restore', 'latest', ...to);
  assert.equal(restored.status, 0, restored.stderr);
});
