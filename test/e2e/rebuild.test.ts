import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hasAcl, needsGetfattr, setAcl } from '../support/acl.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { put, temporary } from '../support/temporary.ts';
import { every2h, makeWorld, readJson, type BackupSummary, type Listing } from '../support/world.ts';

const skip = process.geteuid?.() !== 0 && 'needs root';

/** The steps of "Rebuilding a machine" in docs/operations.md, on a host whose files all lie in one folder. */
test('a rebuilt host goes on where the old one stopped', { skip }, async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const { dir } = world;
  mkdirSync(join(dir, 'etc'));
  put(join(dir, 'etc/large'), pseudoRandom(1, 6_000_000));
  put(join(dir, 'etc/shadow'), 'root:x', 0o640);
  // As for a chat server that reads a certificate of another user.
  if (!needsGetfattr.skip) setAcl(join(dir, 'etc/shadow'));
  const job = { schedule: every2h, sources: [{ name: 'machine', kind: 'system', paths: ['etc'] }] };
  world.setJobs({ system: job });
  const first = (await world.json<BackupSummary>('backup')).snapshots[0]!;
  assert.equal(first.status, 'complete');
  assert.ok(first.newBytes > 6_000_000);
  const second = (await world.json<BackupSummary>('backup')).snapshots[0]!;
  // The state, which the first run changed, and the details.
  assert.ok(second.newSegments <= 3, `${second.newSegments} of ${second.segments} are new`);
  const secretBefore = readFileSync(join(dir, 'state/host-secret'), 'utf8');

  // What outlives the machine: the store, the operator's key, the restore kit.
  const elsewhere = temporary(t);
  execFileSync('cp', ['-a', join(dir, 'restore-kit'), world.key, elsewhere]);
  for (const name of ['state', 'keys', 'etc', 'restore-kit', 'sealift.yaml'])
    rmSync(join(dir, name), { recursive: true });

  /** As documented: through tar, which keeps times to the nanosecond, so that what is unchanged is re-used. */
  const intoPlace = (stream: string): void => {
    const flags = `-c ${elsewhere}/restore-kit/sealift.yaml --source ${stream} --stdout --key ${elsewhere}/op.key.asc`;
    const line = `"${launcher}" restore latest ${flags} | tar -xpf - -C /`;
    execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', line], { env: programEnv(elsewhere) });
  };

  await t.test('its own files come back in one step', () => {
    intoPlace('machine/sealift.tar');
    assert.equal(readFileSync(join(dir, 'state/host-secret'), 'utf8'), secretBefore);
    assert.equal(statSync(join(dir, 'state')).mode & 0o777, 0o700);
    assert.ok(!existsSync(join(dir, 'state/cache')) && !existsSync(join(dir, 'state/lock')));
    assert.equal((readJson(world.configFile) as { host: string }).host, 'h1');
  });

  await t.test('and everything, facts and trees, in one folder', async () => {
    const out = join(elsewhere, 'back');
    const restored = await world.run(
      'restore',
      'latest',
      '--to',
      out,
      '--key',
      join(elsewhere, 'op.key.asc'),
    );
    assert.equal(restored.status, 0, restored.stderr);
    const root = join(out, 'machine');
    for (const tree of ['files.tar', 'sealift.tar'])
      assert.match(restored.stdout, new RegExp(`machine/ {2}\\(.* from machine/${tree}\\)`));
    assert.match(readFileSync(join(root, 'machine.txt'), 'utf8'), /^# uname/);
    assert.equal(statSync(join(root, dir, 'etc/shadow')).mode & 0o777, 0o640);
    assert.equal(readFileSync(join(root, dir, 'state/host-secret'), 'utf8'), secretBefore);
    intoPlace('machine/files.tar');
  });

  await t.test('and the access control lists at the end', needsGetfattr, () => {
    assert.ok(!hasAcl(join(dir, 'etc/shadow')));
    const saved = join(elsewhere, 'back/machine/attributes.txt');
    execFileSync('setfattr', ['--no-dereference', `--restore=${saved}`]);
    assert.ok(hasAcl(join(dir, 'etc/shadow')));
  });

  await t.test('the next backup re-uses what is stored and goes on with the chain', async () => {
    const third = (await world.json<BackupSummary>('backup')).snapshots[0]!;
    assert.equal(third.status, 'complete');
    assert.ok(third.newBytes < first.newBytes / 20, `${third.newBytes} of ${first.newBytes} bytes are new`);
    const shown = await world.json<{ sequence: number; previous: { snapshot: string } }>(
      'show',
      third.snapshot,
    );
    assert.deepEqual([shown.sequence, shown.previous.snapshot], [3, second.snapshot]);
    assert.equal((await world.json<Listing>('list')).snapshots.length, 3);
    const verified = await world.run('verify', '--all', '--read-data');
    assert.equal(verified.status, 0, verified.stdout);
    const audited = await world.run('audit');
    assert.equal(audited.status, 0, audited.stdout + audited.stderr);
    assert.match(audited.stdout, /The promises are kept/);
  });
});
