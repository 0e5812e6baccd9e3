import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { sealift } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld, type BackupSummary } from '../support/world.ts';
import { watched } from './watched.ts';

const canary = 'cAnArY:\\pass"word\'%';
/** Found however it is quoted or cut. */
const trace = /cAnArY/;

suite('a password', needs('postgres'), () => {
  test('of any form is in no output, error, process, file or object', async (t) => {
    const { tcpHost: host, port } = theService('postgres');
    const database = await freshDatabase();
    const user = `user_${database}`;
    await psql('postgres', `CREATE ROLE ${user} LOGIN PASSWORD '${canary.replaceAll("'", "''")}'`);
    await psql(database, 'CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n');
    await psql(database, `ALTER TABLE t OWNER TO ${user}`);
    const source = { kind: 'postgres', databases: [database], globals: false, host, port, user };
    const world = await makeWorld(t, { jobs: {} });
    put(join(world.dir, 'password'), `${canary}\n`, 0o600);
    const sources = [
      { name: 'plain', password: canary, ...source },
      { name: 'env', password: { env: 'SEALIFT_CANARY' }, ...source },
      { name: 'file', password: { file: 'password' }, ...source },
    ];
    world.setJobs({ databases: { schedule: every2h, sources } });
    const TMPDIR = join(world.dir, 'tmp');
    mkdirSync(TMPDIR);
    const env = { PATH: process.env['PATH'] ?? '', HOME: world.dir, TMPDIR, SEALIFT_CANARY: canary };

    await t.test('while all three are used', async () => {
      const seen: string[] = [];
      const programs = new Set<string>();
      const args = ['-c', world.configFile, '-v', '-v', '--json', 'backup'];
      const { status, stdout, stderr } = await watched(args, env, (started, self) => {
        if (trace.test(self.cmdline)) seen.push(self.cmdline);
        for (const { comm, cmdline, environ } of started) {
          programs.add(comm);
          if (trace.test(cmdline + environ)) seen.push(cmdline);
        }
      });
      assert.equal(status, 0, stdout + stderr);
      const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
      assert.equal(snapshots[0]?.status, 'complete', 'each of them opened the database');
      assert.ok(programs.has('pg_dump'), `saw ${[...programs].join(' ')}`);
      assert.deepEqual(seen, []);
      assert.doesNotMatch(stdout + stderr, trace);
    });

    await t.test('nor is it in the index, the details, the state or the store', async () => {
      const shown = await world.run('show', 'latest', '--files', '--key', world.key, '--json');
      assert.equal(shown.status, 0);
      assert.doesNotMatch(shown.stdout, trace);
      const details = await world.run('show', 'latest', '--key', world.key, '-v', '-v');
      assert.doesNotMatch(details.stdout + details.stderr, trace);
      for (const folder of ['store', 'state', 'restore-kit', 'keys'])
        for (const entry of readdirSync(join(world.dir, folder), { recursive: true, withFileTypes: true }))
          if (entry.isFile())
            assert.ok(!trace.test(readFileSync(join(entry.parentPath, entry.name), 'latin1')), entry.name);
    });

    await t.test('nor in what is said when the server refuses it, or when it is missing', async () => {
      await psql('postgres', `ALTER ROLE ${user} PASSWORD 'another'`);
      for (const args of [['backup'], ['-v', '-v', 'backup'], ['--json', 'backup']]) {
        const { status, stdout, stderr } = await sealift(['-c', world.configFile, ...args], {
          cwd: world.dir,
          env,
        });
        assert.equal(status, 1);
        assert.match(stdout + stderr, /password authentication failed/);
        assert.doesNotMatch(stdout + stderr, trace);
      }
      // Without the variable: its name is told, not a value.
      const { stdout } = await world.run('backup', '--json');
      assert.match(stdout, /SEALIFT_CANARY/);
      assert.doesNotMatch(stdout, trace);
    });

    await t.test('and no temporary file with it is left', () => {
      assert.deepEqual(readdirSync(TMPDIR), []);
    });
  });
});
