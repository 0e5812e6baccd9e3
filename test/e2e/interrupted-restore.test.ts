import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { resign } from '../support/resign.ts';
import { every2h, makeWorld } from '../support/world.ts';

test('a restore that is interrupted says which databases are back', needs('postgres'), async (t) => {
  const { host, port, user } = theService('postgres');
  const [back = '', waiting = ''] = [await freshDatabase(), await freshDatabase()].toSorted();
  for (const database of [back, waiting]) await psql(database, 'CREATE TABLE t AS SELECT 1 AS one');
  const source = {
    name: 'pg',
    kind: 'postgres',
    host,
    port,
    user,
    databases: [back, waiting],
    globals: false,
  };
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources: [source] } } });
  assert.equal((await world.run('backup')).status, 0);
  await psql('postgres', `DROP DATABASE ${back}`);
  await psql(waiting, 'DROP TABLE t');

  // Whoever makes a table of the same name waits for the end of this.
  const held = psql(waiting, 'BEGIN; CREATE TABLE t (); SELECT pg_sleep(600)').catch(() => undefined);
  const letGo = () => psql('postgres', `SELECT pg_terminate_backend(pid) ${sessions('true')}`);
  t.after(letGo);
  const sessions = (where: string): string =>
    `FROM pg_stat_activity WHERE datname = '${waiting}' AND ${where}`;
  while ((await psql('postgres', `SELECT count(*) ${sessions(`wait_event = 'PgSleep'`)}`)) === '0')
    await delay(20);

  const url = `postgres://${user}@localhost:${port}?host=${encodeURIComponent(host)}`;
  const child = spawn(launcher, ['-c', world.configFile, 'restore', '--key', world.key, '--into', url], {
    env: programEnv(world.dir),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said = child.stderr.setEncoding('utf8').toArray();
  const ended = once(child, 'close');
  while ((await psql('postgres', `SELECT count(*) ${sessions(`wait_event_type = 'Lock'`)}`)) === '0')
    await Promise.race([delay(20), ended.then(() => assert.fail('it ended before it was interrupted'))]);
  child.kill('SIGINT');
  // timeout(1) sends it to the program and then to its group, which is no second wish; not even while the process ends.
  while (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGINT');
    await delay(1);
  }
  assert.deepEqual(await ended, [130, null]);
  assert.equal(
    (await said).join(''),
    `error: interrupted by SIGINT; done before: database "${back}" made and loaded\n`,
  );
  await letGo();
  await held;
  assert.equal(await psql(back, 'SELECT * FROM t'), '1');
  assert.equal(await psql(waiting, `SELECT to_regclass('t') IS NULL`), 't');
});

test(
  'a database that is damaged in the store keeps no other from coming back',
  needs('postgres'),
  async (t) => {
    const { host, port, user } = theService('postgres');
    const databases = (await Promise.all([1, 2, 3].map(() => freshDatabase()))).toSorted();
    for (const database of databases)
      await psql(
        database,
        `CREATE TABLE t AS SELECT md5(i || '${database}') FROM generate_series(1, 50000) i`,
      );
    const [first = '', lost = '', last = ''] = databases;
    const source = { name: 'pg', kind: 'postgres', host, port, user, databases, globals: false };
    const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources: [source] } } });
    const { snapshots } = await world.json<{ snapshots: { snapshot: string }[] }>('backup');
    const { snapshot } = snapshots[0]!;
    let object = '';
    await resign(world, snapshot, (text) => {
      const { streams } = JSON.parse(text) as { streams: { name: string; segments: [number, string][] }[] };
      object = streams.find(({ name }) => name === `pg/${lost}.dump`)!.segments.at(-1)![1];
      return text;
    });
    rmSync(join(world.dir, 'store/h1/snap', snapshot, 's', `${object}.zst.gpg`));
    for (const database of databases) await psql('postgres', `DROP DATABASE ${database}`);

    const url = `postgres://${user}@localhost:${port}?host=${encodeURIComponent(host)}`;
    const { status, stdout } = await world.run('--json', 'restore', '--key', world.key, '--into', url);
    assert.equal(status, 21, stdout);
    const summary = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as {
      restored: string[];
      damaged: string[];
    };
    assert.deepEqual(
      summary.restored,
      [first, last].map((name) => `database "${name}" made and loaded`),
    );
    assert.match(
      summary.damaged.join(),
      new RegExp(`^pg/${lost}.dump of ${snapshot} cannot be read whole: .*missing`),
    );
    assert.equal(await psql(last, 'SELECT count(*) FROM t'), '50000');
    assert.equal(await psql('postgres', `SELECT count(*) FROM pg_database WHERE datname = '${lost}'`), '0');

    const alone = ['--source', `pg/${lost}.dump`, '--into', url];
    const refused = await world.run('restore', '--key', world.key, ...alone);
    assert.equal(refused.status, 21);
    assert.match(
      refused.stderr,
      new RegExp(`^error: pg/${lost}.dump of ${snapshot} cannot be read whole: .*missing`),
    );
  },
);
