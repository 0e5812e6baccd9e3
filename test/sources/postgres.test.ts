import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { mapConcurrent } from '../../src/concurrency.ts';
import type { PostgresConfig } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { ToolFailure } from '../../src/process.ts';
import { explain, reach, type Server } from '../../src/sources/postgres-connection.ts';
import { loadPostgres, parseTarget, postgresLoader } from '../../src/sources/postgres-restore.ts';
import { sqlStatements } from '../../src/sources/postgres-globals.ts';
import { dumpOptions, inspectExcludes, parsePattern } from '../../src/sources/postgres-tables.ts';
import { postgresSource } from '../../src/sources/postgres.ts';
import { type PostgresService, startPostgres } from '../services/postgres.ts';
import { freePorts } from '../services/server-group.ts';
import { withoutServices } from '../services/services.ts';
import { canary, watchForCanary } from '../support/canary.ts';
import { childNamed } from '../support/child-named.ts';
import { failsWith } from '../support/fails-with.ts';
import { newRun as freshRun, type Run } from './run.ts';
import { asSaved, damagedAt, saveAll, saveStream, type Saved } from './saved.ts';

const oddPassword = `${canary}:\\pass"word'%`;
const oddNames = [
  'with space',
  'we=ird',
  `q'u"o\\te`,
  '-dash',
  'ünï😀',
  'postgres://host/db',
  'line\nbreak',
  '%41',
  '.',
];
const fixtures = join(import.meta.dirname, '../fixtures/bin');

/** What a test makes is removed at the end of the file. */
let scratch = '';
let server: PostgresService & AsyncDisposable;
let other: PostgresService & AsyncDisposable;

async function newDirectory(mode: number): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, mode);
  return path;
}

const newRun = (signal?: AbortSignal): Run => freshRun(signal, () => newDirectory(0o700));

function onSocket(change: Partial<PostgresConfig> = {}): PostgresConfig {
  const { host, port, user } = server;
  const what = {
    name: 'pg',
    kind: 'postgres',
    databases: 'all',
    exclude: [],
    excludeTables: [],
    excludeTableData: [],
    parallel: 1,
    globals: true,
  } satisfies Partial<PostgresConfig>;
  return { ...what, host, port, user, password: undefined, ...change };
}

const overTcp = (change: Partial<PostgresConfig> = {}): PostgresConfig =>
  onSocket({ host: server.tcpHost, password: new Secret(() => server.password), ...change });

async function psql(service: PostgresService, database: string, sql: string): Promise<string> {
  const { host, port, user, binDir } = service;
  const env = {
    PGHOST: host,
    PGPORT: String(port),
    PGUSER: user,
    PGDATABASE: database,
    PATH: process.env['PATH'],
  };
  const args = ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', sql];
  return (await promisify(execFile)(join(binDir, 'psql'), args, { env })).stdout.trim();
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

const save = (config: PostgresConfig, run = newRun(), directories?: string[]): Promise<Saved[]> =>
  saveAll(postgresSource(config, directories), run);

const saveOne = async (database: string) => save(onSocket({ databases: [database], globals: false }));

const filesNow = async () => (await postgresSource(onSocket()).streams(newRun())).map(({ file }) => file);

/** Every table with the hash of its rows, in an order of their own. */
async function contentOf(service: PostgresService, database: string): Promise<unknown> {
  const tables = `SELECT coalesce(json_agg(format('%I.%I', schemaname, tablename) ORDER BY 1), '[]') FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`;
  const content: Record<string, string> = {};
  for (const table of JSON.parse(await psql(service, database, tables)) as string[])
    content[table] = await psql(
      service,
      database,
      `SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ${table} t`,
    );
  return content;
}

/** A folder of programs in which one is a fixture. */
async function programsWith(name: string, fixture: string): Promise<string[]> {
  const directory = await newDirectory(0o755);
  for (const program of ['psql', 'pg_dump', 'pg_dumpall', 'pg_restore'])
    if (program !== name) await symlink(join(server.binDir, program), join(directory, program));
  await copyFile(join(fixtures, fixture), join(directory, name));
  return [directory];
}

const into = (service: PostgresService, database = '') =>
  `postgres:///${encodeURIComponent(database)}?user=${service.user}&host=${service.host}&port=${service.port}`;

const loading = (change: object = {}) => ({ ...newRun(), force: false, ...change });

/** As pg_createcluster lays them out: the configuration in a folder of its own. */
async function clusters(of: Record<string, { service: PostgresService; port?: number }>): Promise<string> {
  const root = await newDirectory(0o755);
  for (const [name, { service, port = service.port }] of Object.entries(of)) {
    const folder = join(root, name);
    await mkdir(join(folder, 'conf.d'), { recursive: true });
    const lines = [
      `data_directory = '${join(dirname(service.host), 'data')}'\t\t# use data in another directory`,
      'port = 5432\t\t\t\t# (change requires restart)',
      `unix_socket_directories = '${service.host}, /nowhere'`,
      `include_dir = 'conf.d'`,
    ];
    await writeFile(join(folder, 'postgresql.conf'), `${lines.join('\n')}\n`);
    await writeFile(join(folder, 'conf.d', 'moved.conf'), `port = ${port}\n`);
  }
  return root;
}
const major = () => server.binDir.split('/').at(-2) ?? '';
const ofCluster = (name: string, root: string) =>
  postgresSource(
    onSocket({ cluster: `${major()}/${name}`, host: undefined, port: undefined, databases: ['which'] }),
    undefined,
    root,
  );

const excluding = (change: Partial<PostgresConfig>) =>
  onSocket({ databases: ['shop'], globals: false, ...change });
/** A file that is not there. psql, which may run as another user, could make it. */
const newMark = async () => join(await newDirectory(0o777), 'was-here');
const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** What each of these patterns keeps out of the dump that pg_dump makes with it. */
async function leftOut(patterns: string[]): Promise<Record<string, string[]>> {
  const where = [
    ['--host', server.host],
    ['--port', String(server.port)],
    ['--username', server.user],
  ].flat();
  const all = (
    await psql(
      server,
      'shop',
      `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information)' ORDER BY 1`,
    )
  ).split('\n');
  const pairs = await mapConcurrent(patterns, 3, async (pattern) => {
    const args = [...where, '--schema-only', ...dumpOptions(patternsOf([pattern])), 'shop'];
    const { stdout } = await promisify(execFile)(join(server.binDir, 'pg_dump'), args);
    return [pattern, all.filter((table) => !stdout.includes(`CREATE TABLE ${table} (`))] as const;
  });
  return Object.fromEntries(pairs);
}
/** The body of a function that tells who has run it. */
const runs = (what: string) =>
  `LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.runs VALUES (current_user); RETURN ${what}; END $$`;
const patternsOf = (patterns: string[]) => ({ tables: patterns.map(parsePattern), data: [] });

const expectations: Record<string, string[]> = {
  // Only what a query would find without a schema.
  plain: ['public.plain'],
  PLAIN: ['public.plain'],
  '"PLAIN"': [],
  'logs.*': ['logs.access', 'logs.plain'],
  'a?b': ['public."a*b"', 'public.aab', 'public.axb'],
  '"a*b"': ['public."a*b"'],
  'SHOP.logs.access': ['logs.access'],
};

/** Commits wait for a standby of that name, or for none. */
async function waitForStandby(name: string): Promise<void> {
  await psql(server, 'postgres', `ALTER SYSTEM SET synchronous_standby_names = '${name}'`);
  await psql(server, 'postgres', 'SELECT pg_reload_conf()');
}

suite('postgres', { skip: withoutServices }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-postgres-'));
    await chmod(scratch, 0o755);
    const signal = new AbortController().signal;
    server = await startPostgres(await newDirectory(0o755), signal);
    other = await startPostgres(await newDirectory(0o755), signal);
    await psql(server, 'postgres', `CREATE ROLE owner LOGIN PASSWORD '${oddPassword.replaceAll("'", "''")}'`);
    await psql(server, 'postgres', `CREATE ROLE "odd ""r'o;le" IN ROLE owner`);
    await psql(server, 'postgres', `COMMENT ON ROLE owner IS E'it''s; a \\\\ \\\\! comment -- "'`);
    for (const name of oddNames) {
      await psql(
        server,
        'postgres',
        `CREATE DATABASE ${quoted(name)} OWNER owner TEMPLATE template0 LC_COLLATE 'C'`,
      );
      const rows = `SELECT n AS id, md5(n::text || current_database()) AS text FROM generate_series(1, 500) n`;
      await psql(server, name, `CREATE TABLE "t a" AS ${rows}; ALTER TABLE "t a" OWNER TO owner`);
      await psql(
        server,
        name,
        `CREATE SCHEMA s; CREATE TABLE s.b (a int PRIMARY KEY); INSERT INTO s.b VALUES (1)`,
      );
      await psql(server, name, `SELECT lo_from_bytea(0, 'large object')`);
    }
    await psql(server, 'postgres', `ALTER DATABASE "we=ird" SET default_transaction_read_only = on`);
    await psql(server, 'postgres', `ALTER ROLE "odd ""r'o;le" IN DATABASE "-dash" SET work_mem = '5MB'`);
    await psql(server, 'postgres', `COMMENT ON DATABASE "with space" IS 'it''s; this'`);
    await psql(server, 'postgres', `GRANT CREATE ON DATABASE "-dash" TO "odd ""r'o;le"`);
    await psql(server, 'postgres', `CREATE DATABASE big`);
    const filler = `CREATE TABLE big AS SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 200000) n`;
    await psql(server, 'big', filler);
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('a whole server comes back on another: odd names, rows, roles, owners, settings, collation', async () => {
    const saved = await save(onSocket({ exclude: ['big'] }));
    assert.equal(saved.length, 1 + oddNames.length + 1);
    for (const { file } of saved) assert.match(file, /^[A-Za-z0-9_%-][A-Za-z0-9_.%-]*$/);
    const { lines } = await loadPostgres(into(other), saved, loading());
    for (const name of oddNames) {
      assert.ok(lines.some((line) => line.startsWith(`database ${JSON.stringify(name)} made and loaded`)));
      assert.deepEqual(await contentOf(other, name), await contentOf(server, name));
      assert.equal(
        await psql(other, name, `SELECT tableowner FROM pg_tables WHERE tablename = 't a'`),
        'owner',
      );
      assert.equal(await psql(other, name, 'SELECT count(*) FROM pg_largeobject_metadata'), '1');
    }
    const query = `SELECT rolname, rolpassword, rolcanlogin FROM pg_authid WHERE rolname ~ 'owner|odd' ORDER BY 1`;
    assert.equal(await psql(other, 'postgres', query), await psql(server, 'postgres', query));
    const comment = `SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = 'owner'`;
    assert.equal(await psql(other, 'postgres', comment), await psql(server, 'postgres', comment));
    const databases = `SELECT json_agg(json_build_array(datname, datdba::regrole, datcollate, datacl, shobj_description(oid, 'pg_database')) ORDER BY datname)
      FROM pg_database WHERE datname NOT IN ('big', E'line\\nbreak')`;
    assert.equal(await psql(other, 'postgres', databases), await psql(server, 'postgres', databases));
    const settings = `SELECT datname, setrole::regrole, setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase ORDER BY 1`;
    assert.equal(
      await psql(other, 'postgres', settings),
      `-dash|"odd ""r'o;le"|{work_mem=5MB}\nwe=ird|-|{default_transaction_read_only=on}`,
    );
  });

  test('a second load of the same is refused, with force it is repeated', async () => {
    const saved = await saveOne('with space');
    await assert.rejects(
      loadPostgres(into(other), saved, loading()),
      failsWith('target-exists', /"with space".*not empty/),
    );
    await psql(other, 'with space', 'DELETE FROM "t a"');
    await loadPostgres(into(other), saved, loading({ force: true }));
    assert.deepEqual(await contentOf(other, 'with space'), await contentOf(server, 'with space'));
  });

  test('one dump loads into a database of another name, made with the collation of the first', async () => {
    const { lines } = await loadPostgres(into(server, 'ne"w=one'), await saveOne('we=ird'), loading());
    assert.deepEqual(lines, ['database "ne\\"w=one" made and loaded']);
    assert.deepEqual(await contentOf(server, 'ne"w=one'), await contentOf(server, 'we=ird'));
    const collation = `SELECT datcollate FROM pg_database WHERE datname = 'ne"w=one'`;
    assert.equal(await psql(server, 'postgres', collation), 'C');
    await psql(server, 'postgres', `DROP DATABASE ${quoted('ne"w=one')}`);
  });

  test('a dump loads into an empty database that is already there', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE prepared');
    await loadPostgres(into(server, 'prepared'), await saveOne('-dash'), loading());
    assert.deepEqual(await contentOf(server, 'prepared'), await contentOf(server, '-dash'));
    await psql(server, 'postgres', 'DROP DATABASE prepared');
  });

  test('a load that fails leaves nothing of a new database, and an old one as it was', async () => {
    const [dump] = await saveOne('with space');
    assert.ok(dump);
    const cut = asSaved(dump.file, dump.bytes.subarray(0, dump.bytes.length - 20));
    await assert.rejects(
      loadPostgres(into(server, 'fresh'), [cut], loading()),
      failsWith('restore-failed', /"fresh"/),
    );
    assert.equal(
      await psql(server, 'postgres', `SELECT count(*) FROM pg_database WHERE datname = 'fresh'`),
      '0',
    );
    const old = await contentOf(server, '-dash');
    await assert.rejects(loadPostgres(into(server, '-dash'), [cut], loading({ force: true })));
    assert.deepEqual(await contentOf(server, '-dash'), old);
  });

  test('a dump that the store does not have whole keeps no other from being loaded', async () => {
    const config = onSocket({ databases: ['-dash', 'with space', 'big'], globals: false });
    const [dash, space, big] = await save(config);
    const before = await contentOf(server, 'with space');
    const lost = damagedAt(space!.bytes.length - 20, space!);
    const { lines, damaged } = await loadPostgres(
      into(server),
      [dash!, lost, big!],
      loading({ force: true }),
    );
    assert.deepEqual(
      lines.map((line) => line.replace('made and ', '')),
      ['database "-dash" loaded', 'database "big" loaded'],
    );
    assert.deepEqual(
      damaged?.map(({ file, error }) => [file, error.message]),
      [[space!.file, `${space!.file} cannot be read whole`]],
    );
    assert.deepEqual(await contentOf(server, 'with space'), before);
    await assert.rejects(
      loadPostgres(into(server), [lost, damagedAt(400, dash!)], loading({ force: true })),
      failsWith('verify-failed', /^with%20space.dump .* whole; -dash.dump cannot be read whole$/),
    );
    const [globals] = await save(onSocket({ databases: ['-dash'] }));
    await assert.rejects(
      loadPostgres(into(server), [damagedAt(20, globals!), dash!], loading({ force: true })),
      failsWith('verify-failed', /^globals.sql cannot/, /--source SOURCE\/FILE for each/),
    );
    const mangled = asSaved(dash!.file, Buffer.from('no dump'));
    await assert.rejects(
      loadPostgres(into(server), [lost, mangled], loading({ force: true })),
      failsWith('restore-failed', /^loading.*"-dash" failed.*; with%20space.dump cannot be read whole$/),
    );
  });

  test('what a load that fails leaves behind is in its error', async () => {
    await psql(server, 'postgres', 'CREATE ROLE lender');
    await psql(server, 'postgres', 'CREATE DATABASE lent OWNER lender');
    await psql(server, 'lent', 'CREATE TABLE t AS SELECT 1 AS a');
    const [dump] = await saveOne('lent');
    assert.ok(dump);
    await psql(server, 'postgres', 'DROP DATABASE lent');
    await psql(server, 'postgres', 'DROP ROLE lender');
    await psql(server, 'postgres', 'CREATE DATABASE lent');
    await assert.rejects(
      loadPostgres(into(server), [dump], loading()),
      failsWith('restore-failed', /"lender" does not exist.* is loaded, but not all of its owner, settings/),
    );
    assert.equal(await psql(server, 'lent', 'SELECT count(*) FROM t'), '1');
    await psql(server, 'postgres', 'DROP DATABASE lent');

    async function* open(): AsyncGenerator<Uint8Array> {
      yield* dump?.open() ?? [];
      const made = `SELECT count(*) FROM pg_database WHERE datname = 'stuck'`;
      if ((await psql(server, 'postgres', made)) === '0') return;
      await psql(server, 'postgres', 'ALTER DATABASE stuck IS_TEMPLATE true');
      throw new SealiftError('verify-failed', 'the segment is damaged');
    }
    await assert.rejects(
      loadPostgres(into(server, 'stuck'), [{ file: dump.file, open }], loading()),
      failsWith(
        'verify-failed',
        /segment is damaged; .*"stuck" was made for it and could not be dropped again/,
      ),
    );
    await psql(server, 'postgres', 'ALTER DATABASE stuck IS_TEMPLATE false');
    await psql(server, 'postgres', 'DROP DATABASE stuck');
  });

  test('a server that reads NULL in an array as a word is refused, before anything is changed', async () => {
    const saved = await saveOne('-dash');
    await psql(server, 'postgres', 'CREATE DATABASE prepared');
    await psql(server, 'postgres', 'ALTER DATABASE prepared SET array_nulls = off');
    const refused = failsWith('restore-failed', /"prepared".* array_nulls = off/, /SET array_nulls = on/);
    for (const force of [false, true])
      await assert.rejects(loadPostgres(into(server, 'prepared'), saved, loading({ force })), refused);
    await psql(server, 'postgres', 'DROP DATABASE prepared');
    await psql(server, 'postgres', 'ALTER ROLE postgres SET array_nulls = off');
    await assert.rejects(loadPostgres(into(server, 'prepared'), saved, loading()), refused);
    await psql(server, 'postgres', 'ALTER ROLE postgres RESET array_nulls');
  });

  test('the limits that a role has for its statements are none for what is asked and made', async () => {
    const setting = [
      `statement_timeout = '500ms'`,
      `lock_timeout = '300ms'`,
      `idle_in_transaction_session_timeout = '500ms'`,
    ];
    await psql(server, 'postgres', 'CREATE ROLE hasty LOGIN SUPERUSER');
    for (const one of setting) await psql(server, 'postgres', `ALTER ROLE hasty SET ${one}`);
    const config = onSocket({ user: 'hasty', databases: ['big'], globals: false });
    const saved = await save(config);
    const url = into(server, 'hastily').replace('user=postgres', 'user=hasty');
    const loadWhileHeld = async (database: string, table: string, mode: string): Promise<void> => {
      const waits = `SELECT FROM pg_stat_activity WHERE usename = 'hasty' AND wait_event_type = 'Lock'`;
      const held = `BEGIN; LOCK ${table} IN ${mode} MODE;
        DO $$ BEGIN FOR i IN 1..600 LOOP
          PERFORM pg_stat_clear_snapshot(); EXIT WHEN EXISTS (${waits}); PERFORM pg_sleep(0.05);
          IF i = 600 THEN RAISE 'nobody waits'; END IF;
        END LOOP; END $$; SELECT pg_sleep(1); COMMIT`;
      const holding = psql(server, database, held);
      const isHeld = `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = '${table}'::regclass AND mode <> 'AccessShareLock' AND granted)`;
      while ((await psql(server, 'postgres', isHeld)) !== 't') await delay(20);
      await Promise.all([loadPostgres(url, saved, loading()), holding]);
      assert.equal(await psql(server, 'hastily', 'SELECT count(*) FROM big'), '200000');
      await psql(server, 'postgres', 'DROP DATABASE hastily');
    };
    await loadWhileHeld('postgres', 'pg_database', 'SHARE'); // which making one waits for
    await psql(server, 'postgres', 'CREATE DATABASE hastily');
    await loadWhileHeld('hastily', 'pg_largeobject_metadata', 'ACCESS EXCLUSIVE'); // and a look at what is there
    await psql(server, 'postgres', 'DROP ROLE hasty');
  });

  test('the limit that a role has for its transactions, from PostgreSQL 17 on, is none for what is made', async (t) => {
    const known = `SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'`;
    if ((await psql(server, 'postgres', known)) === '0') return t.skip('the server is older');
    await psql(server, 'postgres', 'CREATE ROLE hasty LOGIN SUPERUSER');
    await psql(server, 'postgres', `ALTER ROLE hasty SET transaction_timeout = '2s'`);
    const saved = await saveOne('-dash');
    const holding = psql(
      server,
      'postgres',
      'BEGIN; LOCK pg_database IN SHARE MODE; SELECT pg_sleep(4); COMMIT',
    );
    await loadPostgres(into(server, 'hastily').replace('user=postgres', 'user=hasty'), saved, loading());
    await holding;
    await psql(server, 'postgres', 'DROP DATABASE hastily');
    await psql(server, 'postgres', 'DROP ROLE hasty');
  });

  test('functions that somebody made in a database are not run by the login, who may be a superuser', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE trap OWNER owner');
    await psql(
      server,
      'trap',
      `SET ROLE owner; CREATE TABLE runs (who text); CREATE TABLE plain ();
       CREATE FUNCTION first(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1';
       CREATE FUNCTION as_json(text) RETURNS json ${runs(`'[]'::json`)};
       CREATE AGGREGATE json_agg(text) (sfunc = first, stype = text, finalfunc = as_json);
       CREATE FUNCTION to_json(boolean) RETURNS json ${runs(`'false'::json`)};
       CREATE FUNCTION to_json(text) RETURNS json ${runs('pg_catalog.to_json($1)')};
       CREATE FUNCTION is_same(oid, regclass) RETURNS boolean ${runs('true')};
       CREATE OPERATOR = (leftarg = oid, rightarg = regclass, function = is_same)`,
    );
    const run = newRun();
    const config = onSocket({ databases: ['trap'], globals: false, excludeTables: ['plain', 'runs'] });
    const saved = await save(config, run);
    assert.deepEqual(run.codes, []);
    await assert.rejects(loadPostgres(into(server, 'trap'), saved, loading()), failsWith('target-exists'));
    assert.equal(await psql(server, 'trap', 'SELECT count(*) FROM runs'), '0');
    await psql(server, 'postgres', 'DROP DATABASE trap');
  });

  test('an interruption while a database is made leaves none behind', async () => {
    const [directory = ''] = await programsWith('psql', 'ok');
    const mark = await newMark();
    const slow = `#!/bin/sh
      case "$*" in
        *--file=-*) ${join(server.binDir, 'psql')} "$@" && touch ${mark} && sleep 1;;
        *) exec ${join(server.binDir, 'psql')} "$@";;
      esac`;
    await writeFile(join(directory, 'psql'), slow);
    const abort = new AbortController();
    const load = loadPostgres(into(server, 'fresh'), await saveOne('-dash'), {
      ...loading({ directories: [directory] }),
      signal: abort.signal,
    });
    load.catch(() => {});
    while (!existsSync(mark)) await delay(20);
    abort.abort(new SealiftError('interrupted', 'interrupted'));
    await assert.rejects(load, failsWith('interrupted'));
    const left = `SELECT count(*) FROM pg_database WHERE datname = 'fresh'`;
    assert.equal(await psql(server, 'postgres', left), '0');
  });

  test('a database that the server is slow to make is not left behind by an interruption', async () => {
    const holding = psql(
      server,
      'postgres',
      'BEGIN; LOCK pg_database IN SHARE MODE; SELECT pg_sleep(9); COMMIT',
    );
    const creating = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE "it''s slow"%'`;
    const abort = new AbortController();
    const saved = await saveOne('-dash');
    const load = loadPostgres(into(server, "it's slow"), saved, { ...loading(), signal: abort.signal });
    load.catch(() => {});
    while ((await psql(server, 'postgres', creating)) === '0') await delay(20);
    abort.abort(new SealiftError('interrupted', 'interrupted'));
    await assert.rejects(load, failsWith('interrupted', /^interrupted$/));
    await holding;
    assert.equal(await psql(server, 'postgres', creating), '0');
    const left = `SELECT count(*) FROM pg_database WHERE datname = 'it''s slow'`;
    assert.equal(await psql(server, 'postgres', left), '0');
  });

  test('an interruption while a database is made leaves alone what others make under its name', async () => {
    const holding = psql(
      server,
      'postgres',
      'BEGIN; LOCK pg_database IN SHARE MODE; SELECT pg_sleep(9); COMMIT',
    );
    const creating = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE "twice"%'`;
    const abort = new AbortController();
    const saved = await saveOne('-dash');
    const staying = loadPostgres(into(server, 'twice'), saved, loading());
    const load = loadPostgres(into(server, 'twice'), saved, { ...loading(), signal: abort.signal });
    for (const one of [staying, load]) one.catch(() => {});
    while ((await psql(server, 'postgres', creating)) !== '2') await delay(20);
    abort.abort(new SealiftError('interrupted', 'interrupted'));
    await assert.rejects(load, failsWith('interrupted'));
    await staying;
    await holding;
    await psql(server, 'postgres', 'DROP DATABASE twice');
  });

  test('an interruption before the server refuses to make a database leaves the one that is there', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE early');
    const abort = new AbortController();
    const saved = await saveOne('-dash');
    const renaming = psql(
      server,
      'postgres',
      'BEGIN; ALTER DATABASE early RENAME TO late; SELECT pg_sleep(4); COMMIT',
    );
    const load = loadPostgres(into(server, 'late'), saved, { ...loading(), signal: abort.signal });
    load.catch(() => {});
    const creating = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE "late"%'`;
    while ((await psql(server, 'postgres', creating)) === '0') await delay(20);
    abort.abort(new SealiftError('interrupted', 'interrupted'));
    await assert.rejects(load, failsWith('restore-failed', /pg_database_datname_index/));
    await renaming;
    await psql(server, 'postgres', 'DROP DATABASE late');
  });

  test('an interruption leaves the database that gets the name when the making of another has been ended', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE early');
    const abort = new AbortController();
    const saved = await saveOne('-dash');
    const creating = `SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE "late"%'`;
    const wait = 'PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP';
    const renaming = psql(
      server,
      'postgres',
      `DO $$ BEGIN ALTER DATABASE early RENAME TO late;
         WHILE NOT EXISTS (${creating}) LOOP ${wait}; WHILE EXISTS (${creating}) LOOP ${wait}; END $$`,
    );
    await delay(300);
    const load = loadPostgres(into(server, 'late'), saved, { ...loading(), signal: abort.signal });
    load.catch(() => {});
    while ((await psql(server, 'postgres', creating)) === '') await delay(20);
    abort.abort(new SealiftError('interrupted', 'interrupted'));
    await assert.rejects(load, failsWith('interrupted'));
    await renaming;
    await psql(server, 'postgres', 'DROP DATABASE late');
  });

  test('a database that is there although its making was ended is dropped again', async () => {
    const saved = await saveOne('-dash');
    const abort = new AbortController();
    // A server that waits for a standby has committed, and an end of the wait takes nothing back.
    await waitForStandby('nobody');
    try {
      const load = loadPostgres(into(server, 'half'), saved, { ...loading(), signal: abort.signal });
      load.catch(() => {});
      const making = `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE "half"%' AND wait_event = 'SyncRep'`;
      while ((await psql(server, 'postgres', making)) !== '1') await delay(20);
      abort.abort(new SealiftError('interrupted', 'interrupted'));
      while ((await psql(server, 'postgres', making)) === '1') await delay(20);
      const left = `SELECT count(*) FROM pg_database WHERE datname = 'half'`;
      assert.equal(await psql(server, 'postgres', left), '1');
      await waitForStandby('');
      await assert.rejects(load, failsWith('interrupted'));
      assert.equal(await psql(server, 'postgres', left), '0');
    } finally {
      await waitForStandby('');
    }
  });

  test('a body that throws after its last byte is not committed', async () => {
    const [dump] = await saveOne('with space');
    assert.ok(dump);
    let opened = 0;
    async function* open(): AsyncGenerator<Uint8Array> {
      // The table of contents is read twice before the dump is loaded.
      const loading = ++opened === 3;
      yield* dump?.open() ?? [];
      if (!loading) return;
      await delay(300);
      throw new Error('the segment is damaged');
    }
    await assert.rejects(
      loadPostgres(into(server, 'fresh'), [{ file: dump.file, open }], loading()),
      /damaged/,
    );
    assert.equal(
      await psql(server, 'postgres', `SELECT count(*) FROM pg_database WHERE datname = 'fresh'`),
      '0',
    );
  });

  test('roles that the dump needs and the server has not are named in the error', async () => {
    const fresh = await startPostgres(await newDirectory(0o755), new AbortController().signal);
    await using _ = fresh;
    const load = loadPostgres(into(fresh, 'db'), await saveOne('with space'), loading());
    await assert.rejects(
      load,
      failsWith('restore-failed', /role "owner" does not exist/, /load the roles first/),
    );
  });

  test('a load that the server refuses says what to change', async () => {
    const refused = async (sql: string, message: RegExp, hint: RegExp, change = (text: string) => text) => {
      await psql(server, 'postgres', 'CREATE DATABASE demanding');
      if (sql !== '') await psql(server, 'demanding', sql);
      const [dump] = await saveOne('demanding');
      await psql(server, 'postgres', 'DROP DATABASE demanding');
      const saved = asSaved(dump!.file, Buffer.from(change(dump!.bytes.toString('latin1')), 'latin1'));
      for (const url of [into(other), into(other, 'demanding')])
        await assert.rejects(
          loadPostgres(url, [saved], loading()),
          failsWith('restore-failed', message, hint),
        );
    };
    await refused('', /invalid locale name/, /dpkg-reconfigure locales/, (text) =>
      text.replaceAll('C.UTF-8', 'X.UTF-8'),
    );
    await refused('', /unsupported version/, /install a newer postgresql-client/, (text) =>
      text.replace(/^(PGDMP.)./s, '$1\x7f'),
    );
    await refused(
      `CREATE FUNCTION a(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
       CREATE FUNCTION b(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a($1)';
       CREATE TABLE t AS SELECT 1 AS n; CREATE INDEX ON t (b(n))`,
      /function a\(integer\) does not exist/,
      /without its schema/,
    );
    await refused(
      `SELECT count(lo_from_bytea(0, 'x')) FROM generate_series(1, 20000)`,
      /out of shared memory/,
      /raise max_locks_per_transaction/,
    );
    await psql(other, 'postgres', 'ALTER ROLE postgres SET default_transaction_read_only = on');
    await refused('', /read-only transaction/, /default_transaction_read_only/);
    await psql(other, 'postgres', 'BEGIN READ WRITE; ALTER ROLE postgres RESET ALL; COMMIT');
  });

  test('an event trigger that refuses what a load does is guessed at', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE guarded');
    await psql(
      server,
      'guarded',
      `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
       CREATE EVENT TRIGGER guard ON ddl_command_start EXECUTE FUNCTION refuse()`,
    );
    const itself = await saveOne('guarded');
    await assert.rejects(
      loadPostgres(into(server, 'guarded'), await saveOne('-dash'), loading({ force: true })),
      failsWith('restore-failed', /not here/, /ALTER EVENT TRIGGER/),
    );
    await psql(server, 'postgres', 'DROP DATABASE guarded');
    await loadPostgres(into(server, 'guarded'), itself, loading());
    await loadPostgres(into(server, 'guarded'), itself, loading({ force: true }));
    await psql(server, 'postgres', 'DROP DATABASE guarded');
  });

  test('a subscription with a slot, which no load can replace, is told with how to drop it', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE subscribed');
    const subscribe = `CREATE SUBSCRIPTION news CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)`;
    await psql(server, 'subscribed', subscribe);
    const itself = await saveOne('subscribed');
    const again = () => loadPostgres(into(server, 'subscribed'), itself, loading({ force: true }));
    const hint = /ALTER SUBSCRIPTION .* DISABLE.*SET \(slot_name = NONE\).*DROP SUBSCRIPTION/;
    await assert.rejects(again(), failsWith('restore-failed', /cannot run inside a transaction/, hint));
    const steps = ['ALTER SUBSCRIPTION news SET (slot_name = NONE)', 'DROP SUBSCRIPTION news'];
    for (const step of steps) await psql(server, 'subscribed', step);
    await again();
    for (const step of steps) await psql(server, 'subscribed', step);
    await psql(server, 'postgres', 'DROP DATABASE subscribed');
  });

  test('tablespaces come back, or the error says what they need', async () => {
    const folder = join(dirname(server.host), 'space');
    await mkdir(folder);
    if (process.geteuid?.() === 0) await promisify(execFile)('chown', ['postgres', folder]);
    await psql(server, 'postgres', `CREATE TABLESPACE "my space" LOCATION ${literal(folder)}`);
    await psql(server, 'postgres', 'CREATE DATABASE spaced');
    await psql(server, 'spaced', 'CREATE TABLE t TABLESPACE "my space" AS SELECT 1 AS a');
    const saved = await save(onSocket({ databases: ['spaced'] }));
    // The folder is in use by this very server.
    await assert.rejects(
      loadPostgres(into(other), saved, loading()),
      failsWith('restore-failed', /loading the roles/, /folders of the tablespaces.*roles that were made/s),
    );
    await assert.rejects(
      loadPostgres(into(other, 'spaced'), saved.slice(1), loading()),
      failsWith('restore-failed', /my space/, /CREATE TABLESPACE/),
    );
    await psql(server, 'postgres', 'DROP DATABASE spaced');
    await psql(server, 'postgres', 'DROP TABLESPACE "my space"');
    await loadPostgres(into(other), saved, loading());
    const place = `SELECT spcname FROM pg_tablespace s JOIN pg_class c ON c.reltablespace = s.oid WHERE relname = 't'`;
    assert.equal(await psql(other, 'spaced', place), 'my space');
    await psql(other, 'postgres', 'DROP DATABASE spaced');
    await psql(other, 'postgres', 'DROP TABLESPACE "my space"');
  });

  test('a login that is no superuser saves roles without passwords, and loads without owners', async () => {
    await psql(server, 'postgres', `ALTER ROLE owner CREATEDB`);
    const password = new Secret(() => oddPassword);
    const run = newRun();
    const saved = await save(overTcp({ user: 'owner', password, databases: ['postgres'] }), run);
    assert.deepEqual(run.codes, ['globals-without-passwords']);
    const [globals, dump] = saved;
    assert.ok(globals && dump && !globals.bytes.includes('SCRAM-SHA-256'));
    const url = `postgres://owner@127.0.0.1:${server.port}/theirs`;
    const { lines } = await loadPostgres(url, [dump], loading({ password }));
    assert.deepEqual(lines, [
      'database "theirs" made and loaded, without owners and grants: the login is no superuser',
    ]);
    await psql(server, 'postgres', 'DROP DATABASE theirs');
    const readOnly = await saveOne('we=ird');
    await psql(server, 'postgres', 'ALTER DATABASE "we=ird" RENAME TO "kept"');
    const whole = await loadPostgres(
      `postgres://owner@127.0.0.1:${server.port}`,
      readOnly,
      loading({ password }),
    );
    assert.deepEqual(whole.lines, [
      'database "we=ird" made and loaded, without owners, grants and its settings: the login is no superuser',
    ]);
    await psql(server, 'postgres', 'DROP DATABASE "we=ird"');
    await psql(server, 'postgres', 'ALTER DATABASE "kept" RENAME TO "we=ird"');
  });

  test('the server is asked for its databases at each run', async () => {
    assert.ok(!(await filesNow()).includes('later.dump'));
    await psql(server, 'postgres', 'CREATE DATABASE later');
    assert.ok((await filesNow()).includes('later.dump'));
    await psql(server, 'postgres', 'ALTER DATABASE later ALLOW_CONNECTIONS false');
    assert.ok(!(await filesNow()).includes('later.dump'));
    await psql(server, 'postgres', 'DROP DATABASE later');
  });

  test('details tell the version of the server and what its databases are', async () => {
    const run = newRun();
    await postgresSource(onSocket({ databases: ['we=ird'] })).streams(run);
    assert.deepEqual(
      run.details.map(({ type }) => type),
      ['server', 'database'],
    );
    assert.match(JSON.stringify(run.details[0]), /"version":"\d+/);
    assert.match(
      JSON.stringify(run.details[1]),
      /"name":"we=ird","encoding":"UTF8","collation":"C","sizeBytes":\d{6,}/,
    );
  });

  test('a listed database that does not exist fails alone', async () => {
    const run = newRun();
    const config = onSocket({ databases: ['gone', 'postgres'], globals: false });
    const [gone, there] = await postgresSource(config).streams(run);
    assert.ok(gone && there);
    assert.match(gone.lacks?.[0] ?? '', /there is no database "gone"/);
    assert.equal(there.lacks, undefined);
    await assert.rejects(
      Array.fromAsync(gone.open(run)),
      failsWith('source-unavailable', /there is no database "gone"/),
    );
    assert.ok((await Array.fromAsync(there.open(run))).length > 0);
  });

  test('a name that the server would cut stands for no other database, and makes none', async () => {
    const longest = 'ü'.repeat(31) + 'x';
    await psql(server, 'postgres', `CREATE DATABASE ${longest}`);
    const [stream] = await postgresSource(onSocket({ databases: [`${longest}y`], globals: false })).streams(
      newRun(),
    );
    assert.ok(stream);
    await assert.rejects(Array.fromAsync(stream.open(newRun())), failsWith('source-unavailable', /xy"/));
    const saved = await saveOne(longest);
    await psql(server, 'postgres', `DROP DATABASE ${longest}`);
    for (const force of [false, true])
      await assert.rejects(
        loadPostgres(into(server, `${longest}y`), saved, loading({ force })),
        failsWith('usage', /names of 63 bytes, and "ü+xy" has 64/),
      );
    assert.equal(
      await psql(server, 'postgres', `SELECT count(*) FROM pg_database WHERE datname LIKE 'üü%'`),
      '0',
    );
  });

  test('a database that nobody can enter for a library that is missing fails with what to do', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE bookless');
    await psql(
      server,
      'postgres',
      `ALTER DATABASE bookless SET session_preload_libraries = 'no_such_library'`,
    );
    const resets = failsWith('source-unavailable', /no_such_library/, /RESET session_preload_libraries/);
    await assert.rejects(saveOne('bookless'), resets);
    await assert.rejects(loadPostgres(into(server, 'bookless'), await saveOne('-dash'), loading()), resets);
    await psql(server, 'postgres', 'DROP DATABASE bookless');
  });

  test('a database whose server would pass over damaged pages is refused, alone', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE damaged');
    await psql(server, 'postgres', 'ALTER DATABASE damaged SET zero_damaged_pages = on');
    const run = newRun();
    const config = onSocket({ databases: ['damaged', 'postgres'], globals: false });
    const [damaged, sound] = await postgresSource(config).streams(run);
    assert.ok(damaged && sound);
    assert.match(damaged.lacks?.[0] ?? '', /damaged pages/);
    await assert.rejects(
      Array.fromAsync(damaged.open(run)),
      failsWith('source-unavailable', /zero_damaged_pages = on/, /RESET zero_damaged_pages/),
    );
    assert.ok((await saveStream(sound, run)).bytes.length > 0);
    await psql(server, 'postgres', 'DROP DATABASE damaged');
  });

  test('a login that may have one connection finds damaged pages of every database, and no pooler', async () => {
    const names = ['damaged1', 'damaged2', 'damaged3', 'damaged4'];
    await psql(
      server,
      'postgres',
      `CREATE ROLE single LOGIN CONNECTION LIMIT 1 PASSWORD 'single'; GRANT pg_read_all_data TO single`,
    );
    for (const name of names) {
      await psql(server, 'postgres', `CREATE DATABASE ${name}`);
      await psql(server, 'postgres', `ALTER DATABASE ${name} SET zero_damaged_pages = on`);
    }
    const config = overTcp({
      host: '127.1',
      user: 'single',
      password: new Secret(() => 'single'),
      databases: [...names, 'postgres'],
      globals: false,
    });
    const found = await postgresSource(config).streams(newRun());
    assert.deepEqual(
      found.map(({ lacks }) => /damaged pages/.test(lacks?.[0] ?? '')),
      [true, true, true, true, false],
    );
    for (const name of names) await psql(server, 'postgres', `DROP DATABASE ${name}`);
    await psql(server, 'postgres', 'REVOKE pg_read_all_data FROM single; DROP ROLE single');
  });

  test('what pg_dump leaves out for a login without rights is told', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE distributed OWNER owner');
    await psql(
      server,
      'distributed',
      `CREATE SUBSCRIPTION news CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false);
       CREATE FOREIGN DATA WRAPPER none; CREATE SERVER far FOREIGN DATA WRAPPER none;
       CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'x');
       GRANT USAGE ON FOREIGN SERVER far TO owner; CREATE USER MAPPING FOR owner SERVER far`,
    );
    const texts: string[] = [];
    const told = async (change: Partial<PostgresConfig>) => {
      texts.length = 0;
      const run = {
        ...newRun(),
        problem: (code: string, text: string) => void texts.push(`${code} ${text}`),
      };
      const [dump] = await save(overTcp({ databases: ['distributed'], globals: false, ...change }), run);
      return [dump?.bytes.includes('CREATE SUBSCRIPTION'), dump?.bytes.includes(`password 'x'`)];
    };
    assert.deepEqual(await told({}), [true, true]);
    assert.deepEqual(texts, []);
    assert.deepEqual(await told({ user: 'owner', password: new Secret(() => oddPassword) }), [false, false]);
    assert.match(texts.join('\n'), /^rights-missing .*1 subscription,.*\nrights-missing .*1 user mapping/);
    await psql(server, 'distributed', 'ALTER SUBSCRIPTION news SET (slot_name = NONE)');
    await psql(server, 'distributed', 'DROP SUBSCRIPTION news');
    await psql(server, 'postgres', 'DROP DATABASE distributed');
  });

  test('a source with no database left is an error, not an empty success', async () => {
    const config = onSocket({ databases: ['postgres'], exclude: ['postgres'] });
    await assert.rejects(postgresSource(config).streams(newRun()), failsWith('source-empty'));
  });

  test('a wrong or missing password and a server that is down are told apart', async () => {
    const wrong = overTcp({ password: new Secret(() => 'wrong') });
    await assert.rejects(
      postgresSource(wrong).streams(newRun()),
      failsWith('source-denied', /password authentication failed/),
    );
    const none = overTcp({ password: undefined });
    await assert.rejects(
      postgresSource(none).streams(newRun()),
      failsWith('source-denied', /no password supplied/),
    );
    const down = overTcp({ port: 1 });
    await assert.rejects(postgresSource(down).streams(newRun()), failsWith('source-unavailable', /refused/));
  });

  test('tables that may not be read fail the stream', async () => {
    const config = overTcp({
      user: 'owner',
      password: new Secret(() => oddPassword),
      databases: ['big'],
      globals: false,
    });
    await assert.rejects(save(config), failsWith('source-denied', /permission denied for table big/));
  });

  test('a login that may not see every row fails the stream, and is told which right it needs', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE tenants');
    await psql(
      server,
      'tenants',
      `CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO owner;
       CREATE POLICY own ON t USING (a = 2)`,
    );
    const password = new Secret(() => oddPassword);
    const saving = save(overTcp({ user: 'owner', password, databases: ['tenants'], globals: false }));
    await assert.rejects(saving, failsWith('source-denied', /row-level security/, /BYPASSRLS/));
    await psql(server, 'postgres', 'DROP DATABASE tenants');
  });

  test('a password with every odd character works, and is in no argument, environment, message or detail', async () => {
    const seen = watchForCanary();
    const run = newRun();
    const config = overTcp({
      user: 'owner',
      password: new Secret(() => oddPassword),
      databases: ['postgres', 'big'],
    });
    const failure = await save(config, run).catch((error: unknown) => error);
    const found = seen();
    assert.ok(failure instanceof SealiftError && failure.code === 'source-denied');
    assert.deepEqual(found, []);
    const told = JSON.stringify([
      run.details,
      run.codes,
      failure.message,
      failure.hint,
      String(failure.cause),
    ]);
    assert.ok(!told.includes(canary));
  });

  test(
    'the password file can be read by the user that the tools run as',
    { skip: process.geteuid?.() !== 0 },
    async () => {
      const saved = await save(overTcp({ runAs: 'nobody', databases: ['postgres'] }));
      assert.deepEqual(
        saved.map(({ file }) => file),
        ['globals.sql', 'postgres.dump'],
      );
    },
  );

  test('a pg_dump that is killed midway does not end its stream naturally', async () => {
    const run = newRun();
    const [stream] = await postgresSource(onSocket({ databases: ['big'], globals: false })).streams(run);
    assert.ok(stream);
    const read = async () => {
      let killed = false;
      for await (const _ of stream.open(run)) {
        if (!killed) process.kill(childNamed('pg_dump'), 'SIGKILL');
        killed = true;
      }
    };
    await assert.rejects(read(), failsWith('tool-failed', /SIGKILL/));
  });

  test('an abort ends pg_dump and its stream', async () => {
    const abort = new AbortController();
    const run = newRun(abort.signal);
    const [stream] = await postgresSource(onSocket({ databases: ['big'], globals: false })).streams(run);
    assert.ok(stream);
    const read = async () => {
      for await (const _ of stream.open(run)) abort.abort(new Error('enough'));
    };
    await assert.rejects(read(), /enough/);
    assert.throws(() => childNamed('pg_dump'));
  });

  for (const [fixture, code] of [
    ['empty', 'source-empty'],
    ['something-else', 'source-damaged'],
    ['ends-early', 'source-damaged'],
    ['floods-stderr', 'tool-failed'],
    ['dies-midway', 'tool-failed'],
    ['fails-at-the-end', 'tool-failed'],
  ] as const)
    for (const tool of ['pg_dump', 'pg_dumpall'])
      test(`a ${tool} that is "${fixture}" ends in ${code}`, async () => {
        const config = onSocket({ databases: ['postgres'], globals: tool === 'pg_dumpall' });
        await assert.rejects(save(config, newRun(), await programsWith(tool, fixture)), failsWith(code));
      });

  test('a pg_dump older than the server is refused by name and version, a missing one too', async () => {
    const older = postgresSource(onSocket(), await programsWith('pg_dump', 'too-old'));
    await assert.rejects(
      older.streams(newRun()),
      failsWith('tool-too-old', /newest pg_dump here is 9/, /postgresql-client-\d+/),
    );
    const [directory = ''] = await programsWith('pg_dump', 'ok');
    await rm(join(directory, 'pg_dump'));
    const missing = postgresSource(onSocket(), [directory]);
    await assert.rejects(
      missing.streams(newRun()),
      failsWith('tool-missing', /pg_dump/, /apt-get install postgresql-client/),
    );
  });

  test('a pooler that gives each transaction another connection is refused, a port that is passed on is not', async () => {
    const passedOn = createServer((from) => {
      const to = connect(server.port, server.tcpHost);
      from.pipe(to).pipe(from);
      for (const socket of [from, to]) socket.on('error', () => socket.destroy());
    });
    passedOn.listen(0, '127.0.0.1');
    await once(passedOn, 'listening');
    const { port } = passedOn.address() as AddressInfo;
    const config = overTcp({ port, databases: ['postgres'], globals: false });
    try {
      assert.equal((await save(config)).length, 1);
      const [directory = ''] = await programsWith('psql', 'ok');
      const pooled = `#!/bin/sh
        case "$*" in *--file=-*) cat > /dev/null; echo 1; echo 2;; *) exec ${join(server.binDir, 'psql')} "$@";; esac`;
      await writeFile(join(directory, 'psql'), pooled);
      // By another name than its usual ones, this is a machine as any.
      for (const pooler of [config, overTcp({ host: '127.1', databases: ['postgres'], globals: false })])
        await assert.rejects(
          save(pooler, newRun(), [directory]),
          failsWith('source-unavailable', /pooler/, /the server itself/),
        );
    } finally {
      passedOn.close();
    }
  });

  suite('clusters', () => {
    test('each of two clusters is found by its name, on the port that its configuration includes', async () => {
      const services = { one: server, two: other };
      const both = Object.entries(services).map(([name, service]) => [`${major()}/${name}`, { service }]);
      const root = await clusters(Object.fromEntries(both));
      for (const [name, service] of Object.entries(services)) {
        await psql(service, 'postgres', 'CREATE DATABASE which');
        await psql(service, 'which', `CREATE TABLE this_is_${name} ()`);
        const run = newRun();
        const dump = (await ofCluster(name, root).streams(run)).find(({ file }) => file === 'which.dump');
        const { bytes } = await saveStream(dump!, run);
        assert.ok(bytes.includes(`this_is_${name}`));
        await psql(service, 'postgres', 'DROP DATABASE which');
      }
    });

    test('a cluster that is not there, or down, or whose port another one has taken, is said by name', async () => {
      const [port = 0] = await freePorts(1);
      const root = await clusters({
        [`${major()}/one`]: { service: server },
        [`${major()}/down`]: { service: server, port },
        // The port and socket of one server, the data of another.
        [`${major()}/ousted`]: { service: { ...other, host: join(dirname(other.host), 'socket') } },
      });
      const ousted = join(root, `${major()}/ousted`, 'conf.d', 'moved.conf');
      await writeFile(ousted, `port = ${server.port}\nunix_socket_directories = '${server.host}'\n`);
      const streams = (name: string) => ofCluster(name, root).streams(newRun());
      const known = new RegExp(`it has: ${major()}/down, ${major()}/one, ${major()}/ousted`);
      await assert.rejects(
        streams('gone'),
        failsWith('source-unavailable', /no PostgreSQL cluster \d+\/gone/, known),
      );
      const start = new RegExp(`pg_ctlcluster ${major()} down start`);
      await assert.rejects(streams('down'), failsWith('source-unavailable', /cluster \d+\/down/, start));
      await assert.rejects(
        streams('ousted'),
        failsWith('source-unavailable', /ousted .* is not what answers there: that server has its data in/),
      );
    });

    test('a cluster whose server is not installed is said with the package to install', async () => {
      const root = await clusters({ '8.1/old': { service: server } });
      const old = postgresSource(onSocket({ cluster: '8.1/old', host: undefined }), undefined, root);
      await assert.rejects(old.streams(newRun()), failsWith('tool-missing', /8\.1/, /postgresql-8\.1/));
    });
  });

  suite('tables that are left out', () => {
    before(async () => {
      await psql(server, 'postgres', 'CREATE DATABASE shop');
      for (const name of [
        'plain',
        '"Mixed Case"',
        '"q""uote"',
        '"do.t"',
        '"do$l"',
        'aab',
        '"a*b"',
        'axb',
        'ab1',
        '"[]"',
      ])
        await psql(server, 'shop', `CREATE TABLE ${name} AS SELECT 'row of ' || ${literal(name)} AS text`);
      await psql(
        server,
        'shop',
        `CREATE SCHEMA logs; CREATE TABLE logs.access AS SELECT 1 AS a; CREATE TABLE logs.plain (); CREATE SCHEMA "Odd S"; CREATE TABLE "Odd S".access ()`,
      );
    });
    after(() => psql(server, 'postgres', 'DROP DATABASE shop'));

    test('patterns mean to us what they mean to pg_dump', async () => {
      const others = [
        '*.access',
        '*',
        '"Mixed Case"',
        'mixed*',
        '"Mixed"*',
        '"q""uote"',
        '"do.t"',
        'do$l',
        'a*b',
        'a(a|x)b',
        'ab[0-9]',
        '[]',
        '"Odd S".*',
        'o*.access',
        'public.plain',
        'nothing',
        '\\w+',
        '^plain$',
      ];
      const patterns = [...Object.keys(expectations), ...others];
      const gone = await leftOut(patterns);
      for (const [pattern, tables] of Object.entries(expectations))
        assert.deepEqual(gone[pattern], tables, pattern);
      const run = newRun();
      const reached = await reach(onSocket(), [server.binDir], run);
      const { used } = await inspectExcludes(reached, 'shop', patternsOf(patterns), run.signal);
      assert.deepEqual(used.toSorted(), patterns.filter((pattern) => gone[pattern]?.length !== 0).toSorted());
    });
    test('a pattern that matches nothing is noted', async () => {
      const run = newRun();
      const config = excluding({
        excludeTables: ['"SHOP".logs.access', 'nothing*'],
        excludeTableData: ['plain'],
      });
      await postgresSource(config).streams(run);
      assert.deepEqual(run.codes, ['exclude-unused', 'exclude-unused']);
    });

    test('a pattern with a database is for that one alone', async () => {
      await psql(server, 'postgres', 'CREATE DATABASE shop2');
      await psql(server, 'shop2', 'CREATE TABLE plain AS SELECT 1 AS a');
      const run = newRun();
      const config = excluding({ databases: ['shop', 'shop2'], excludeTables: ['shop2.public.plain'] });
      const [shop, shop2] = await save(config, run);
      assert.deepEqual(run.codes, []);
      assert.ok(shop!.bytes.includes('CREATE TABLE public.plain'));
      assert.ok(!shop2!.bytes.includes('CREATE TABLE public.plain'));
      await psql(server, 'postgres', 'DROP DATABASE shop2');
    });

    test('a table without its rows comes back empty, beside the others', async () => {
      const saved = await save(excluding({ excludeTableData: ['"Mixed Case"', 'logs.*'] }));
      assert.ok(!saved[0]!.bytes.includes('row of "Mixed Case"'));
      await loadPostgres(into(server, 'shop3'), saved, loading());
      assert.equal(await psql(server, 'shop3', 'SELECT count(*) FROM "Mixed Case"'), '0');
      assert.equal(await psql(server, 'shop3', 'SELECT count(*) FROM logs.access'), '0');
      assert.equal(await psql(server, 'shop3', 'SELECT count(*) FROM plain'), '1');
      await psql(server, 'postgres', 'DROP DATABASE shop3');
    });

    test('what needs a table that is left out is said when it is saved, and does not load', async () => {
      await psql(
        server,
        'shop',
        `CREATE TABLE customer (id int PRIMARY KEY); CREATE TABLE "Order" (customer int REFERENCES customer);
         CREATE VIEW names AS SELECT id FROM customer; CREATE TABLE log (at int) PARTITION BY RANGE (at);
         CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10);
         INSERT INTO customer VALUES (1); INSERT INTO "Order" VALUES (1)`,
      );
      const texts: string[] = [];
      const problem: Run['problem'] = (_code, text) => void texts.push(text);
      const needing = async (change: Partial<PostgresConfig>) => {
        texts.length = 0;
        return save(excluding(change), { ...newRun(), problem });
      };
      const saved = await needing({ excludeTables: ['customer', 'log'] });
      assert.deepEqual(
        texts.map((text) => /: (.*), of which nothing/.exec(text)?.[1]),
        [
          'public."Order" refers by a foreign key to public.customer',
          'public.log_1 is a part of public.log',
          'public.names is a view of public.customer',
        ],
      );
      await assert.rejects(
        loadPostgres(into(server, 'shop3'), saved, loading()),
        failsWith('restore-failed', /relation "public\.\w+" does not exist/, /excluded from the dump/),
      );
      const rows = await needing({ excludeTableData: ['customer'] });
      assert.match(
        texts.join(),
        /^database "shop": public."Order" refers .* public.customer, of which no row is saved/,
      );
      await assert.rejects(
        loadPostgres(into(server, 'shop3'), rows, loading()),
        failsWith('restore-failed', /violates foreign key/, /excluded from the dump/),
      );
      for (const change of [
        { excludeTables: ['customer', '"Order"', 'names', 'log_*'] },
        { excludeTableData: ['customer', '"Order"', 'log*'] },
      ]) {
        const saved = await needing(change);
        assert.deepEqual(texts, [], JSON.stringify(change));
        await loadPostgres(into(server, 'shop3'), saved, loading());
        await psql(server, 'postgres', 'DROP DATABASE shop3');
      }
    });

    test('whatever needs a table that is left out is said, not only other tables and views', async () => {
      await psql(
        server,
        'shop',
        `CREATE TABLE acl (who text); CREATE SEQUENCE numbers;
         CREATE TABLE pages (owner text, n int DEFAULT nextval('numbers'), access acl, more acl[]);
         CREATE POLICY p ON pages USING (owner IN (SELECT who FROM acl));
         CREATE FUNCTION count_acl() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM acl; END;
         CREATE TABLE own (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a + 1) STORED CHECK (b > 0), c int REFERENCES own);
         CREATE INDEX ON own ((a + b)); CREATE STATISTICS st ON a, b FROM own; CREATE PUBLICATION pub FOR TABLE own`,
      );
      const texts: string[] = [];
      const run = { ...newRun(), problem: (_code: string, text: string) => void texts.push(text) };
      const saved = await save(excluding({ excludeTables: ['acl', 'numbers', 'own'] }), run);
      assert.deepEqual(
        texts.map((text) => /: (.*), of which nothing/.exec(text)?.[1]),
        [
          'column access of table public.pages needs public.acl',
          'column more of table public.pages needs public.acl',
          'default value for column n of table public.pages needs public.numbers',
          'function public.count_acl() needs public.acl',
          'policy p on table public.pages needs public.acl',
        ],
      );
      await assert.rejects(
        loadPostgres(into(server, 'shop3'), saved, loading()),
        failsWith('restore-failed'),
      );
      await psql(server, 'shop', 'DROP TABLE acl, pages, own CASCADE');
      await psql(server, 'shop', 'DROP PUBLICATION pub; DROP SEQUENCE numbers');
    });

    test('rows of a partitioned table are in its partitions, and stay where those are not named', async () => {
      await psql(
        server,
        'shop',
        `CREATE TABLE visit (at int) PARTITION BY RANGE (at);
         CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10); INSERT INTO visit VALUES (1)`,
      );
      const texts: string[] = [];
      const told = async (...excludeTableData: string[]) => {
        texts.length = 0;
        const run = {
          ...newRun(),
          problem: (code: string, text: string) => void texts.push(`${code} ${text}`),
        };
        await postgresSource(excluding({ excludeTableData })).streams(run);
        return texts.join();
      };
      assert.match(await told('visit'), /^exclude-unused the pattern visit leaves out no rows .* partitions/);
      assert.equal(await told('visit*'), '');
      await psql(server, 'shop', 'DROP TABLE visit');
    });

    test('a pattern that is none fails the source, a database that is not there does not', async () => {
      await assert.rejects(
        save(excluding({ excludeTables: ['a(b'] })),
        failsWith('tool-failed', /invalid regular expression/),
      );
      const run = newRun();
      const config = excluding({ databases: ['gone', 'shop'], excludeTables: ['plain'] });
      assert.equal((await postgresSource(config).streams(run)).length, 2);
      assert.deepEqual(run.codes, []);
    });
  });

  suite('what psql is given', () => {
    test('globals with anything but roles and tablespaces in them never reach psql', async () => {
      const mark = await newMark();
      for (const text of [
        `\\! touch ${mark}\n`,
        `CREATE ROLE a; -- \r\\! touch ${mark}\n`,
        `COMMENT ON ROLE a IS E'\\' \\! touch ${mark}\n';`,
        `COMMENT ON ROLE a IS $$ ' $$; \\! touch ${mark} '\n`,
        `/* ' */ \\! touch ${mark} /* ' */`,
        `COPY x FROM PROGRAM 'touch ${mark}';`,
        `SET client_encoding = 'SJIS'; CREATE ROLE a;`,
        `SET standard_conforming_strings = off; COMMENT ON ROLE a IS '\\'; \\! touch ${mark} ';`,
        // psql's lines are those of C: one ends at a zero byte.
        `COMMENT ON ROLE postgres IS 'x\0';\nCOMMENT ON ROLE postgres IS ' \\! touch ${mark} #';\n`,
        `COMMENT ON ROLE postgres IS 1E'x\\' ' \\! touch ${mark} #';\n`,
        `COMMENT ON ROLE postgres IS 'x' :DBNAME;\n`,
        // One string to psql, with the escapes of its first part. Two to us, and to the server.
        `COMMENT ON ROLE postgres IS E'x'\r'y\\' ' \\! touch ${mark} #';\n`,
        `COMMENT ON ROLE postgres IS E'x'\n'y\\' ' \\! touch ${mark} #';\n`,
        `CREATE ROLE a`,
      ]) {
        const [dump] = await saveOne('-dash');
        assert.ok(dump);
        const globals = asSaved('globals.sql', Buffer.from(text));
        await assert.rejects(
          loadPostgres(into(other), [globals, dump], loading({ force: true })),
          failsWith('restore-failed'),
          text,
        );
        assert.ok(!existsSync(mark), text);
      }
    });

    test('a server with strings of the old kind does not make it read them otherwise', async () => {
      const mark = await newMark();
      const sly = `x\\' ' \\! touch ${mark} #`;
      const filler = 'z'.repeat(sly.length);
      await psql(server, 'postgres', 'CREATE DATABASE sly');
      await psql(server, 'postgres', `COMMENT ON DATABASE sly IS '${filler}'`);
      const [dump] = await saveOne('sly');
      await psql(server, 'postgres', 'DROP DATABASE sly');
      const hostile = asSaved(
        'sly.dump',
        Buffer.from(dump!.bytes.toString('latin1').replaceAll(filler, sly), 'latin1'),
      );
      const turned = asSaved(
        'globals.sql',
        Buffer.from('ALTER ROLE ALL SET standard_conforming_strings = off;'),
      );
      const commented = asSaved('globals.sql', Buffer.from(`COMMENT ON ROLE postgres IS '${sly}';`));
      for (const globals of [turned, commented]) {
        await assert.rejects(
          loadPostgres(into(other), [globals, hostile], loading()),
          failsWith('restore-failed', /syntax error/),
        );
        assert.ok(!existsSync(mark));
      }
      await psql(other, 'postgres', 'ALTER ROLE ALL RESET ALL');
    });
  });

  test('what a login may not do in its database is no refused login, for which a password would be asked', async () => {
    await psql(server, 'postgres', 'CREATE DATABASE guarded');
    await psql(server, 'guarded', 'CREATE FOREIGN DATA WRAPPER none');
    const dumps = await saveOne('guarded');
    await psql(server, 'postgres', 'DROP DATABASE guarded');
    await psql(server, 'postgres', 'ALTER ROLE owner CREATEDB');
    const url = `postgres://owner@127.0.0.1:${server.port}/guarded`;
    await assert.rejects(
      loadPostgres(url, dumps, loading({ password: new Secret(() => oddPassword) })),
      failsWith('restore-failed', /loading database "guarded" failed: .*permission denied/),
    );
  });

  test('roles and tablespaces can be loaded alone, as the hints of failed loads say', async () => {
    await psql(server, 'postgres', 'CREATE ROLE alone');
    const [globals] = await save(onSocket({ databases: ['postgres'] }));
    await loadPostgres(into(other), [globals!], loading());
    assert.equal(await psql(other, 'postgres', `SELECT count(*) FROM pg_roles WHERE rolname = 'alone'`), '1');
    await assert.rejects(
      loadPostgres(into(other, 'postgres'), [globals!], loading()),
      failsWith('usage', /no dump/, /leave the database out/),
    );
    for (const each of [server, other]) await psql(each, 'postgres', 'DROP ROLE alone');
  });

  test('the role that is logged in keeps its password', async () => {
    const [globals] = await save(onSocket({ databases: ['-dash'] }));
    const [dump] = await saveOne('-dash');
    assert.ok(globals && dump);
    const query = `SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'`;
    const own = await psql(other, 'postgres', query);
    await loadPostgres(into(other), [globals, dump], loading({ force: true }));
    assert.equal(await psql(other, 'postgres', query), own);
  });

  test('PGPASSFILE may be named from the folder that sealift was started in', async () => {
    const path = join(await newDirectory(0o700), 'pgpass');
    await writeFile(path, `*:*:*:*:${server.password}\n`, { mode: 0o600 });
    const variable = (name: string) => (name === 'PGPASSFILE' ? relative(process.cwd(), path) : undefined);
    const dumps = await saveOne('-dash');
    const url = `postgres://postgres@127.0.0.1:${server.port}/by-file`;
    await postgresLoader.load(url, dumps, { ...newRun(), force: false, password: undefined, variable });
    await psql(server, 'postgres', 'DROP DATABASE "by-file"');
  });

  test('the files of a run hold the password with mode 0600', async () => {
    const made: string[] = [];
    const run = newRun();
    const temporary = async () => {
      const path = await run.temporary();
      made.push(path);
      return path;
    };
    await postgresSource(overTcp()).streams({ ...run, temporary });
    const [directory = ''] = made;
    assert.match(await readFile(join(directory, 'pgpass'), 'utf8'), /^\*:\*:\*:\*:\w+\n$/);
    const { stdout } = await promisify(execFile)('stat', ['-c', '%a', join(directory, 'pgpass')]);
    assert.equal(stdout.trim(), '600');
  });
});

suite('where a database is loaded', () => {
  test('a URL names user, host, port and database, or the directory of a socket', () => {
    assert.deepEqual(parseTarget('postgres://me@db.example:5433/a%20b'), {
      address: { host: 'db.example', port: 5433, user: 'me', tls: undefined },
      database: 'a b',
    });
    assert.deepEqual(parseTarget('postgresql:///db?host=/run/postgresql'), {
      address: { host: '/run/postgresql', port: undefined, user: undefined, tls: undefined },
      database: 'db',
    });
    assert.deepEqual(parseTarget('postgres://[::1]'), {
      address: { host: '::1', port: undefined, user: undefined, tls: undefined },
      database: undefined,
    });
  });

  test('a name comes out of a URL as it was put in, or the URL is refused', () => {
    assert.deepEqual(
      ['.', '%2e%2E', 'a/../b', 'a+b', 'a%23b'].map((path) => parseTarget(`postgres:///${path}`).database),
      ['.', '..', 'a/../b', 'a+b', 'a#b'],
    );
    const { address } = parseTarget('postgres:///x?host=/run/a+b&user=me%2Bbackup@example.org');
    assert.deepEqual([address.host, address.user], ['/run/a+b', 'me+backup@example.org']);
    for (const url of ['postgres:///shop#old', 'postgres:shop', 'postgres:/shop', 'postgres:'])
      assert.throws(() => parseTarget(url), failsWith('usage', /must look like postgres:/, /%23/));
  });

  test('a password in the URL is refused and not repeated', () => {
    for (const url of [
      'postgres://me:canary@host/db',
      'postgres://host/db?password=canary',
      'postgres://me:canary@ho st/',
    ])
      assert.throws(
        () => parseTarget(url),
        (error: unknown) => {
          assert.ok(error instanceof SealiftError && error.exitStatus === 2);
          return !JSON.stringify([error.message, error.hint, String(error.cause)]).includes('canary');
        },
      );
  });

  test('a server that answers in another language is told from one that is down, and a refused password from both', () => {
    const refused = 'FATAL:  Passwort-Authentifizierung für Benutzer »lo« fehlgeschlagen';
    assert.deepEqual(explained(`${refused}\npassword retrieved from file "/tmp/x"`), [
      'source-denied',
      false,
      false,
    ]);
    for (const answer of ['FATAL:  Rolle »lo« existiert nicht', 'ВАЖНО:  роль "lo" не существует'])
      assert.deepEqual(explained(answer), ['source-unavailable', false, true]);
    assert.deepEqual(explained('FATAL:  sorry, too many clients already'), [
      'source-unavailable',
      false,
      true,
    ]);
    assert.deepEqual(explained('Connection refused'), ['source-unavailable', true, false]);
    assert.deepEqual(explained('FATAL:  the database system is starting up'), [
      'source-unavailable',
      true,
      false,
    ]);
  });

  test('numbers are numbers, and what stands apart is set apart by one space', () => {
    const sql = 'ALTER TABLESPACE a  SET (random_page_cost=1.5,\n seq_page_cost=1e-5);';
    assert.deepEqual(sqlStatements(sql), [
      'ALTER TABLESPACE a SET (random_page_cost=1.5, seq_page_cost=1e-5)',
    ]);
  });

  test('statements end where psql ends them', () => {
    const sql = `\\restrict a1\n-- c;\nCREATE ROLE "a;""b";\nCOMMENT ON ROLE x IS E'\\\\'';';\nSET a = 'b''; -- ';\n\\unrestrict a1\n`;
    assert.deepEqual(sqlStatements(sql), [
      'CREATE ROLE "a;""b"',
      `COMMENT ON ROLE x IS E'\\\\'';'`,
      `SET a = 'b''; -- '`,
    ]);
  });
});

/** What is made of this answer to a login: the code, and whether the hint takes the server for down, or for running. */
function explained(answer: string): [code: string, isDown: boolean, isUp: boolean] {
  const stderr = `psql: error: connection to server at "db.example.org" (192.0.2.1), port 5432 failed: ${answer}`;
  const error = new SealiftError('tool-failed', stderr, { cause: new ToolFailure('psql', 2, null, stderr) });
  const { code, hint = '' } = explain(error, { host: 'db.example.org' } as Server, 'web') as SealiftError;
  return [code, hint.includes('is the server running'), hint.includes('the server runs')];
}
