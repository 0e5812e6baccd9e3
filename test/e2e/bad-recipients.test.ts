import assert from 'node:assert/strict';
import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as openpgp from 'openpgp';
import { formatFingerprint } from '../../src/output.ts';
import { makeKey } from '../support/keys.ts';
import { put } from '../support/temporary.ts';
import type { BackupSummary } from '../support/world.ts';
import { fingerprints, hostWithSnapshot, refuses } from './bad-input.ts';

test('a recipient that cannot be used refuses the backup and harms nothing:', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  const folder = join(world.dir, 'keys/recipients');
  const stored = fingerprints(join(world.dir, 'store'));
  const good = await makeKey({}, 'Good');
  const revoked = await openpgp.revokeKey({ key: good.privateKey, format: 'object' });
  const expired = await makeKey({ date: new Date(Date.now() - 3600_000), keyExpirationTime: 60 });
  const signing = await makeKey({ subkeys: [] });
  const cases: [string, string, RegExp][] = [
    ['an expired key', expired.publicKey.armor(), /expired on \d{4}-\d\d-\d\d/],
    ['a revoked key', revoked.publicKey.armor(), /is revoked/],
    ['a key that can only sign', signing.publicKey.armor(), /can only sign/],
    ['a private key', good.privateKey.armor(), /PRIVATE key/],
    ['a file that is no key', 'not a key\n', /not an OpenPGP key/],
  ];
  for (const [what, content, why] of cases)
    await t.test(what, async () => {
      const file = put(join(folder, 'bad.asc'), content);
      const says = new RegExp(`bad\\.asc: .*${why.source}`);
      await refuses(world, ['backup'], { exit: 12, code: 'key-unusable', says, hint: /sealift keys check/ });
      rmSync(file);
    });

  await t.test('a key that others can write', async () => {
    const file = put(join(folder, 'bad.asc'), good.publicKey.armor(), 0o666);
    await refuses(world, ['backup'], { exit: 12, code: 'key-unusable', says: /bad\.asc/ });
    rmSync(file);
  });

  await t.test('no recipient at all', async () => {
    renameSync(join(folder, 'op.pub.asc'), join(world.dir, 'op.pub.asc'));
    const says = /no recipients: no public key in .*keys\/recipients/;
    await refuses(world, ['backup'], { exit: 12, code: 'key-missing', says, hint: /sealift keys generate/ });
    renameSync(join(world.dir, 'op.pub.asc'), join(folder, 'op.pub.asc'));
  });

  assert.deepEqual(fingerprints(join(world.dir, 'store')), stored, 'no refused run wrote into the store');
  await nothingLost();
});

test('after a change of recipients nothing that was sealed to the old ones is used again', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const folder = join(world.dir, 'keys/recipients');
  const newAndAll = async () => {
    const { snapshots } = await world.json<BackupSummary>('backup');
    const { snapshot = '', newSegments = 0, segments = 0 } = snapshots[0] ?? {};
    return { snapshot, newSegments, segments };
  };
  const unchanged = await newAndAll();
  assert.ok(unchanged.newSegments < unchanged.segments, 'without a change it is');

  const ada = await makeKey({}, 'Ada');
  const adaKey = put(join(world.dir, 'ada.key.asc'), ada.privateKey.armor(), 0o600);
  rmSync(join(folder, 'op.pub.asc'));
  put(join(folder, 'ada.asc'), ada.publicKey.armor());
  const { snapshot, newSegments, segments } = await newAndAll();
  assert.ok(segments > 1);
  assert.equal(newSegments, segments);
  const { snapshots: listed } = await world.json<{ snapshots: { recipients: string[] }[] }>('list');
  assert.deepEqual(listed[0]?.recipients, [ada.publicKey.getFingerprint().toUpperCase()]);

  const restore = (id: string, key: string): string[] => {
    const to = join(world.dir, `${id}-${key === adaKey ? 'ada' : 'op'}`);
    return ['restore', id, '--to', to, '--key', key];
  };
  await world.json(...restore(snapshot, adaKey));
  await world.json(...restore(id, world.key));
  const hint = new RegExp(formatFingerprint(ada.publicKey.getFingerprint().toUpperCase()));
  const wrong = { exit: 12, code: 'key-wrong', says: /does not open this backup/ };
  await refuses(world, restore(snapshot, world.key), { ...wrong, hint });
  await refuses(world, restore(id, adaKey), wrong);

  await refuses(world, ['verify', id, '--key', adaKey], wrong);
  const all = await world.run('--json', 'verify', '--all', '--key', adaKey);
  const found = JSON.parse(all.stdout.trimEnd().split('\n').at(-1)!) as {
    ok: boolean;
    failures: { snapshot: string; reason: string }[];
  };
  assert.deepEqual([all.status, found.ok], [21, false]);
  assert.deepEqual(
    found.failures.map((failure) => failure.snapshot),
    [id, unchanged.snapshot],
  );
  assert.match(found.failures[0]!.reason, /does not open this backup\. It is sealed to /);
  const both = `${ada.privateKey.armor()}\n${readFileSync(world.key, 'utf8')}`;
  const bothKeys = put(join(world.dir, 'both.key.asc'), both, 0o600);
  await world.json('verify', '--all', '--key', bothKeys);

  put(join(folder, 'eve.asc'), (await makeKey({}, 'Eve')).publicKey.armor());
  const added = await newAndAll();
  assert.equal(added.newSegments, added.segments, 'nor when one is added');

  // A key that opens nothing does not hide what is missing: the tree itself, or the details.
  const pieces = join(world.dir, 'store/h1/snap', id, 's');
  let told = '';
  for (const name of readdirSync(pieces)) {
    renameSync(join(pieces, name), join(world.dir, 'away'));
    const { status, stdout } = await world.run('verify', id, '--key', adaKey);
    renameSync(join(world.dir, 'away'), join(pieces, name));
    assert.equal(status, 21);
    assert.match(stdout, new RegExp(`${name}: the object of segment .* is missing: a piece of `));
    told += stdout;
  }
  assert.match(told, /does not open this backup/);
});
