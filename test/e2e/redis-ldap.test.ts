import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { startRedis } from '../services/redis.ts';
import { withoutServices } from '../services/services.ts';
import { fill, makeSlapd, suffixes } from '../services/slapd.ts';
import { sealift } from '../support/cli.ts';
import { put, temporary } from '../support/temporary.ts';
import { every2h, makeWorld, type BackupSummary, type Listing, type World } from '../support/world.ts';
import { watched } from './watched.ts';

/** A folder that the servers' own users can enter. */
function openFolder(t: TestContext): string {
  const folder = temporary(t);
  chmodSync(folder, 0o755);
  return folder;
}

async function restores(world: World, source: string, ...into: string[]): Promise<string> {
  const args = ['restore', 'latest', '--source', source, '--key', world.key];
  const { status, stdout, stderr } = await world.run(...args, ...into);
  assert.equal(status, 0, stderr);
  return stdout;
}

suite('Redis and OpenLDAP, by the program:', { skip: withoutServices }, () => {
  test('both are saved in one job, destroyed, and restored to what they were', async (t) => {
    const redisFolder = openFolder(t);
    const slapd = await makeSlapd(openFolder(t));
    const socket = join(redisFolder, 'socket');
    const world = await makeWorld(t, { jobs: {} });
    const jobs = (password: string) => ({
      chat: {
        schedule: every2h,
        sources: [
          { name: 'sessions', kind: 'redis', host: socket, password },
          { name: 'people', kind: 'ldap', config: slapd.config, exclude: ['dc=void'] },
        ],
      },
    });
    const everyone = (server: Awaited<ReturnType<typeof slapd.start>>): string[] =>
      suffixes
        .slice(0, 3)
        .map((suffix) => server.tool('ldapsearch', ['-LLL', '-b', suffix, '(objectClass=*)', '*', '+']));

    let people: string[];
    let digest: string;
    {
      await using redis = await startRedis(redisFolder, { settings: ['save ""'] });
      await using server = await slapd.start();
      fill(server);
      redis.cli(['SET', 'key', 'value', 'EX', '100000']);
      redis.cli(['-n', '7', 'XADD', 'stream', '1-1', 'field', 'value']);
      people = everyone(server);
      digest = redis.cli(['DEBUG', 'DIGEST']).toString();
      world.setJobs(jobs(redis.password));
      const { snapshots } = await world.json<BackupSummary>('backup');
      assert.deepEqual([snapshots[0]?.status, snapshots[0]?.problems], ['complete', []]);
    }
    const { snapshots } = await world.json<Listing>('list');
    assert.deepEqual(
      snapshots[0]?.streams.map(({ name, kind }) => `${kind} ${name}`).filter((name) => !name.includes('_/')),
      [
        'redis sessions/dump.rdb',
        'ldap people/config.ldif',
        'ldap people/dc%3Dsub%2Cdc%3Dexample%2Cdc%3Dorg.ldif',
        'ldap people/dc%3Dexample%2Cdc%3Dorg.ldif',
        'ldap people/o%3DK%C3%B6ln.ldif',
      ],
    );

    const dump = join(redisFolder, 'data/dump.rdb');
    rmSync(dump, { force: true });
    for (const folder of [slapd.config, ...Object.values(slapd.directories)])
      renameSync(folder, `${folder}.destroyed`);
    assert.match(await restores(world, 'sessions', '--into', `redis:${dump}`), /dump\.rdb made/);
    assert.match(await restores(world, 'people', '--into', `ldap:${slapd.config}`), /"o=Köln" loaded into/);
    await using redis = await startRedis(redisFolder);
    assert.equal(redis.cli(['DEBUG', 'DIGEST']).toString(), digest);
    await using server = await slapd.start();
    assert.deepEqual(everyone(server), people);

    const refused = await world.run(
      'restore',
      'latest',
      '--source',
      'people',
      '--key',
      world.key,
      '--into',
      `ldap:${slapd.config}`,
    );
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /slapd \(process \d+\) is at work/);

    await using running = await startRedis(openFolder(t));
    const into = ['--source', 'sessions', '--key', world.key, '--into', `redis://127.0.0.1:${running.port}`];
    const unasked = await world.run('restore', 'latest', ...into);
    assert.equal(unasked.status, 1);
    assert.match(unasked.stderr, /NOAUTH.*\nhint: .*password.*REDISCLI_AUTH/);
    const options = { cwd: world.dir, env: { REDISCLI_AUTH: running.password } };
    const online = await sealift(['-c', world.configFile, 'restore', 'latest', ...into], options);
    assert.equal(online.status, 0, online.stderr);
    assert.match(online.stdout, /it holds 2 keys now/);
    assert.equal(running.cli(['DEBUG', 'DIGEST']).toString(), digest);
  });

  test('a Redis that is down makes the snapshot partial, and the directory is in it', async (t) => {
    const slapd = await makeSlapd(openFolder(t));
    {
      await using server = await slapd.start();
      fill(server);
    }
    const sources = [
      { name: 'sessions', kind: 'redis', port: 1 },
      { name: 'people', kind: 'ldap', config: slapd.config, exclude: ['dc=void'] },
    ];
    const world = await makeWorld(t, { jobs: { chat: { schedule: every2h, sources } } });
    const { status, stdout } = await world.run('backup', '--json');
    assert.equal(status, 3);
    const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
    assert.deepEqual(
      snapshots[0]?.problems.map(({ source, code }) => `${source} ${code}`),
      ['sessions source-failed'],
    );
    assert.match(
      snapshots[0]?.problems[0]?.text ?? '',
      /127\.0\.0\.1, port 1: .*refused.*is the server running/,
    );
  });

  test('the password of a Redis is in the environment of redis-cli and nowhere else, and no dump is left', async (t) => {
    const trace = /cAnArY/;
    const canary = 'cAnArY:\\pass"word\'%';
    // So that redis-cli lives for a second, and is seen.
    const settings = ['repl-diskless-sync yes', 'repl-diskless-sync-delay 1'];
    await using redis = await startRedis(openFolder(t), { settings });
    redis.cli([], `CONFIG SET requirepass "${canary.replaceAll(/["\\]/g, '\\$&')}"\n`);
    const world = await makeWorld(t, { jobs: {} });
    put(join(world.dir, 'password'), `${canary}\n`, 0o600);
    const source = { kind: 'redis', port: redis.port };
    const sources = [
      { name: 'file', password: { file: 'password' }, ...source },
      { name: 'env', password: { env: 'SEALIFT_CANARY' }, ...source },
    ];
    world.setJobs({ chat: { schedule: every2h, sources } });
    const TMPDIR = join(world.dir, 'tmp');
    mkdirSync(TMPDIR);
    const env = { PATH: process.env['PATH'] ?? '', HOME: world.dir, TMPDIR, SEALIFT_CANARY: canary };
    const args = ['-c', world.configFile, '-v', '-v', '--json', 'backup'];
    const inArguments: string[] = [];
    const inEnvironment = new Set<string>();
    const { status, stdout, stderr } = await watched(args, env, (started) => {
      for (const { comm, cmdline, environ } of started) {
        if (trace.test(cmdline)) inArguments.push(cmdline);
        if (trace.test(environ)) inEnvironment.add(comm);
      }
    });
    assert.equal(status, 0, stdout + stderr);
    assert.deepEqual(inArguments, []);
    assert.deepEqual([...inEnvironment], ['redis-cli']);
    assert.doesNotMatch(stdout + stderr, trace);
    assert.deepEqual(readdirSync(TMPDIR), []);
    const shown = await world.run('show', 'latest', '--files', '--key', world.key, '--json');
    assert.doesNotMatch(shown.stdout, trace);
    for (const folder of ['store', 'state'])
      for (const entry of readdirSync(join(world.dir, folder), { recursive: true, withFileTypes: true }))
        if (entry.isFile())
          assert.ok(!trace.test(readFileSync(join(entry.parentPath, entry.name), 'latin1')), entry.name);
    assert.ok(existsSync(join(world.dir, 'store')));
  });
});
