import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { suite, test } from 'node:test';
import type { PruneSummary } from '../../src/commands/prune.ts';
import { needs } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { madeDaysAgo } from '../support/aged.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put } from '../support/temporary.ts';
import { bucketStore, makeWorld, readJson, type Listing, type World } from '../support/world.ts';
import { backup, hostWithSnapshot, needsMounts, treeJob } from './bad-input.ts';
import { movingClock } from './shifted-clock.ts';

const day = 86_400_000;
const snapshotsIn = (world: World): string[] => readdirSync(join(world.dir, 'store/h1/snap'));
const listed = async (world: World): Promise<string[]> =>
  (await world.json<Listing>('list')).snapshots.map(({ snapshot }) => snapshot);

/** One snapshot of eight days ago, and one of now with other content. */
async function oldAndYoung(t: Parameters<typeof hostWithSnapshot>[0]) {
  const { world, id } = await hostWithSnapshot(t);
  const old = await madeDaysAgo(world, id, 8);
  put(join(world.dir, 'tree/file'), pseudoRandom(2, 700_000));
  return { world, old, young: await backup(world) };
}

test('what was pruned elsewhere is forgotten here by the next backup', async (t) => {
  const { world, old, young } = await oldAndYoung(t);
  const copies = (): string[] =>
    readdirSync(join(world.dir, 'state/cache'), { recursive: true, encoding: 'utf8' }).map((path) =>
      basename(path),
    );
  assert.ok(copies().includes(old));
  rmSync(join(world.dir, 'store/h1/snap', old, 'index.json.gpg'));
  await backup(world);
  assert.deepEqual([copies().includes(old), copies().includes(young)], [false, true]);
});

test('what has expired goes with all its segments, what is live stays, what is foreign is not touched', async (t) => {
  const { world, old, young } = await oldAndYoung(t);
  const foreign = join(world.dir, 'store/h1/snap', old, 's', 'notes.txt');
  put(foreign, 'mine');
  const count = readdirSync(join(world.dir, 'store/h1/snap', old, 's')).length;

  const dry = await world.json<PruneSummary>('prune', '--dry-run');
  assert.deepEqual(dry.snapshots, [{ host: 'h1', snapshot: old, reason: 'expired' }]);
  assert.deepEqual([dry.objects, dry.dryRun], [count, true]);
  assert.deepEqual(await listed(world), [young, old]);

  const done = await world.json<PruneSummary>('prune');
  assert.deepEqual({ ...done, dryRun: true }, dry);
  assert.deepEqual(await listed(world), [young]);
  assert.ok(existsSync(foreign));
  assert.equal((await world.run('verify', '--all', '--read-data')).status, 0);
  const again = await world.json<PruneSummary>('prune');
  assert.deepEqual([again.snapshots, again.objects], [[], 0]);
});

test('a folder of somebody else beside those of hosts is no host', async (t) => {
  const { world } = await oldAndYoung(t);
  mkdirSync(join(world.dir, 'store/photos/2026'), { recursive: true });
  put(join(world.dir, 'store/photos/2026/cat.jpg'), 'meow');
  const { problems } = await world.json<PruneSummary>('prune');
  assert.deepEqual(problems, []);
  const { status, stderr } = await world.run('list', '--all-hosts');
  assert.deepEqual([status, stderr], [0, '']);
  const desk = join(world.dir, 'desk.yaml');
  writeFileSync(desk, readFileSync(world.configFile, 'utf8').replace(/"host":"h1",?/, ''), { mode: 0o600 });
  assert.equal((await world.run('-c', desk, 'verify')).status, 0, 'the only host is the one that is meant');
});

test(
  'what ends early by a lower maxAge keeps its segments for as long as its index cannot be deleted',
  needsMounts,
  async (t) => {
    const { world, id } = await hostWithSnapshot(t);
    const old = await madeDaysAgo(world, id, 5);
    put(join(world.dir, 'tree/file'), pseudoRandom(2, 700_000));
    await backup(world);
    const config = readJson(world.configFile) as object;
    put(world.configFile, JSON.stringify({ ...config, retention: { maxAge: '3d' } }), 0o600);
    // What is mounted cannot be deleted.
    const index = join(world.dir, 'store/h1/snap', old, 'index.json.gpg');
    execFileSync('mount', ['--bind', index, index]);
    try {
      const { status, stdout } = await world.run('prune', '--json');
      assert.equal(status, 3);
      const { failed } = JSON.parse(stdout) as PruneSummary;
      assert.deepEqual(
        failed.map(({ key }) => key),
        [`h1/snap/${old}/index.json.gpg`],
      );
    } finally {
      execFileSync('umount', [index]);
    }
    const { status, stdout } = await world.run('verify', '--all', '--read-data');
    assert.equal(status, 0, `by its signature it is live still: ${stdout}`);
    const { objects } = await world.json<PruneSummary>('prune');
    assert.ok(objects > 1);
    assert.ok(!snapshotsIn(world).includes(old));
  },
);

test('nothing is left of an expired snapshot, not even its folder', async (t) => {
  const { world, young } = await oldAndYoung(t);
  await world.json('prune');
  assert.deepEqual(snapshotsIn(world), [young]);
});

test('segments of an unfinished run stay as long as the run may go on, and go after that', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const folder = join(world.dir, 'store/h1/snap/20261101T000000Z-tree-aaaaaa/s');
  mkdirSync(folder, { recursive: true });
  const orphan = join(folder, `${'0'.repeat(32)}.zst.gpg`);
  put(orphan, 'sealed');
  const aged = (hours: number): void =>
    utimesSync(orphan, Date.now() / 1000, Date.now() / 1000 - hours * 3600);
  aged(96.9);
  assert.equal((await world.json<PruneSummary>('prune')).objects, 0);
  aged(97.1);
  const dry = await world.json<PruneSummary>('prune', '--dry-run');
  const reason = 'segment: no live snapshot names it';
  assert.deepEqual([dry.snapshots, dry.reasons], [[], [{ host: 'h1', reason, objects: 1 }]]);
  assert.match(
    (await world.run('prune', '--dry-run')).stdout,
    /1 object {2}h1: segment: no live snapshot names it/,
  );
  assert.ok(existsSync(orphan));
  assert.equal((await world.json<PruneSummary>('prune')).objects, 1);
  assert.ok(!existsSync(orphan));
});

test('an index that should be live and cannot be read keeps what it may name; the expired goes; exit 3', async (t) => {
  const { world, old, young } = await oldAndYoung(t);
  truncateSync(join(world.dir, 'store/h1/snap', young, 'index.json.gpg'), 100);
  const result = await world.run('prune', '--json');
  assert.equal(result.status, 3, result.stderr);
  const { snapshots, problems } = JSON.parse(result.stdout) as PruneSummary;
  assert.deepEqual(
    snapshots.map(({ snapshot }) => snapshot),
    [old],
  );
  assert.match(problems.join(), new RegExp(`the index of ${young} cannot be read, and should be live`));
  assert.ok(readdirSync(join(world.dir, 'store/h1/snap', young, 's')).length > 0);
  assert.ok(readdirSync(join(world.dir, 'store/h1/snap', old, 's')).length > 0, 'it may be named');
});

test('a host whose key is not known is left alone, and named; exit 3', async (t) => {
  const { world, old } = await oldAndYoung(t);
  const stranger = join(world.dir, 'store/stranger/snap/20261101T000000Z-x-aaaaaa');
  mkdirSync(stranger, { recursive: true });
  put(join(stranger, 'index.json.gpg'), 'forged');
  const result = await world.run('prune');
  assert.equal(result.status, 3);
  assert.match(result.stdout, /host stranger is left alone: no key of it is trusted here/);
  assert.match(
    result.stdout,
    new RegExp(`${old}  h1: expired\n(\\d objects?  h1: .*\n)+deleted 1 snapshot with \\d objects`),
  );
  assert.equal((await world.run('prune', '--host', 'h1')).status, 0);
});

test('another machine with the same name and other limits deletes nothing of the first; exit 3', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const other = await makeWorld(t, {
    jobs: treeJob,
    store: { kind: 'directory', path: join(world.dir, 'store') },
    settings: { retention: { maxAge: '25h' }, reuseWindow: '1h' },
  });
  const young = await madeDaysAgo(world, id, 2);
  const result = await other.run('prune', '--json');
  assert.equal(result.status, 3, result.stdout);
  const { problems, objects } = JSON.parse(result.stdout) as PruneSummary;
  assert.deepEqual([objects, problems.length], [0, 1]);
  assert.match(
    problems[0]!,
    /host h1 is left alone: its snapshots are signed by a key that is not trusted here/,
  );
  assert.deepEqual(await listed(world), [young]);
});

test('times of the store that cannot be are reported, and nothing goes by them', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  for (const file of readdirSync(join(world.dir, 'store'), { recursive: true, encoding: 'utf8' }))
    if (file.endsWith('.gpg')) utimesSync(join(world.dir, 'store', file), 86_400, 86_400);
  const result = await world.run('prune', '--json');
  assert.equal(result.status, 3);
  const { objects, problems } = JSON.parse(result.stdout) as PruneSummary;
  assert.equal(objects, 0);
  assert.match(problems.join(), /dated before the run that wrote them: the times of the store are wrong/);
  assert.deepEqual(await listed(world), [id]);
});

test('a temporary file of a backup under way stays, also where no host is known yet', async (t) => {
  const world = await makeWorld(t, { jobs: treeJob });
  mkdirSync(join(world.dir, 'store/.tmp'));
  const draft = put(join(world.dir, 'store/.tmp/draft'), 'half');
  assert.equal((await world.run('prune')).status, 0);
  assert.ok(existsSync(draft));
});

suite('in a bucket', needs('s3'), () => {
  test('a host whose listing makes no sense is left alone, and named, and keeps nothing of others; exit 3', async (t) => {
    const { store } = await bucketStore();
    const endpoint = await s3Proxy(t, async (exchange) => {
      const answer = await exchange.ask();
      const asked = new URL(exchange.path, 'http://proxy').searchParams;
      const isOther =
        asked.has('versions') && !asked.has('delimiter') && asked.get('prefix') === 'jabber/h2/';
      const body = Buffer.from(answer.body.toString().replaceAll('<Key>jabber', '<Key>gabber'));
      exchange.answer(isOther ? { ...answer, body } : answer);
    });
    const { world: other } = await hostWithSnapshot(t, { host: 'h2', store });
    const { world } = await hostWithSnapshot(t, { store: { ...store, endpoint } });
    copyFileSync(join(other.dir, 'keys/hosts/h2.asc'), join(world.dir, 'keys/hosts/h2.asc'));
    const pruned = await world.run('prune', '--json');
    assert.equal(pruned.status, 3, pruned.stdout + pruned.stderr);
    const { problems, kept } = JSON.parse(pruned.stdout) as PruneSummary;
    assert.ok(kept > 0);
    assert.equal(problems.length, 1);
    assert.match(problems[0]!, /host h2 is left alone: .*which was not asked for/);
  });

  test('uploads of which the store does not say when they began keep nothing else', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const endpoint = await s3Proxy(t, async (exchange) => {
      const answer = await exchange.ask();
      const undated = answer.body.toString().replaceAll(/<Initiated>[^<]*<\/Initiated>/g, '');
      exchange.answer(/[?&]uploads/.test(exchange.path) ? { ...answer, body: Buffer.from(undated) } : answer);
    });
    const { world, id } = await hostWithSnapshot(t, { store: { ...store, endpoint } });
    const begin = (key: string) =>
      client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: `jabber/${key}` }));
    await begin('h1/large');
    const foreign = await world.run('prune');
    assert.deepEqual([foreign.status, foreign.stderr], [0, '']);
    const own = `h1/snap/${id}/s/${'0'.repeat(32)}.zst.gpg`;
    await begin(own);
    const { status, stderr } = await world.run('prune');
    assert.equal(status, 3);
    assert.match(stderr, new RegExp(`the write of ${own} was begun, and the store does not say when`));
    const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    assert.equal(Uploads?.length, 2);
    const audit = await world.run('audit');
    assert.match(audit.stdout, new RegExp(`warning +leftover +${own}`));
    assert.match(audit.stdout, /warning +foreign-object +h1\/large/);
  });

  for (const versioned of [false, true])
    test(`seven days later nothing is left${versioned ? ', in any version' : ''}`, async (t) => {
      const { store, bucket, client } = await bucketStore({ versioned });
      const clock = await movingClock(t);
      const { world, id } = await hostWithSnapshot(t, { store: { ...store, endpoint: clock.endpoint } });
      const keys = async (): Promise<string[]> => {
        const { Versions = [], DeleteMarkers = [] } = await client.send(
          new ListObjectVersionsCommand({ Bucket: bucket }),
        );
        return [...Versions, ...DeleteMarkers]
          .map(({ Key = '' }) => Key)
          .filter((key) => key.includes('/snap/'));
      };
      const before = await keys();
      assert.ok(before.length > 2);
      const { expiresAt } = (await world.json<Listing>('list')).snapshots[0]!;

      clock.moveTo(new Date(Date.parse(expiresAt) - 60_000));
      const early = await world.at(clock.now).json<PruneSummary>('prune');
      assert.deepEqual([early.snapshots, early.objects], [[], 0]);
      assert.deepEqual(await keys(), before);

      clock.moveTo(new Date(Date.parse(expiresAt) + 2000)); // its answers have whole seconds
      const inTime = await world.at(clock.now).json<PruneSummary>('prune');
      assert.deepEqual(inTime.snapshots, [{ host: 'h1', snapshot: id, reason: 'expired' }]);
      assert.deepEqual(await keys(), []);
    });

  test('what common tools deleted lies below markers: it is found, and is gone when its time is over', async (t) => {
    const { store, bucket, client } = await bucketStore({ versioned: true });
    const clock = await movingClock(t);
    const { world, id } = await hostWithSnapshot(t, { store: { ...store, endpoint: clock.endpoint } });
    const { expiresAt } = (await world.json<Listing>('list')).snapshots[0]!;
    const versions = async () => client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
    for (const { Key } of (await versions()).Versions ?? [])
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));

    const { status, stdout } = await world.at(clock.now).run('audit');
    assert.equal(status, 20);
    assert.match(stdout, new RegExp(`h1/snap/${id}/index.json.gpg`));

    clock.moveTo(new Date(Date.parse(expiresAt) + 2000));
    for (const host of [[], ['--host', 'h1']]) {
      const dry = await world.at(clock.now).json<PruneSummary>('prune', '--dry-run', ...host);
      assert.deepEqual(dry.snapshots, [{ host: 'h1', snapshot: id, reason: 'expired' }]);
    }
    await world.at(clock.now).json('prune');
    const { Versions = [], DeleteMarkers = [] } = await versions();
    assert.deepEqual(
      [...Versions, ...DeleteMarkers].filter(({ Key }) => Key?.includes('/snap/')),
      [],
    );
  });

  test('that refuses deletes: each is reported by its key, exit 3, and the next prune tries again', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const clock = await movingClock(t);
    const { world, id } = await hostWithSnapshot(t, { store: { ...store, endpoint: clock.endpoint } });
    const policy = (Effect: 'Deny' | 'Allow'): Promise<unknown> =>
      client.send(
        new PutBucketPolicyCommand({
          Bucket: bucket,
          Policy: JSON.stringify({
            Version: '2012-10-17',
            Statement: [
              {
                Effect,
                Principal: '*',
                Action: ['s3:DeleteObject', 's3:DeleteObjectVersion'],
                Resource: [`arn:aws:s3:::${bucket}/*`],
              },
            ],
          }),
        }),
      );
    await policy('Deny');
    clock.moveTo(new Date(clock.now().getTime() + 7 * day + 60_000));
    const refused = await world.at(clock.now).run('prune', '--json');
    assert.equal(refused.status, 3);
    const { failed, snapshots } = JSON.parse(refused.stdout) as PruneSummary;
    assert.deepEqual(
      snapshots.map(({ snapshot }) => snapshot),
      [id],
    );
    assert.ok(failed.some(({ key }) => key === `h1/snap/${id}/index.json.gpg`));
    assert.ok(
      failed.every(({ reason }) => /not allowed/.test(reason)),
      JSON.stringify(failed),
    );
    await policy('Allow');
    const { failed: then, objects } = await world.at(clock.now).json<PruneSummary>('prune');
    assert.deepEqual([then, objects], [[], failed.length]);
  });
});
