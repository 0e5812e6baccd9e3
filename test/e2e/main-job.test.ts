import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import {
  bucketStore,
  every2h,
  makeWorld,
  type BackupSummary,
  type Listing,
  type World,
} from '../support/world.ts';

const isRoot = process.geteuid?.() === 0;

/** About 300 MB of rows as a chat server has them, and a quarter of that. */
const rowsFor = { plain: 1_200_000, versioned: 300_000 };

async function fillDatabase(rows: number): Promise<string> {
  const database = await freshDatabase();
  await psql(
    database,
    `CREATE TABLE account (id int PRIMARY KEY, name text UNIQUE, scram text);
     INSERT INTO account SELECT i, 'user' || i, md5(i::text) FROM generate_series(1, 5000) i;
     CREATE TABLE message (id bigserial PRIMARY KEY, account int REFERENCES account, sent timestamptz, body text);
     INSERT INTO message (account, sent, body)
       SELECT 1 + i % 5000, '2026-01-01Z'::timestamptz + i * interval '7 seconds',
              md5(i::text) || ' the quick brown fox jumps over the lazy dog ' || repeat(md5((i / 3)::text), 4)
       FROM generate_series(1, ${rows}) i;
     CREATE INDEX ON message (sent);`,
  );
  return database;
}

/** Numbers that change when any row does: the sums of 64-bit hashes of whole rows. */
const digestOf = async (database: string): Promise<string> =>
  psql(
    database,
    `SELECT count(*), sum(hashtextextended(m::text, 0)) FROM message m;
       SELECT count(*), sum(hashtextextended(a::text, 0)) FROM account a;
       SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname;`,
  );

function makeTree(world: World): string {
  const tree = join(world.dir, 'etc');
  mkdirSync(join(tree, 'sub', 'empty'), { recursive: true });
  writeFileSync(join(tree, 'ejabberd.yml'), 'hosts:\n  - example.org\n');
  writeFileSync(join(tree, 'sub', 'secret'), pseudoRandom(1, 300_000), { mode: 0o600 });
  writeFileSync(join(tree, 'run.sh'), '#!/bin/sh\n');
  chmodSync(join(tree, 'run.sh'), 0o755);
  writeFileSync(join(tree, 'tool'), 'x');
  chmodSync(join(tree, 'tool'), 0o4711);
  chmodSync(join(tree, 'sub'), 0o2775);
  symlinkSync('../ejabberd.yml', join(tree, 'sub', 'link'));
  linkSync(join(tree, 'run.sh'), join(tree, 'sub', 'same.sh'));
  utimesSync(join(tree, 'sub', 'empty'), 1e9, 1e9);
  utimesSync(join(tree, 'ejabberd.yml'), 1.1e9, 1.1e9);
  return tree;
}

/** Type, mode, owner, size, links and target of every member, and its time in microseconds. */
function listed(tree: string): Map<string, { facts: string; timeUs: number }> {
  const format = String.raw`%P|%y %m %U:%G %s %n %l|%T@\0`;
  const members = execFileSync('find', ['.', '-printf', format], { cwd: tree, encoding: 'utf8' }).split('\0');
  return new Map(
    members.slice(0, -1).map((member) => {
      const [path = '', facts = '', time = ''] = member.split('|');
      // The size of a folder is the file system's affair.
      return [path, { facts: facts.replace(/^(d \S+ \S+) \d+/, '$1'), timeUs: Number(time) * 1e6 }];
    }),
  );
}

/** Without setuid and setgid where they could not be kept. */
function assertSameTree(actual: string, expected: string, withSetuid: boolean): void {
  execFileSync('diff', ['-r', '--no-dereference', expected, actual]);
  const members = listed(actual);
  assert.deepEqual([...members.keys()].toSorted(), [...listed(expected).keys()].toSorted());
  for (const [path, { facts, timeUs }] of listed(expected)) {
    const wanted = withSetuid ? facts : facts.replace(/^(\S+ )[2-7](\d{3} )/, '$1$2');
    assert.equal(members.get(path)?.facts, wanted, path);
    assert.ok(Math.abs(members.get(path)!.timeUs - timeUs) <= 1, `${path}: times differ by more than 1 µs`);
  }
}

for (const kind of ['plain', 'versioned'] as const)
  test(
    `a PostgreSQL database and a tree go to a ${kind} bucket and come back`,
    needs('postgres', 's3'),
    async (t: TestContext) => {
      const { host, port, user } = theService('postgres');
      const database = await fillDatabase(rowsFor[kind]);
      const { store } = await bucketStore({ versioned: kind === 'versioned' });
      const source = {
        name: 'xmpp',
        kind: 'postgres',
        host,
        port,
        user,
        databases: [database],
        globals: false,
      };
      const world = await makeWorld(t, { store, jobs: {} });
      const tree = makeTree(world);
      world.setJobs({
        databases: { schedule: every2h, sources: [source] },
        system: { schedule: every2h, sources: [{ name: 'etc', kind: 'files', paths: [tree] }] },
      });

      const first = await world.json<BackupSummary>('backup');
      assert.deepEqual(
        first.snapshots.map(({ status }) => status),
        ['complete', 'complete'],
      );
      assert.ok(
        first.snapshots[0]!.bytes > rowsFor[kind] * 200,
        `${first.snapshots[0]!.bytes} bytes of dump`,
      );
      const before = await digestOf(database);
      await psql(database, `INSERT INTO message (account, sent, body) VALUES (1, now(), 'one more')`);
      const second = await world.json<BackupSummary>('backup', 'databases');
      const { newBytes, storedBytes } = second.snapshots[0]!;
      assert.ok(newBytes < storedBytes / 5, `${newBytes} of ${storedBytes} bytes were new`);

      // No private key from here on, until the restore.
      const { snapshots } = await world.json<Listing>('list');
      assert.equal(snapshots.length, 3);
      assert.equal((await world.run('verify', '--all', '--read-data')).status, 0);

      const url = (name: string): string =>
        `postgres://${user}@localhost:${port}/${name}?host=${encodeURIComponent(host)}`;
      const old = `${database}_old`;
      const into = ['--key', world.key, '--into'];
      const oldId = first.snapshots[0]!.snapshot;
      const restoredOld = await world.run('restore', oldId, ...into, url(old));
      assert.equal(restoredOld.status, 0, restoredOld.stderr);
      assert.equal(await digestOf(old), before);
      const now = `${database}_new`;
      const restoredNow = await world.run('restore', 'latest', '--job', 'databases', ...into, url(now));
      assert.equal(restoredNow.status, 0, restoredNow.stderr);
      assert.equal(await digestOf(now), await digestOf(database));
      assert.notEqual(await digestOf(now), before);
      const again = await world.run('restore', 'latest', '--job', 'databases', ...into, url(now));
      assert.equal(again.status, 2, 'a database that is not empty is refused');

      const out = join(world.dir, 'out');
      const toTree = ['restore', 'latest', '--job', 'system', '--to', out, '--key', world.key];
      // Only root can give files to their owners, and setuid is kept only with them.
      const toDir = await world.run(...toTree, ...(isRoot ? ['--same-owner'] : []));
      assert.equal(toDir.status, 0, toDir.stderr);
      const back = join(out, 'etc', tree);
      assertSameTree(back, tree, isRoot);
      for (const name of [database, old, now]) await psql('postgres', `DROP DATABASE "${name}"`);
    },
  );
