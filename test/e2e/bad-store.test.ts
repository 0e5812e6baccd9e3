import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { needs, theService } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put } from '../support/temporary.ts';
import {
  bucketStore,
  makeWorld,
  readJson,
  type BackupSummary,
  type Listing,
  type World,
} from '../support/world.ts';
import {
  assertRefusal,
  fingerprints,
  hostWithSnapshot,
  needsMounts,
  refuses,
  treeJob,
  underMounts,
} from './bad-input.ts';
import { shiftedClock } from './shifted-clock.ts';

/** Changes settings of the store in the configuration for one step. */
async function withStore(world: World, change: object, step: () => Promise<void>): Promise<void> {
  const before = readFileSync(world.configFile, 'utf8');
  const config = readJson(world.configFile) as { store: object };
  writeFileSync(world.configFile, JSON.stringify({ ...config, store: { ...config.store, ...change } }));
  await step();
  writeFileSync(world.configFile, before);
}

suite('a bucket', needs('s3'), () => {
  test('that is missing, or refuses its reader or writer, is told and harms nothing:', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const { world, nothingLost } = await hostWithSnapshot(t, { store });
    const { stranger } = theService('s3');
    const backup = (change: object, refusal: Parameters<typeof refuses>[2]): Promise<void> =>
      withStore(world, change, () => refuses(world, ['backup'], refusal));

    await t.test('no such bucket', () => {
      const says = /s3:\/\/no-such-bucket.*the bucket does not exist/;
      const hint = /Create the bucket/;
      return backup({ bucket: 'no-such-bucket' }, { exit: 10, code: 'store-not-found', says, hint });
    });

    await t.test('a wrong secret, which is not printed', async () => {
      const secretAccessKey = 'canary-secret-0123456789';
      const says = new RegExp(`s3://${bucket}/jabber/ at http.*credentials are missing or wrong`);
      const hint = /store\.secretAccessKey/;
      await backup({ secretAccessKey }, { exit: 1, code: 'store-denied', says, hint });
      await withStore(world, { secretAccessKey }, async () => {
        const { stdout, stderr } = await world.run('backup', '-v', '-v');
        assert.doesNotMatch(stdout + stderr, /canary-secret/);
      });
    });

    await t.test('a user without any right', () =>
      backup(stranger, { exit: 1, code: 'store-denied', says: /not allowed \(AccessDenied\)/, hint: /lack/ }),
    );

    await t.test('a user who may read but not write: backup refuses, list and restore work', async () => {
      const resources = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`];
      const statement = {
        Effect: 'Allow',
        Principal: { AWS: ['arn:aws:iam:::user/stranger'] },
        Action: ['s3:ListBucket', 's3:GetObject'],
        Resource: resources,
      };
      const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
      await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
      const says = /cannot write h1\/.*not allowed/;
      await backup(stranger, { exit: 1, code: 'store-denied', says });
      await withStore(world, stranger, nothingLost);
    });

    await t.test('nobody at the endpoint', () => {
      const says = /cannot .*127\.0\.0\.1:1\b/;
      return backup({ endpoint: 'http://127.0.0.1:1' }, { exit: 1, code: 'store-unavailable', says });
    });
    await nothingLost();
  });

  test('whose clock is ten minutes off draws a warning; over an hour, backup refuses and list works', async (t) => {
    const { store } = await bucketStore();
    const { world, id, nothingLost } = await hostWithSnapshot(t, { store });
    await withStore(world, { endpoint: await shiftedClock(t, 10 * 60_000) }, async () => {
      const { status, stderr } = await world.run('backup');
      assert.equal(status, 0, stderr);
      assert.match(stderr, /clocks are more than five minutes apart: the store says \S+Z, this machine \S+Z/);
    });
    for (const minutes of [-65, 65])
      await withStore(world, { endpoint: await shiftedClock(t, minutes * 60_000) }, async () => {
        const says = /more than an hour apart: the store says \S+Z, this machine \S+Z/;
        await refuses(world, ['backup'], { exit: 1, code: 'clock-wrong', says, hint: /timedatectl/ });
        const { snapshots } = await world.json<Listing>('list');
        assert.equal(snapshots.length, 2);
        assert.ok(snapshots.some(({ snapshot }) => snapshot === id));
      });
    await nothingLost();
  });
});

test('a directory store that is not there is not made anew, and is as it was when it is back', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const store = join(world.dir, 'store');
  renameSync(store, `${store}-away`);
  const refusal = {
    exit: 10,
    code: 'store-not-found',
    says: /store\): the directory does not exist/,
    hint: /mounted/,
  };
  for (const command of ['backup', 'list']) await refuses(world, [command], refusal);
  renameSync(`${store}-away`, store);
  await nothingLost();
});

test(
  'a store that is mounted read-only refuses backups, and lists, verifies and restores',
  needsMounts,
  async (t) => {
    const { world } = await hostWithSnapshot(t);
    const store = join(world.dir, 'store');
    const before = fingerprints(store);
    const sealift = await underMounts(t, `mount --bind ${store} ${store}; mount -o remount,ro,bind ${store}`);
    const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
    const says = /cannot .*store.*\): not allowed/;
    assertRefusal(await run('backup', '--json'), { exit: 1, code: 'store-denied', says, hint: /read-only/ });
    assert.equal((await run('list')).status, 0);
    assert.equal((await run('verify', '--all', '--read-data')).status, 0);
    const restored = await run('restore', '--to', join(world.dir, 'out'), '--key', world.key);
    assert.equal(restored.status, 0, restored.stderr);
    assert.deepEqual(fingerprints(store), before);
  },
);

test('a disk that is full ends the backup, and what was stored before is whole', needsMounts, async (t) => {
  const world = await makeWorld(t, { jobs: treeJob });
  const store = join(world.dir, 'store');
  const sealift = await underMounts(t, `mount -t tmpfs -o size=4m none ${store}`);
  const run = (...args: string[]) => sealift(['-c', world.configFile, ...args], { cwd: world.dir });
  mkdirSync(join(world.dir, 'tree'));
  put(join(world.dir, 'tree/file'), pseudoRandom(1, 700_000));
  const first = await run('backup');
  assert.equal(first.status, 0, first.stderr);

  const large = put(join(world.dir, 'tree/large'), pseudoRandom(2, 6_000_000));
  const says = /cannot write h1\/snap\/.*store\): no space left/;
  assertRefusal(await run('backup', '--json'), { exit: 1, code: 'store-full', says, hint: /Free space/ });
  const { snapshots } = JSON.parse((await run('list', '--json')).stdout) as Listing;
  assert.equal(snapshots.length, 1);
  assert.equal((await run('verify', '--all', '--read-data')).status, 0);
  const restored = await run('restore', '--to', join(world.dir, 'out'), '--key', world.key);
  assert.equal(restored.status, 0, restored.stderr);

  rmSync(large);
  const after = await run('backup', '--json');
  assert.equal(after.status, 0, 'once there is room again, all goes on');
});

test('a second machine with the same name of host is refused, by name of its key, and writes nothing', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const store = join(world.dir, 'store');
  const before = fingerprints(store);
  const second = await makeWorld(t, { jobs: treeJob, store: { kind: 'directory', path: store } });
  mkdirSync(join(second.dir, 'tree'));
  const says = /another key signs snapshots of host h1/;
  const own = await fingerprintOfHost(second);
  const hint = new RegExp(`This machine's key is ${own}.*give one of them a new one`);
  await refuses(second, ['backup'], { exit: 1, code: 'host-name-taken', says, hint });
  assert.deepEqual(fingerprints(store), before);
  await nothingLost();
});

async function fingerprintOfHost(world: World): Promise<string> {
  return (await world.json<{ fingerprint: string }>('init')).fingerprint;
}

test('a block that comes twice in a stream is sealed once and comes back twice', async (t: TestContext) => {
  const world = await makeWorld(t, { jobs: treeJob });
  mkdirSync(join(world.dir, 'tree'));
  const block = pseudoRandom(5, 8 * 2 ** 20);
  put(join(world.dir, 'tree/file'), Buffer.concat([block, block]));
  const { snapshots } = await world.json<BackupSummary>('backup');
  const [{ segments = 0, newBytes = 0, bytes = 0, snapshot = '' } = {}] = snapshots;
  const objects = readdirSync(join(world.dir, 'store/h1/snap', snapshot, 's'));
  assert.equal(objects.length, segments);
  assert.ok(bytes > 16 * 2 ** 20);
  // The segments at the seam, and padding, are beyond the one block.
  assert.ok(newBytes < 13 * 2 ** 20, `${newBytes} bytes were written`);
  const shown = await world.json<{ segments: number }>('verify', '--read-data');
  assert.ok(shown);
  const out = join(world.dir, 'out');
  await world.json('restore', '--to', out, '--key', world.key);
  assert.ok(
    readFileSync(join(out, 'tree', world.dir.slice(1), 'tree/file')).equals(Buffer.concat([block, block])),
  );
});
