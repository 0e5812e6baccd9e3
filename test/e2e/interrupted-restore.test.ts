import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { launcher, programEnv } from '../support/cli.ts';
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
