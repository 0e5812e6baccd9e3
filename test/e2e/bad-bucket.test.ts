import { ListObjectsV2Command, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { needs, theService } from '../services/services.ts';
import { errorAnswer, s3Proxy } from '../store/s3-proxy.ts';
import {
  bucketStore,
  every2h,
  readJson,
  type BackupSummary,
  type Listing,
  type World,
} from '../support/world.ts';
import { hostWithSnapshot, refuses, treeSource } from './bad-input.ts';
import { shiftedClock, sign } from './shifted-clock.ts';

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

    await t.test('of two snapshots one that may not be read does not hide the other', async () => {
      const { snapshots } = await world.json<BackupSummary>('backup');
      const id = snapshots[0]!.snapshot;
      const may = async (...keys: string[]): Promise<void> => {
        const rights = { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/stranger'] } };
        const Statement = [
          { ...rights, Action: ['s3:ListBucket'], Resource: [`arn:aws:s3:::${bucket}`] },
          ...keys.map((key) => ({
            ...rights,
            Action: ['s3:GetObject'],
            Resource: [`arn:aws:s3:::${bucket}/${key}`],
          })),
        ];
        const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
        await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
        rmSync(join(world.dir, 'state/cache'), { recursive: true, force: true });
      };
      await may(`jabber/h1/snap/${id}/*`);
      await withStore(world, stranger, async () => {
        const { status, stdout, stderr } = await world.run('list', '--json');
        assert.equal(status, 3, stderr);
        assert.deepEqual(
          (JSON.parse(stdout) as Listing).snapshots.map(({ snapshot }) => snapshot),
          [id],
        );
      });
      await may();
      await withStore(world, stranger, () =>
        refuses(world, ['list'], { exit: 1, code: 'store-denied', says: /not allowed/ }),
      );
    });

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
      const says = /cannot .*127\.0\.0\.1:1\b/; // after a while, as it may come up
      return backup({ endpoint: 'http://127.0.0.1:1' }, { exit: 1, code: 'store-unavailable', says });
    });
    await nothingLost();
  });

  test('that refuses one object lacks what lies in it; one that refuses all data says so', async (t) => {
    const { store, bucket, client } = await bucketStore();
    const dump = { name: 'dump', kind: 'command', argv: ['echo', 'dumped'], file: 'dump' };
    const jobs = { j: { schedule: every2h, sources: [treeSource, dump] } };
    const { world, id } = await hostWithSnapshot(t, { store, jobs });
    const refuse = async (what: string): Promise<void> => {
      const principal = { Principal: { AWS: ['arn:aws:iam:::user/stranger'] } };
      const all = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`];
      const Statement = [
        { ...principal, Effect: 'Allow', Action: ['s3:ListBucket', 's3:GetObject'], Resource: all },
        {
          ...principal,
          Effect: 'Deny',
          Action: ['s3:GetObject'],
          Resource: [`arn:aws:s3:::${bucket}/jabber/h1/snap/${what}`],
        },
      ];
      const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
      await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
    };
    const restore = (to: string) => ['restore', id, '--key', world.key, '--to', join(world.dir, to)];

    const { Contents = [] } = await client.send(
      new ListObjectsV2Command({ Bucket: bucket, Prefix: `jabber/h1/snap/${id}/s/` }),
    );
    const { Key = '' } = Contents.find(({ Size = 0 }) => Size > 300_000)!;
    await refuse(Key.replace('jabber/h1/snap/', ''));
    await withStore(world, theService('s3').stranger, async () => {
      const says = new RegExp(`cannot read ${Key.replace('jabber/', '')} .*not allowed`);
      for (const how of ['--read-data', `--key=${world.key}`]) {
        const verified = await world.run('verify', id, how);
        assert.equal(verified.status, 21, verified.stderr);
        assert.match(verified.stdout, says);
      }
      const restored = await world.run(...restore('one'));
      assert.equal(restored.status, 21, restored.stderr);
      assert.match(restored.stdout, says);
      assert.match(restored.stdout, /tree\/file: not whole in the store/);
      assert.equal(readFileSync(join(world.dir, 'one/dump/dump'), 'utf8'), 'dumped\n');
    });

    await refuse('*/s/*');
    await withStore(world, theService('s3').stranger, async () => {
      const refusal = { exit: 1, code: 'store-denied', says: /not allowed \(AccessDenied\)/ };
      await refuses(world, ['verify', id, '--read-data'], refusal);
      await refuses(world, ['verify', id, '--key', world.key], refusal);
      await refuses(world, restore('none'), refusal);
    });
  });

  test('whose objects come changed once, on their way, is asked once more', async (t) => {
    const { store } = await bucketStore();
    const { world, id } = await hostWithSnapshot(t, { store });
    for (const args of [['audit'], ['verify', id, '--read-data']]) {
      const changed = new Set<string>();
      const endpoint = await s3Proxy(t, async ({ method, path, ask, answer }) => {
        const given = await ask();
        const { pathname } = new URL(path, 'http://proxy');
        if (method !== 'GET' || !pathname.endsWith('.zst.gpg') || changed.has(pathname)) return answer(given);
        changed.add(pathname);
        return answer({ ...given, headers: {}, body: given.body.fill(0, given.body.length - 100) });
      });
      await withStore(world, { endpoint }, async () => {
        const { status, stdout } = await world.run(...args);
        assert.equal(status, 0, stdout);
      });
      assert.ok(changed.size > 0);
    }
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

  test('that takes no request which is a quarter of an hour off by its clock gets a backup at its time, also if its first answers get lost', async (t) => {
    const { store } = await bucketStore();
    const { world } = await hostWithSnapshot(t, { store });
    const seen = new Set<string>();
    const endpoint = await s3Proxy(t, async (exchange) => {
      const isFirst = !seen.has(exchange.method);
      seen.add(exchange.method);
      if (isFirst) return exchange.cut();
      const nowMs = Date.now() + 40 * 60_000;
      const date = new Date(nowMs).toUTCString();
      const signedAt = String(exchange.headers['x-amz-date']).replace(
        /^(....)(..)(..T..)(..)/,
        '$1-$2-$3:$4:',
      );
      const isSkewed = Math.abs(Date.parse(signedAt) - nowMs) > 15 * 60_000;
      if (!isSkewed) sign(exchange.method, exchange.path, exchange.headers);
      const answer = isSkewed ? errorAnswer(403, 'RequestTimeTooSkewed') : await exchange.ask();
      exchange.answer({ ...answer, headers: { ...answer.headers, date } });
    });
    await withStore(world, { endpoint }, async () => {
      const { status, stderr } = await world.run('backup');
      assert.equal(status, 0, stderr);
      assert.match(stderr, /clocks are more than five minutes apart/);
    });
  });
});
