import { ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { startOf } from '../../src/snapshot/object-key.ts';
import { needs } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { bucketStore, every2h, makeWorld, type BackupSummary, type Listing } from '../support/world.ts';
import { movingClock } from './shifted-clock.ts';

const dayMs = 86_400_000;

/**
 * A host with a snapshot each day and a half for a week; what the first named is renewed since. Three seconds before that
 * one ends a command begins, and when it asks for something that matches, a prune three seconds after the end goes before it.
 */
async function endingMeanwhile(t: TestContext, asked: RegExp) {
  let prune: (() => Promise<void>) | undefined;
  const clock = await movingClock(t, 0, async (method, path) => {
    if (method !== 'GET' || !asked.test(path)) return;
    const now = prune;
    prune = undefined;
    await now?.();
  });
  const { store } = await bucketStore();
  const world = await makeWorld(t, { store: { ...store, endpoint: clock.endpoint }, jobs: {} });
  const file = join(world.dir, 'file');
  world.setJobs({ j: { schedule: '0 0 */2 * *', sources: [{ name: 's', kind: 'files', paths: [file] }] } });
  const commands = world.at(clock.now);
  const startedMs = Date.now();
  const made: string[] = [];
  for (let day = 0; day < 7; day += 1.5) {
    clock.moveTo(new Date(startedMs + day * dayMs));
    writeFileSync(file, pseudoRandom(day + 1, 1000));
    made.push((await commands.json<BackupSummary>('backup')).snapshots[0]!.snapshot);
  }
  const endMs = startOf(made[0]!) + 7 * dayMs;
  clock.moveTo(new Date(endMs - 3000));
  prune = async () => {
    clock.moveTo(new Date(endMs + 3000));
    const { snapshots } = await commands.json<{ snapshots: { snapshot: string }[] }>('prune');
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [made[0]],
    );
  };
  return { commands, pruned: () => prune === undefined, key: world.key, dir: join(world.dir, 'out') };
}

test('who restores a snapshot that ends soon is told', needs('s3'), async (t) => {
  const { commands, pruned, key, dir } = await endingMeanwhile(t, /zst/);
  const oldest = (await commands.json<Listing>('list')).snapshots.at(-1)!.snapshot;
  const { status, stderr } = await commands.run('restore', oldest, '--key', key, '--to', dir);
  assert.deepEqual([status, pruned()], [21, true]);
  assert.match(stderr, new RegExp(`${oldest} ends at \\S+Z and is deleted then`));
});

suite(
  'a snapshot that ends and is pruned meanwhile is no alarm:',
  { ...needs('s3'), concurrency: true },
  () => {
    for (const [command, asked] of [
      ['verify --all --read-data', /zst/],
      ['verify --all', /(?=.*list-type).*h1/],
      ['audit', /(?=.*[?&]versions).*h1/],
      ['prune', /(?=.*[?&]versions).*h1/],
    ] as const)
      test(command, async (t) => {
        const { commands, pruned } = await endingMeanwhile(t, asked);
        const { status, stdout } = await commands.run(...command.split(' '));
        assert.ok(pruned());
        assert.equal(status, 0, stdout);
      });
  },
);

test('a time that the store tells later, and that is wrong, hides nothing', needs('s3'), async (t) => {
  let asked = 0;
  const endpoint = await s3Proxy(t, async (exchange) => {
    const answer = await exchange.ask();
    const isLater = /max-keys=1(&|$)/.test(exchange.path) && ++asked > 1;
    const date = new Date(Date.now() + 8 * dayMs).toUTCString();
    exchange.answer(isLater ? { ...answer, headers: { ...answer.headers, date } } : answer);
  });
  const { store, bucket, client } = await bucketStore();
  const world = await makeWorld(t, { store: { ...store, endpoint }, jobs: {} });
  const file = join(world.dir, 'file');
  world.setJobs({ j: { schedule: every2h, sources: [{ name: 's', kind: 'files', paths: [file] }] } });
  for (const seed of [1, 2]) {
    writeFileSync(file, pseudoRandom(seed, 1000));
    asked = -Infinity;
    await world.json('backup');
  }
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket }));
  const damage = async (end: string): Promise<void> => {
    for (const { Key = '', Size = 0 } of Contents)
      if (Key.endsWith(end))
        await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.alloc(Size, 7) }));
  };
  const statusOf = async (...args: string[]): Promise<number | null> => {
    asked = 0;
    return (await world.run(...args)).status;
  };
  await damage('.zst.gpg');
  assert.equal(await statusOf('verify', '--all', '--read-data'), 21);
  assert.equal(await statusOf('verify', '--all', '--read-data', '--key', world.key), 21);
  await damage('index.json.gpg');
  asked = -1; // it asks twice, and holds both answers against the local clock
  assert.equal((await world.run('prune')).status, 3);
});
