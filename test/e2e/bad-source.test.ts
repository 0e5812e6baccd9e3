import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import type { CliResult } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, type BackupSummary, type Listing, type World } from '../support/world.ts';
import {
  assertRefusal,
  hostWithSnapshot,
  needsMounts,
  refuses,
  treeSource,
  underMounts,
} from './bad-input.ts';
import { aboutProcess, watched } from './watched.ts';

const jobOf = (...sources: object[]): object => ({ tree: { schedule: every2h, sources } });

/** What `backup` and `list` say of a run in which one source failed and its sibling did not. */
async function partial(world: World): Promise<BackupSummary['snapshots'][number]> {
  const run = await world.run('backup', '--json');
  assert.equal(run.status, 3, run.stdout + run.stderr);
  const { snapshots } = JSON.parse(run.stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
  assert.equal(snapshots[0]?.status, 'partial');
  const { snapshots: listed } = await world.json<Listing>('list');
  assert.equal(listed[0]?.snapshot, snapshots[0].snapshot);
  assert.equal(listed[0].status, 'partial');
  return snapshots[0];
}

test('a source with nothing in it:', async (t) => {
  const { world, nothingLost } = await hostWithSnapshot(t);
  put(join(world.dir, 'empty.db'), '');
  const empty = { name: 'chat', kind: 'sqlite', path: 'empty.db' };
  const missing = { name: 'etc', kind: 'files', paths: ['not-there'] };

  await t.test(
    'a SQLite file of no bytes and a path that is missing are told, and the rest is saved',
    async () => {
      world.setJobs(jobOf(empty, missing, treeSource));
      const { problems } = await partial(world);
      assert.deepEqual(
        problems.map(({ source, code }) => `${source} ${code}`),
        ['chat source-failed', 'etc source-failed'],
      );
      assert.match(problems[0]?.text ?? '', /empty\.db is empty/);
      assert.match(problems[1]?.text ?? '', /"etc" are not there: ".*\/not-there"/);
    },
  );

  await t.test('a restore without them says so and ends with 3', async () => {
    const to = join(world.dir, 'without');
    const { status, stderr } = await world.run('restore', 'latest', '--to', to, '--key', world.key);
    assert.match(stderr, /chat is in no snapshot[^]*etc is in no snapshot/);
    assert.equal(status, 3);
  });

  await t.test('where nothing else is in the job, there is no snapshot', async () => {
    const before = (await world.json<Listing>('list')).snapshots.length;
    world.setJobs(jobOf(empty, missing));
    const says = /job tree saved nothing[^]*empty\.db is empty[^]*not-there/;
    await refuses(world, ['backup'], { exit: 1, code: 'nothing-saved', says, hint: /untouched/ });
    assert.equal((await world.json<Listing>('list')).snapshots.length, before);
  });

  await t.test('an empty list is refused with its place in the file', async () => {
    world.setJobs(jobOf({ ...missing, paths: [] }, { ...empty, path: '' }));
    const says = /sealift\.yaml:\d+:\d+: jobs\.tree\.sources\[0\]\.paths: [^]*sources\[1\]\.path: /;
    await refuses(world, ['backup'], { exit: 2, code: 'config-invalid', says });
    world.setJobs(jobOf());
    const none = /jobs\.tree\.sources: /;
    await refuses(world, ['backup'], { exit: 2, code: 'config-invalid', says: none });
  });

  world.setJobs(jobOf(treeSource));
  await nothingLost();
});

/** A database over TCP, with its password. */
function postgresSource(databases: string[], change: object = {}): object {
  const { tcpHost: host, port, user, password } = theService('postgres');
  return { name: 'xmpp', kind: 'postgres', databases, globals: false, host, port, user, password, ...change };
}

suite('a PostgreSQL source', needs('postgres'), () => {
  test('with a wrong password, a database that is gone, or no server fails alone and is told', async (t) => {
    const { world, nothingLost } = await hostWithSnapshot(t);
    const there = await freshDatabase();
    const { port } = theService('postgres');

    world.setJobs(jobOf(postgresSource([there], { password: 'not-the-password' }), treeSource));
    const denied = await partial(world);
    assert.match(denied.problems[0]?.text ?? '', /password authentication failed/);
    assert.doesNotMatch(JSON.stringify(denied), /not-the-password/);
    assert.doesNotMatch(JSON.stringify(denied), /pgpass/, 'a file that is gone by now');

    world.setJobs(jobOf(postgresSource([there, 'gone']), treeSource));
    const gone = await partial(world);
    assert.deepEqual(
      gone.problems.map(({ source, code }) => [source, code]),
      [['xmpp', 'stream-failed']],
    );
    assert.match(gone.problems[0]?.text ?? '', /xmpp\/gone\.dump: there is no database "gone"/);
    const [{ streams } = { streams: [] }] = (await world.json<Listing>('list')).snapshots;
    const names = streams.map(({ name }) => name);
    assert.deepEqual(names, [`xmpp/${there}.dump`, 'tree/files.tar', '_/details.jsonl']);

    world.setJobs(jobOf(postgresSource([there], { port: 1 })));
    const says = /saved nothing[^]*xmpp: .*127\.0\.0\.1.*refused/;
    await refuses(world, ['backup'], { exit: 1, code: 'nothing-saved', says });
    assert.ok(port > 1);
    await nothingLost();
  });

  test('without a pg_dump, or with one that is too old, says which is needed', needsMounts, async (t) => {
    const { world, nothingLost } = await hostWithSnapshot(t);
    const { binDir } = theService('postgres');
    const bin = join(world.dir, 'bin');
    mkdirSync(bin);
    copyFileSync(join(binDir, 'psql'), join(bin, 'psql'));
    symlinkSync(process.execPath, join(bin, 'node'));
    for (const tool of ['sh', 'dirname', 'readlink']) symlinkSync(`/usr/bin/${tool}`, join(bin, tool));
    // Debian's place for the programs of every version is empty there, so that the PATH decides.
    const sealift = await underMounts(t, 'mount -t tmpfs none /usr/lib/postgresql');
    world.setJobs(jobOf(postgresSource(['postgres'])));
    const args = ['-c', world.configFile, 'backup', '--json'];
    const run = async () => sealift(args, { cwd: world.dir, env: { PATH: bin } });

    const nothing = { exit: 1, code: 'nothing-saved' };
    assertRefusal(await run(), { ...nothing, says: /xmpp: pg_dump is not installed/ });
    copyFileSync(join(import.meta.dirname, '../fixtures/bin/too-old'), join(bin, 'pg_dump'));
    chmodSync(join(bin, 'pg_dump'), 0o755);
    const says = /xmpp: the server is PostgreSQL \d+, but the newest pg_dump here is 9/;
    assertRefusal(await run(), { ...nothing, says });
    world.setJobs(jobOf(treeSource));
    await nothingLost();
  });

  test('whose pg_dump is killed half-way is not committed, its sibling is, and latest goes back for it', async (t) => {
    const { world, nothingLost } = await hostWithSnapshot(t);
    const big = await freshDatabase();
    const small = await freshDatabase();
    const filler = `SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, 150000) n`;
    await psql(big, `CREATE TABLE message AS ${filler}`);
    await psql(small, 'CREATE TABLE account AS SELECT 1 AS id');
    world.setJobs(jobOf(postgresSource([big, small]), treeSource));
    const whole = (await world.json<BackupSummary>('backup')).snapshots[0]?.snapshot ?? '';
    put(join(world.dir, 'tree/file2'), 'later');

    const { status, stdout } = await backupWithout('pg_dump', world);
    assert.equal(status, 3);
    const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
    const { snapshot = '', problems } = snapshots[0] ?? {};
    assert.match(problems?.[0]?.text ?? '', new RegExp(`xmpp/${big}\\.dump: .*pg_dump was ended by SIGKILL`));
    assert.equal(problems?.length, 1);
    const [listed] = (await world.json<Listing>('list')).snapshots;
    assert.equal(listed?.status, 'partial');
    const names = listed.streams.map(({ name }) => name);
    assert.deepEqual(names, [`xmpp/${small}.dump`, 'tree/files.tar', '_/details.jsonl']);

    const out = join(world.dir, 'out');
    const latest = await world.run('restore', 'latest', '--to', out, '--key', world.key, '--json');
    assert.equal(latest.status, 0, latest.stderr);
    assert.match(latest.stderr, new RegExp(`xmpp is not complete in ${snapshot}; taking ${whole}`));
    assert.ok(readFileSync(join(out, `xmpp/${big}.dump`)).includes('150000'), 'to its last row');
    assert.equal(readFileSync(join(out, 'tree', world.dir.slice(1), 'tree/file2'), 'utf8'), 'later');

    world.setJobs(jobOf(postgresSource([big])));
    const alone = await backupWithout('pg_dump', world);
    assertRefusal(alone, { exit: 1, code: 'nothing-saved', says: /SIGKILL/, hint: /untouched/ });
    assert.equal((await world.json<Listing>('list')).snapshots[0]?.snapshot, snapshot, 'no snapshot of it');
    await nothingLost();
  });
});

/** A backup in which the first such program below it is killed once it has written a megabyte. */
async function backupWithout(program: string, world: World): Promise<CliResult> {
  let killed = false;
  const env = { PATH: process.env['PATH'] ?? '', HOME: world.dir };
  const result = await watched(['-c', world.configFile, '--json', 'backup'], env, (started) => {
    if (killed) return;
    const victim = started.find(({ comm }) => comm === program);
    if (victim === undefined) return;
    const written = Number(/wchar: (\d+)/.exec(aboutProcess(victim.pid, 'io'))?.[1] ?? 0);
    if (written > 2 ** 20) killed = process.kill(victim.pid, 'SIGKILL');
  });
  assert.ok(killed, `${program} was there to be killed`);
  return result;
}

test(
  'a folder in the configuration of a chat server that cannot be read hides nothing else',
  needsMounts,
  async (t) => {
    const { world } = await hostWithSnapshot(t);
    const [config, data] = [join(world.dir, 'etc/prosody'), join(world.dir, 'lib/prosody')];
    for (const folder of [join(config, 'certs'), join(config, 'lost'), data])
      mkdirSync(folder, { recursive: true });
    put(join(config, 'prosody.cfg.lua'), 'VirtualHost "a.example"\n');
    put(join(world.dir, 'etc/chat.pem'), 'the certificate');
    symlinkSync('../../chat.pem', join(config, 'certs/chat.crt'));
    world.setJobs(jobOf({ name: 'chat', kind: 'prosody', config, data }));
    // A view of a process that has ended.
    const lost = `sleep 60 & gone=$!; mount --bind /proc/$gone/fd ${config}/lost; kill $gone; wait $gone || true`;
    const mounted = await underMounts(t, lost);
    const run = (...args: string[]) => mounted(['-c', world.configFile, ...args], { cwd: world.dir });
    const saved = await run('backup');
    assert.equal(saved.status, 0, saved.stderr);
    const out = join(world.dir, 'out');
    const restored = await run('restore', '--source', 'chat', '--to', out, '--key', world.key);
    assert.equal(restored.status, 0, restored.stderr);
    assert.equal(readFileSync(join(out, 'chat', join(world.dir, 'etc/chat.pem')), 'utf8'), 'the certificate');
  },
);
