import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { MysqlConfig } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { loadMysql, parseTarget } from '../../src/sources/mysql-restore.ts';
import { Rights } from '../../src/sources/mysql-rights.ts';
import { mysqlSource } from '../../src/sources/mysql.ts';
import { type MariadbService, startMariadb } from '../services/mariadb.ts';
import { startedTogether } from '../services/server-group.ts';
import { withoutServices } from '../services/services.ts';
import { canary, watchForCanary } from '../support/canary.ts';
import { childNamed } from '../support/child-named.ts';
import { failsWith } from '../support/fails-with.ts';
import { every2h, makeWorld, type BackupSummary } from '../support/world.ts';
import { everyByte, hostileTexts, literal, quoted } from './mysql-fixture.ts';
import { newRun as freshRun, type Run } from './run.ts';
import { asSaved, damagedAt, saveAll, type Saved } from './saved.ts';

const oddPassword = `${canary}:\\pass"word'#%n\\n; =`;
const oddNames = [
  'with space',
  'we=ird',
  `q'u"o\\t\`e`,
  '-dash',
  'ünïcode',
  'unicode',
  'line\nbreak\ttab',
  '%41',
  '.',
  'users',
  '\\! touch x',
];
const fixtures = join(import.meta.dirname, '../fixtures/bin');

/** What a test makes is removed at the end of the file. */
let scratch = '';
let server: MariadbService & AsyncDisposable;
let other: MariadbService & AsyncDisposable;

async function newDirectory(mode: number): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, mode);
  return path;
}

const newRun = (signal?: AbortSignal): Run => freshRun(signal, () => newDirectory(0o700));

function onSocket(change: Partial<MysqlConfig> = {}): MysqlConfig {
  const what = { name: 'my', kind: 'mysql', databases: 'all', exclude: [], users: true } as const;
  return { ...what, host: server.socket, password: undefined, ...change } as MysqlConfig;
}

function overTcp(change: Partial<MysqlConfig> = {}): MysqlConfig {
  const { tcpHost: host, port, user, password } = server;
  return onSocket({ host, port, user, password: new Secret(() => password), ...change });
}

/** By standard input, in a client that takes names with backslashes for what they are. */
async function sql(service: MariadbService, database: string, statements: string): Promise<string> {
  const manner = ['--batch', '--raw', '--skip-column-names', '--binary-mode', '--comments'];
  const args = ['--no-defaults', `--socket=${service.socket}`, '--default-character-set=utf8mb4', ...manner];
  const env = { PATH: process.env['PATH'] };
  const done = promisify(execFile)('mariadb', [...args, `--database=${database}`], {
    env,
    maxBuffer: 2 ** 28,
  });
  done.child.stdin?.on('error', () => {}).end(statements);
  return (await done).stdout.trimEnd();
}

const save = (config: MysqlConfig, run = newRun(), directories?: string[]): Promise<Saved[]> =>
  saveAll(mysqlSource(config, directories), run);

async function saveOne(database: string): Promise<Saved> {
  const [saved] = await save(onSocket({ databases: [database], users: false }));
  assert.ok(saved);
  return saved;
}

/** Stands still after the second chunk, for longer than a second. */
async function* slowly(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let chunks = 0;
  for await (const chunk of body) {
    yield chunk;
    if (++chunks === 2) await delay(2500);
  }
}

const savedUsers = async () => (await save(onSocket({ databases: ['-dash'] })))[0]!.bytes.toString();

const streamsOf = async (config: MysqlConfig) => mysqlSource(config).streams(newRun());

const dumpsNow = async () =>
  (await save(onSocket({ exclude: ['big'] }))).map(({ bytes }) => bytes.toString('latin1'));

const withoutTimes = (text: string) => text.replace(/"password_last_changed": ?\d+/g, '');

const filesNow = async () => (await mysqlSource(onSocket()).streams(newRun())).map(({ file }) => file);

/** Every table with a hash of its rows, and how everything was made. */
async function contentOf(service: MariadbService, database: string): Promise<Record<string, string>> {
  const of = literal(database);
  const names = `SELECT HEX(table_name), table_type FROM information_schema.tables WHERE table_schema = ${of} ORDER BY 1`;
  const tables = (await sql(service, database, names))
    .split('\n')
    .filter((row) => row !== '')
    .map((row) => row.split('\t'))
    .map(([hex = '', type]) => ({ name: quoted(Buffer.from(hex, 'hex').toString()), type }));
  const ask = {
    database: `SHOW CREATE DATABASE ${quoted(database)}`,
    made: tables.map(({ name }) => `SHOW CREATE TABLE ${name}`).join('; '),
    rows: tables
      .flatMap(({ name, type }) => (type === 'SEQUENCE' ? [] : [`CHECKSUM TABLE ${name} EXTENDED`]))
      .join('; '),
    routines: `SELECT routine_name, routine_definition, definer, sql_mode, character_set_client, database_collation
      FROM information_schema.routines WHERE routine_schema = ${of} ORDER BY 1`,
    triggers: `SELECT trigger_name, action_timing, action_statement, definer, sql_mode FROM information_schema.triggers
      WHERE trigger_schema = ${of} ORDER BY 1`,
    events: `SELECT event_name, event_definition, interval_value, starts, status, definer, event_comment
      FROM information_schema.events WHERE event_schema = ${of} ORDER BY 1`,
  };
  const content: Record<string, string> = {};
  for (const [what, query] of Object.entries(ask)) content[what] = await sql(service, database, query);
  content['database'] = content['database']!.split('/*')[1]!;
  content['rows'] = content['rows']!.replaceAll(`${database}.`, '');
  return content;
}

/** With an option file of the user, as by hand. */
async function withOptions<T>(options: string, body: () => Promise<T>): Promise<T> {
  const home = await newDirectory(0o700);
  await writeFile(join(home, '.my.cnf'), options, { mode: 0o600 });
  const { HOME } = process.env;
  process.env['HOME'] = home;
  try {
    return await body();
  } finally {
    process.env['HOME'] = HOME;
  }
}

/** A folder of programs in which one is a script. */
async function programsWith(name: string, script: string): Promise<string[]> {
  const directory = await newDirectory(0o755);
  for (const program of ['mariadb', 'mariadb-dump'])
    if (program !== name) await symlink(`/usr/bin/${program}`, join(directory, program));
  await writeFile(join(directory, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return [directory];
}

const version = (text: string) =>
  `case "$1" in --version) echo '${text}'; exit;; --print-defaults) exit;; esac`;
const asFixture = (fixture: string) =>
  `${version('mariadb-dump  Ver 10.19 Distrib 10.11.99-MariaDB, for debian')}\nexec ${join(fixtures, fixture)} "$@"`;

const into = (service: MariadbService, database = '') =>
  `mysql:///${encodeURIComponent(database)}?socket=${service.socket}`;

const loading = (change: object = {}) => ({ ...newRun(), force: false, ...change });

const databasesOf = async (service: MariadbService) =>
  (await sql(service, 'mysql', 'SELECT HEX(schema_name) FROM information_schema.schemata'))
    .split('\n')
    .map((hex) => Buffer.from(hex, 'hex').toString());

const refusedAsOne = (what: RegExp) => failsWith('restore-failed', what, /lower_case_table_names = 0/);

/** One of everything that a database can hold. */
const everything = `
  CREATE DATABASE everything CHARACTER SET latin1 COLLATE latin1_german1_ci COMMENT 'it''s; a \\\\ comment';
  USE everything;
  CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, b longblob, g geometry, bits bit(9), j json,
    v varchar(90) CHARACTER SET utf8mb4, stored int AS (length(b) * 2) STORED, virt int AS (length(v) + 1) VIRTUAL,
    hidden int INVISIBLE DEFAULT 7, n decimal(30, 10), f double, d datetime(6), stamp timestamp NULL, e enum('a', 'ü'));
  INSERT INTO t (b, g, bits, j, v, n, f, d, stamp, e) VALUES
    (x'${everyByte}', point(1, 2), b'101010101', '{"a": "😀"}', '😀 ''"\\\\ \\n\\t\\0 \\Z', 1.5, 1e-300, '2026-03-29 02:30:00.123456', '2026-11-26 12:00:00', 'ü'),
    (NULL, NULL, NULL, NULL, '\\n-- Dump completed\\nALTER DATABASE \`everything\` CHARACTER SET ', NULL, 0.1, NULL, NULL, NULL), (x'', NULL, 0, '[]', '', 0, 0, '2026-01-01', NULL, 'a');
  DELETE FROM t WHERE id = 3;
  CREATE TABLE \`ta\`\`ble "x" \\! %\` (\`col \`\`u\` int, PRIMARY KEY (\`col \`\`u\`)) PARTITION BY HASH (\`col \`\`u\`) PARTITIONS 3;
  INSERT INTO \`ta\`\`ble "x" \\! %\` VALUES (1), (2), (3), (4);
  CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES t (id) ON DELETE CASCADE, CHECK (id > 0));
  INSERT INTO child VALUES (1, 1), (2, 2);
  CREATE TABLE a_first (id int, parent int, FOREIGN KEY (parent) REFERENCES child (id));
  CREATE SEQUENCE seq START WITH 5 INCREMENT BY 3;
  SELECT NEXTVAL(seq);
  CREATE TABLE versioned (a int) WITH SYSTEM VERSIONING;
  INSERT INTO versioned VALUES (1), (2);
  UPDATE versioned SET a = 3 WHERE a = 1;
  CREATE VIEW a_view AS SELECT id, f(id) AS fid FROM z_view;
  CREATE TRIGGER trig BEFORE INSERT ON t FOR EACH ROW SET NEW.v = concat(NEW.v, '!');
  CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DISABLE COMMENT 'it''s' DO INSERT INTO child VALUES (9, 1);
`;

const withRoutines = `
  DELIMITER //
  CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC RETURN x + 1//
  CREATE PROCEDURE p() BEGIN
    -- a comment; with ' in it, and \\! in it
    # another
    /* a third */ SELECT ';', "//";
  END //
  DELIMITER ;
  CREATE VIEW z_view AS SELECT id FROM t;
`;

suite('mysql', { skip: withoutServices }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-mysql-'));
    await chmod(scratch, 0o755);
    const signal = new AbortController().signal;
    const [first, second] = await startedTogether(
      newDirectory(0o755).then((dir) => startMariadb(dir, signal)),
      newDirectory(0o755).then((dir) => startMariadb(dir, signal)),
    );
    [server, other] = [first, second];
    const [tables, views] = everything.split(/(?=\n {2}CREATE VIEW a_view)/);
    await sql(server, 'mysql', `${tables}${withRoutines}${views}`);
    // What was made under one character set of the database keeps it.
    await sql(server, 'mysql', 'ALTER DATABASE everything CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci');
    for (const name of oddNames)
      await sql(
        server,
        'mysql',
        `CREATE DATABASE ${quoted(name)}; USE ${quoted(name)};
         CREATE TABLE \`t a\` (id int PRIMARY KEY, text varchar(99)) COMMENT ${literal(name)};
         INSERT INTO \`t a\` SELECT seq, md5(concat(seq, DATABASE())) FROM seq_1_to_200`,
      );
    await sql(
      server,
      'mysql',
      `CREATE ROLE reader; CREATE ROLE \`odd "r'o;le\`; GRANT SELECT ON everything.* TO reader; GRANT reader TO \`odd "r'o;le\`;
       CREATE USER owner@'%' IDENTIFIED BY ${literal(oddPassword)}; GRANT ALL ON everything.* TO owner@'%'; GRANT ALL ON \`with space\`.* TO owner@'%';
       CREATE USER \`o'dd; \\\`\`u\`@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('x')
         REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 ACCOUNT LOCK;
       GRANT PROCESS ON *.* TO \`o'dd; \\\`\`u\`@localhost WITH GRANT OPTION; GRANT reader TO owner@'%' WITH ADMIN OPTION;
       SET DEFAULT ROLE reader FOR owner@'%'; GRANT SELECT (id, v), INSERT ON everything.t TO \`odd "r'o;le\`;
       GRANT EXECUTE ON PROCEDURE everything.p TO reader; GRANT EXECUTE ON FUNCTION everything.f TO PUBLIC;
       CREATE USER ''@'192.0.2.%'; GRANT SELECT ON \`with space\`.\`t a\` TO ''@'192.0.2.%';
       CREATE DATABASE big; CREATE TABLE big.big AS SELECT seq, repeat(md5(seq), 10) AS text FROM seq_1_to_200000;
       CREATE DATABASE mixed; CREATE TABLE mixed.isam (a int) ENGINE=MyISAM; CREATE TABLE mixed.aria (a int) ENGINE=Aria;
       CREATE TABLE mixed.inno (a int); INSERT INTO mixed.isam VALUES (1);`,
    );
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('a dump that the store does not have whole keeps no other from being loaded, but those that need it', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE d1; CREATE TABLE d1.t AS SELECT 1 AS a; CREATE DATABASE d2; CREATE TABLE d2.t AS SELECT 2 AS a;
       CREATE DATABASE d3; CREATE VIEW d3.v AS SELECT * FROM d2.t`,
    );
    const [d1, d2, d3] = await save(onSocket({ databases: ['d1', 'd2', 'd3'], users: false }));
    const lost = damagedAt(d2!.bytes.length - 20, d2!);
    const { lines, damaged } = await loadMysql(into(other), [lost, d1!], loading());
    assert.deepEqual(lines, ['database "d1" made and loaded']);
    assert.deepEqual(
      damaged?.map(({ file }) => file),
      ['d2.sql'],
    );
    await sql(other, 'mysql', 'DROP DATABASE d1');
    await assert.rejects(
      loadMysql(into(other), [d1!, lost, d3!], loading()),
      failsWith(
        'restore-failed',
        /"d3" failed.*1146.*d2.sql cannot be read whole; done before: database "d1" made/s,
      ),
    );
    assert.equal(await sql(other, 'mysql', `SHOW DATABASES LIKE 'd_'`), 'd1');
    const [users] = await save(onSocket({ databases: ['d1'] }));
    await assert.rejects(
      loadMysql(into(other), [damagedAt(20, users!), d1!], loading({ force: true })),
      failsWith('verify-failed', /^users.sql cannot/, /--source SOURCE\/FILE for each/),
    );
    await sql(other, 'mysql', 'DROP DATABASE d1');
    for (const name of ['d1', 'd2', 'd3']) await sql(server, 'mysql', `DROP DATABASE ${name}`);
  });

  test('a whole server comes back on another: odd names, every kind of object, users and their rights', async () => {
    const run = newRun();
    const saved = await save(onSocket({ exclude: ['big'] }), run);
    assert.equal(saved.length, 1 + oddNames.length + 2);
    for (const { file } of saved) assert.match(file, /^[A-Za-z0-9_%-][A-Za-z0-9_.%-]*$/);
    assert.deepEqual(run.codes, ['not-consistent']);
    const { lines } = await loadMysql(into(other), saved, loading());
    for (const name of [...oddNames, 'everything', 'mixed']) {
      assert.ok(lines.some((line) => line === `database ${JSON.stringify(name)} made and loaded`));
      assert.deepEqual(await contentOf(other, name), await contentOf(server, name), name);
    }
    const check = `SELECT HEX(b), HEX(v), ST_AsText(g), bits + 0, stored, virt, hidden, f, d, stamp FROM t;
      SELECT a, row_end > NOW() FROM versioned FOR SYSTEM_TIME ALL ORDER BY 1; SELECT * FROM a_view`;
    assert.equal(await sql(other, 'everything', check), await sql(server, 'everything', check));
    assert.ok(Number(await sql(other, 'everything', 'SELECT NEXTVAL(seq)')) >= 8, 'no number comes twice');
    const versioned = 'SELECT a, row_start, row_end FROM versioned FOR SYSTEM_TIME ALL ORDER BY 1';
    assert.equal(await sql(other, 'everything', versioned), await sql(server, 'everything', versioned));
    const users = `SELECT user, host, priv FROM mysql.global_priv WHERE user NOT IN ('admin', 'root', 'mysql') ORDER BY 1, 2;
      SELECT * FROM mysql.db ORDER BY 1, 2, 3; SELECT user, host, role, admin_option FROM mysql.roles_mapping ORDER BY 1, 2, 3;
      SELECT db, user, table_name, table_priv, column_priv FROM mysql.tables_priv ORDER BY 1, 2, 3;
      SELECT db, user, routine_name, proc_priv FROM mysql.procs_priv ORDER BY 1, 2, 3;`;
    assert.equal(
      withoutTimes(await sql(other, 'mysql', users)),
      withoutTimes(await sql(server, 'mysql', users)),
    );
    assert.equal(await sql(other, 'mysql', 'SELECT @@GLOBAL.max_allowed_packet'), '16777216', 'put back');
    assert.ok(lines.includes('user root@localhost keeps its password: this restore is logged in as it'));
  });

  test('dumps of what has not changed are the same byte for byte, also after other things changed', async () => {
    const first = await dumpsNow();
    await sql(
      server,
      'mysql',
      'SELECT COUNT(*) FROM everything.t; ANALYZE TABLE everything.t; CREATE DATABASE d; DROP DATABASE d',
    );
    await delay(1100);
    assert.deepEqual(await dumpsNow(), first);
  });

  test('a second load of the same is refused, with force it is repeated', async () => {
    const saved = await saveOne('with space');
    await assert.rejects(
      loadMysql(into(other), [saved], loading()),
      failsWith('target-exists', /"with space".*not empty/),
    );
    await sql(other, 'with space', 'DELETE FROM `t a`');
    await loadMysql(into(other), [saved], loading({ force: true }));
    assert.deepEqual(await contentOf(other, 'with space'), await contentOf(server, 'with space'));
  });

  test('one dump loads into a database of another name, whatever the size of its chunks', async () => {
    const { file, bytes } = await saveOne('everything');
    assert.match(bytes.toString('latin1'), /\nALTER DATABASE `everything` CHARACTER SET latin1/);
    const name = 'ne`w=one';
    const { lines } = await loadMysql(into(server, name), [asSaved(file, bytes, 7)], loading());
    assert.deepEqual(lines, ['database "ne`w=one" made and loaded']);
    const [there, was] = [await contentOf(server, name), await contentOf(server, 'everything')];
    assert.deepEqual(there, was);
    await sql(server, 'mysql', `DROP DATABASE ${quoted(name)}`);
  });

  test('in a database of another name, numbers come from its own sequences, and texts stay as they are', async () => {
    const text = "'NEXTVAL(`o``ld`.`seq`), nextval(`o``ld`.`seq`)'";
    const columns = (database: string) =>
      `id int DEFAULT NEXTVAL(${database}.seq) COMMENT ${text}, two int DEFAULT (NEXTVAL(${database}.seq) + LASTVAL(${database}.seq)),
       \`a'b\` varchar(99) DEFAULT ${text}, other int DEFAULT NEXTVAL(elsewhere.seq)`;
    await sql(
      server,
      'mysql',
      `CREATE DATABASE elsewhere; CREATE SEQUENCE elsewhere.seq; CREATE DATABASE \`o\`\`ld\`; USE \`o\`\`ld\`; CREATE SEQUENCE seq;
       CREATE TABLE t (${columns('`o``ld`')}); INSERT INTO t VALUES (1, 2, CONCAT('\n  ', 0x60, ${text}), 3)`,
    );
    const { file, bytes } = await saveOne('o`ld');
    await sql(server, 'mysql', 'DROP DATABASE `o``ld`');
    for (const chunkBytes of [7, 100_000]) {
      await loadMysql(into(server, 'ne`w'), [asSaved(file, bytes, chunkBytes)], loading());
      const made = await sql(server, 'ne`w', 'SHOW CREATE TABLE t');
      await sql(server, 'ne`w', `CREATE TABLE u (${columns('`ne``w`')})`);
      assert.equal(made, (await sql(server, 'ne`w', 'SHOW CREATE TABLE u')).replace(/^u(.*?)`u`/, 't$1`t`'));
      const same = `SELECT COUNT(*) FROM t WHERE \`a'b\` = CONCAT('\n  ', 0x60, ${text})`;
      assert.equal(await sql(server, 'ne`w', same), '1');
      await sql(server, 'mysql', 'DROP DATABASE `ne``w`');
    }
    await sql(server, 'mysql', 'DROP DATABASE elsewhere');
  });

  test('in a database of another name, views are about its own tables', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE o2; CREATE TABLE o2.o1 (a int); CREATE DATABASE o1; USE o1; CREATE TABLE o1 (a int); CREATE TABLE t (a int);
       INSERT INTO o1 VALUES (5); INSERT INTO t VALUES (5);
       CREATE USER leaver@x; GRANT ALL ON *.* TO leaver@x;
       CREATE DEFINER = leaver@x SQL SECURITY INVOKER VIEW gone AS SELECT o1.a FROM o1 WHERE o1.a > 0;
       CREATE VIEW two AS SELECT o1.a, b.a AS b, 'from \`o1\`.\`o1\`.\`a\`' AS text FROM o1 JOIN (t b JOIN t c ON b.a = c.a)
         WHERE o1.a NOT IN (SELECT o2.o1.a FROM o2.o1); DROP USER leaver@x`,
    );
    const { file, bytes } = await saveOne('o1');
    for (const part of ['select `o1`.`o1`.`a` AS', 'from (`o1`.`o1` join'])
      assert.ok(bytes.includes(part), part);
    await sql(server, 'mysql', 'DROP DATABASE o1');
    await loadMysql(into(server, 'n`1'), [asSaved(file, bytes, 7)], loading());
    assert.equal(await sql(server, 'n`1', 'SELECT * FROM gone'), '5');
    assert.equal(await sql(server, 'n`1', 'SELECT * FROM two'), '5\t5\tfrom `o1`.`o1`.`a`');
    await sql(server, 'mysql', 'DROP DATABASE `n``1`; DROP DATABASE o2');
  });

  test('in views of a database of another name, functions and sequences are its own, and tables stay what they are', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE o2; CREATE TABLE o2.t (a int); CREATE DATABASE o1; USE o1; CREATE TABLE t (a int); INSERT INTO t VALUES (5);
       CREATE TABLE o1 (d date, s text); INSERT INTO o1 VALUES ('2025-01-02', 'xxa');
       CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 8; CREATE SEQUENCE seq START WITH 7;
       CREATE VIEW parts AS SELECT extract(year FROM o1.d), trim(leading (SELECT 'x' FROM o1.t) FROM o1.s) FROM o1;
       CREATE VIEW calls AS SELECT o1.f(), nextval(seq) FROM t WHERE NOT EXISTS (SELECT * FROM o2.t);
       CREATE VIEW straight AS SELECT t.a AS \`a\nb\` FROM o1 STRAIGHT_JOIN t WHERE NOT EXISTS (SELECT * FROM o2.t)`,
    );
    const { file, bytes } = await saveOne('o1');
    for (const part of [
      'extract(year from `o1`.`d`)',
      '`o1`.`f`()',
      'val(`o1`.',
      'straight_join `o1`.',
      '`a\nb`',
    ])
      assert.ok(bytes.includes(part), part);
    await sql(server, 'mysql', 'DROP DATABASE o1');
    await loadMysql(into(server, 'n'), [asSaved(file, bytes, 7)], loading());
    assert.equal(await sql(server, 'n', 'SELECT * FROM parts'), '2025\ta');
    assert.equal(await sql(server, 'n', 'SELECT * FROM calls'), '8\t7');
    assert.equal(await sql(server, 'n', 'SELECT * FROM straight'), '5');
    await sql(server, 'mysql', 'DROP DATABASE n; DROP DATABASE o2');
  });

  test('a database with a long comment of several lines comes back', async () => {
    const comment = `it's\n;\\\n-- ${'ü'.repeat(500)}`;
    await sql(
      server,
      'mysql',
      `CREATE DATABASE commented COMMENT ${literal(comment)}; USE commented; CREATE TABLE t (a int)`,
    );
    const saved = await save(onSocket({ databases: ['commented'], users: false }));
    await loadMysql(into(other), saved, loading());
    assert.deepEqual(await contentOf(other, 'commented'), await contentOf(server, 'commented'));
    await sql(server, 'mysql', 'DROP DATABASE commented');
  });

  test('a dump loads into an empty database that is already there', async () => {
    await sql(server, 'mysql', 'CREATE DATABASE prepared');
    await loadMysql(into(server, 'prepared'), [await saveOne('-dash')], loading());
    assert.deepEqual(await contentOf(server, 'prepared'), await contentOf(server, '-dash'));
    await sql(server, 'mysql', 'DROP DATABASE prepared');
  });

  test('a dump loads whatever the SQL mode of the server', async () => {
    const mode = await sql(server, 'mysql', 'SELECT @@GLOBAL.sql_mode');
    const odd = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,NO_ZERO_DATE,STRICT_ALL_TABLES';
    const dump = await saveOne('everything');
    await sql(server, 'mysql', `SET GLOBAL sql_mode = '${odd}'`);
    try {
      await loadMysql(into(server, 'fresh'), [dump], loading());
    } finally {
      await sql(server, 'mysql', `SET GLOBAL sql_mode = '${mode}'`);
    }
    assert.deepEqual(await contentOf(server, 'fresh'), await contentOf(server, 'everything'));
    await sql(server, 'mysql', 'DROP DATABASE fresh');
  });

  test('a row whose bytes in hexadecimal are more than the server takes comes back', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE wide; CREATE TABLE wide.t (b longblob); INSERT INTO wide.t VALUES (REPEAT(x'00ff', 5000000))`,
    );
    await loadMysql(into(other), [await saveOne('wide')], loading());
    assert.equal(
      await sql(other, 'wide', 'SELECT LENGTH(b), MD5(b) FROM t'),
      await sql(server, 'wide', 'SELECT LENGTH(b), MD5(b) FROM t'),
    );
    await sql(server, 'mysql', 'DROP DATABASE wide');
  });

  test('a table that takes its numbers from a sequence comes back; a dump that locked the sequence out is told', async () => {
    const table = 'CREATE TABLE t (id int DEFAULT nextval(seq), v int); INSERT INTO t (v) VALUES (1), (2)';
    await sql(server, 'mysql', `CREATE DATABASE numbered; USE numbered; CREATE SEQUENCE seq; ${table}`);
    const { file, bytes } = await saveOne('numbered');
    await loadMysql(into(other), [asSaved(file, bytes)], loading());
    assert.deepEqual(await contentOf(other, 'numbered'), await contentOf(server, 'numbered'));

    const locking = bytes.toString('latin1').replace('\nINSERT INTO `t`', '\nLOCK TABLES `t` WRITE;$&');
    await assert.rejects(
      loadMysql(into(other), [asSaved(file, Buffer.from(locking, 'latin1'))], loading({ force: true })),
      failsWith('restore-failed', /ERROR 1100/, /LOCK TABLES/),
    );
    await sql(other, 'mysql', 'DROP DATABASE numbered');
    await sql(server, 'mysql', 'DROP DATABASE numbered');
  });

  test('names that are one to a server do not take the place of each other there', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE Shop; USE Shop; CREATE TABLE Orders (a int); INSERT INTO Orders VALUES (1); CREATE TABLE ordErs (b int);
       CREATE DATABASE shop; CREATE TABLE shop.t (a int); CREATE VIEW shop.T AS SELECT 1 AS one;
       CREATE DATABASE seqs; CREATE SEQUENCE seqs.S; CREATE TABLE seqs.s (a int);
       CREATE DATABASE greek; CREATE TABLE greek.ΠΕΛΑΤΕΣ (a int); CREATE TABLE greek.πελατεσ (a int);
       CREATE DATABASE shop2; USE shop2; CREATE TABLE T (a int);
       DELIMITER //
       CREATE PROCEDURE p() BEGIN\n-- Table structure for table \`t\`\nEND//
       DELIMITER ;`,
    );
    const saved = await save(
      onSocket({ databases: ['Shop', 'shop', 'seqs', 'greek', 'shop2'], users: false }),
    );
    const [tables, view, sequence, greek, plain] = saved.map((dump) => [dump]);
    const setting = ['--lower-case-table-names=1'];
    await using small = await startMariadb(await newDirectory(0o755), undefined, setting);
    await assert.rejects(
      loadMysql(into(small), saved, loading()),
      refusedAsOne(/databases "Shop" and "shop"/),
    );
    await assert.rejects(loadMysql(into(small), tables!, loading()), refusedAsOne(/"Orders" and "ordErs"/));
    await assert.rejects(loadMysql(into(small), view!, loading()), refusedAsOne(/shop\.sql "T" and "t"/));
    await assert.rejects(loadMysql(into(small), sequence!, loading()), refusedAsOne(/seqs\.sql "S" and "s"/));
    await assert.rejects(loadMysql(into(small), greek!, loading()), refusedAsOne(/"ΠΕΛΑΤΕΣ" and "πελατεσ"/));
    assert.ok(!(await databasesOf(small)).includes('shop'));
    await loadMysql(into(small, 'other'), plain!, loading());
    await assert.rejects(
      loadMysql(into(small, 'other'), view!, loading({ force: true })),
      refusedAsOne(/"T" and "t"/),
    );
    assert.equal(await sql(small, 'other', 'SHOW TABLES'), 't', 'what was there is as it was');
    await sql(
      server,
      'mysql',
      'DROP DATABASE Shop; DROP DATABASE shop; DROP DATABASE seqs; DROP DATABASE greek; DROP DATABASE shop2',
    );
  });

  test('a function that a server with a binary log refuses, and a time zone that it does not know, are told', async () => {
    await sql(server, 'mysql', 'CREATE DATABASE plain; CREATE FUNCTION plain.f() RETURNS int RETURN 1');
    const plain = await saveOne('plain');
    await using logging = await startMariadb(await newDirectory(0o755), undefined, ['--log-bin=log']);
    await assert.rejects(
      loadMysql(into(logging), [plain], loading()),
      failsWith(
        'restore-failed',
        /ERROR 1418/,
        /none, or has this setting: .*log_bin_trust_function_creators = ON/,
      ),
    );
    const { file, bytes } = await saveOne('everything');
    const there = bytes
      .toString('latin1')
      .replace("time_zone             = 'SYSTEM'", "time_zone = 'Europe/Berlin'");
    await assert.rejects(
      loadMysql(into(other, 'zoned'), [asSaved(file, Buffer.from(there, 'latin1'))], loading()),
      failsWith('restore-failed', /ERROR 1298.*'Europe\/Berlin'/, /tzinfo-to-sql/),
    );
    await sql(server, 'mysql', 'DROP DATABASE plain');
  });

  test('a history that the server does not take back is told with the way by hand', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE brief; USE brief; CREATE TABLE t (id int) WITH SYSTEM VERSIONING; CREATE TABLE cause (id int);
       CREATE TRIGGER a AFTER INSERT ON cause FOR EACH ROW INSERT INTO t VALUES (1);
       CREATE TRIGGER b AFTER INSERT ON cause FOR EACH ROW FOLLOWS a DELETE FROM t;
       INSERT INTO cause VALUES (1)`,
    );
    const { file, bytes } = await saveOne('brief');
    const refused = failsWith('restore-failed', /ERROR 1525/, /--to.*whose two last times are the same/);
    await assert.rejects(loadMysql(into(other), [asSaved(file, bytes)], loading()), refused);
    await sql(server, 'mysql', 'DROP DATABASE brief');
  });

  test('databases whose views are about each other come back in whatever order they need', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE c3; CREATE TABLE c3.t (a int); CREATE DATABASE c2; CREATE VIEW c2.v AS SELECT a FROM c3.t;
       CREATE DATABASE c1; CREATE VIEW c1.v AS SELECT a FROM c2.v; CREATE DATABASE c4; CREATE VIEW c4.v AS SELECT a FROM c1.v`,
    );
    const names = ['c1', 'c2', 'c3', 'c4'];
    const saved = await save(onSocket({ databases: names, users: false }));
    const { lines } = await loadMysql(into(other), saved, loading());
    assert.deepEqual(
      lines.toSorted(),
      names.map((name) => `database "${name}" made and loaded`),
    );
    for (const name of names)
      assert.deepEqual(await contentOf(other, name), await contentOf(server, name), name);
    const drop = names.map((name) => `DROP DATABASE ${name}`).join('; ');
    await sql(other, 'mysql', drop);
    const without = saved.filter(({ file }) => file !== 'c3.sql');
    await assert.rejects(
      loadMysql(into(other), without, loading()),
      failsWith('restore-failed', /loading database "c1" failed.*ERROR 1/, /other database first/),
    );
    assert.deepEqual(
      (await databasesOf(other)).filter((name) => names.includes(name)),
      [],
    );
    await sql(server, 'mysql', drop);
  });

  test('a login that may not raise the limit of the server for a long row is told that it is to be raised', async () => {
    const limit = (bytes: number) => sql(server, 'mysql', `SET GLOBAL max_allowed_packet = ${bytes}`);
    await limit(2 ** 30);
    await sql(
      server,
      'mysql',
      `CREATE DATABASE wide; CREATE TABLE wide.t (b longblob); INSERT INTO wide.t VALUES (REPEAT(x'00ff', 15000000));
       GRANT ALL ON wide.* TO owner@'%'`,
    );
    const dump = await saveOne('wide');
    await limit(2 ** 24);
    const password = new Secret(() => oddPassword);
    const url = `mysql://owner@127.0.0.1:${server.port}/wide`;
    const load = loadMysql(url, [dump], loading({ password, force: true }));
    // The server may have said why before it ended the connection, or not.
    await assert.rejects(load, { hint: /SET GLOBAL max_allowed_packet = 1073741824/ });
    await sql(server, 'mysql', `DROP DATABASE wide; REVOKE ALL ON wide.* FROM owner@'%'`);
  });

  test('a load that fails leaves nothing of a new database, and an empty one as it was', async () => {
    const { file, bytes } = await saveOne('with space');
    const cut = asSaved(file, bytes.subarray(0, bytes.length - 20));
    const broken = asSaved(
      file,
      Buffer.concat([bytes.subarray(0, -18), Buffer.from('SELECT nonsense;\n-- Dump completed\n')]),
    );
    for (const dump of [cut, broken]) {
      await assert.rejects(loadMysql(into(server, 'fresh'), [dump], loading()), failsWith('restore-failed'));
      assert.ok(!(await databasesOf(server)).includes('fresh'));
    }
    await sql(server, 'mysql', `CREATE DATABASE fresh COLLATE latin1_bin COMMENT 'mine'`);
    const was = await contentOf(server, 'fresh');
    await assert.rejects(
      loadMysql(into(server, 'fresh'), [broken], loading()),
      failsWith('restore-failed', /nonsense/),
    );
    assert.deepEqual(await contentOf(server, 'fresh'), was);
    await sql(server, 'mysql', 'DROP DATABASE fresh');
  });

  test('an option file that lets the client go on after errors does not make a failed load a good one', async () => {
    const { file, bytes } = await saveOne('with space');
    const broken = Buffer.concat([
      bytes.subarray(0, -18),
      Buffer.from('SELECT nonsense;\n-- Dump completed\n'),
    ]);
    await assert.rejects(
      withOptions('[mysql]\nforce\n', () =>
        loadMysql(into(server, 'fresh'), [asSaved(file, broken)], loading()),
      ),
      failsWith('restore-failed', /nonsense/),
    );
    assert.ok(!(await databasesOf(server)).includes('fresh'));
  });

  test('a damaged dump changes nothing of a database that is not empty, and a failed one is told precisely', async () => {
    await sql(
      server,
      'mysql',
      'CREATE DATABASE old; CREATE TABLE old.mine (a int); CREATE TABLE old.`t a` (a int); CREATE TABLE old.zz (a int)',
    );
    const was = await contentOf(server, 'old');
    const { bytes } = await saveOne('with space');
    const cut = asSaved('old.sql', bytes.subarray(0, bytes.length - 20));
    await assert.rejects(
      loadMysql(into(server, 'old'), [cut], loading({ force: true })),
      failsWith('restore-failed', /not a whole dump/),
    );
    assert.deepEqual(await contentOf(server, 'old'), was);
    // Times of creation are whole seconds.
    await delay(1100);
    const broken = asSaved(
      'old.sql',
      Buffer.concat([
        bytes.subarray(0, -18),
        Buffer.from('DROP TABLE zz; SELECT nonsense;\n-- Dump completed\n'),
      ]),
    );
    await assert.rejects(
      loadMysql(into(server, 'old'), [broken], loading({ force: true })),
      failsWith(
        'restore-failed',
        /of database "old" there are now made anew, the last perhaps not whole: t a; gone: zz; as they were: 1 of 3/,
      ),
    );
    await sql(server, 'mysql', 'DROP DATABASE old');
  });

  test('a body that throws after its last byte leaves no database', async () => {
    const dump = await saveOne('with space');
    async function* open(): AsyncGenerator<Uint8Array> {
      yield* dump.open();
      await delay(300);
      throw new Error('the segment is damaged');
    }
    await assert.rejects(loadMysql(into(server, 'fresh'), [{ file: dump.file, open }], loading()), /damaged/);
    assert.ok(!(await databasesOf(server)).includes('fresh'));
  });

  test('an interrupted load leaves no database, and the limits of the server as they were', async () => {
    const abort = new AbortController();
    const dump = await saveOne('with space');
    async function* open(): AsyncGenerator<Uint8Array> {
      yield dump.bytes.subarray(0, 3000);
      await delay(100);
      abort.abort(new Error('enough'));
      yield dump.bytes.subarray(3000);
    }
    const load = loadMysql(into(server, 'fresh'), [{ file: dump.file, open }], {
      ...newRun(abort.signal),
      force: false,
    });
    await assert.rejects(load, /enough/);
    assert.ok(!(await databasesOf(server)).includes('fresh'));
    assert.equal(await sql(server, 'mysql', 'SELECT @@GLOBAL.max_allowed_packet'), '16777216');
  });

  test('an interrupted load over a database that is not empty tells what it is now', async () => {
    await sql(server, 'mysql', 'CREATE DATABASE old; CREATE TABLE old.mine (a int)');
    await delay(1100); // times of creation are whole seconds
    const abort = new AbortController();
    const { bytes } = await saveOne('with space');
    let opened = 0;
    async function* open(): AsyncGenerator<Uint8Array> {
      // The last chunk so far is held back.
      yield bytes.subarray(0, -100);
      yield bytes.subarray(-100, -18);
      // It is read through before it is loaded.
      if (++opened === 2) {
        const made = () => sql(server, 'old', "SHOW TABLES LIKE 't a'");
        while ((await made()) === '') await delay(20);
        abort.abort(new SealiftError('interrupted', 'interrupted by SIGINT'));
      }
      yield bytes.subarray(-18);
    }
    const load = loadMysql(into(server, 'old'), [{ file: 'old.sql', open }], {
      ...newRun(abort.signal),
      force: true,
    });
    await assert.rejects(
      load,
      failsWith(
        'interrupted',
        /^interrupted by SIGINT; of database "old" there are now made anew.*: t a; as they were: 1 of 1/,
      ),
    );
    await sql(server, 'mysql', 'DROP DATABASE old');
  });

  test('a hostile dump runs no program here and reads no file', async () => {
    const mark = join(scratch, 'was-here');
    const secret = join(scratch, 'secret');
    await writeFile(secret, 'canary\n');
    const { stdout } = await promisify(execFile)('sh', [
      '-c',
      `printf '\\\\! touch ${mark}\\n\\\\. ${secret}\\n' | mariadb --no-defaults --socket=${server.socket} 2>&1 || :`,
    ]);
    assert.ok(existsSync(mark) && stdout.includes('canary'), 'what this is about: the client left to itself');
    await rm(mark);
    for (const text of hostileTexts(mark, secret)) {
      const head = '-- MariaDB dump 10.19\n--\nCREATE TABLE `t a` (text text);\n';
      const hostile = asSaved('hostile.sql', Buffer.from(`${head}${text}\n-- Dump completed\n`));
      await loadMysql(into(server, 'hostile'), [hostile], loading({ force: true })).catch(
        (error: unknown) => {
          assert.ok(error instanceof SealiftError);
          assert.doesNotMatch(error.message, /canary/);
        },
      );
      assert.ok(!existsSync(mark), text);
      const here = await databasesOf(server);
      if (!here.includes('hostile')) continue;
      const read = await sql(server, 'hostile', 'SELECT * FROM `t a`; DROP DATABASE hostile');
      assert.equal(read, '', text);
    }
  });

  test('users with anything but accounts and grants in them never reach the server', async () => {
    const dump = await saveOne('-dash');
    const end = '-- Users and grants complete\n';
    for (const text of [
      `DROP DATABASE mixed;\n${end}`,
      `SET GLOBAL x = 1;\n${end}`,
      `CREATE USER IF NOT EXISTS \`a\`@\`b\`; \\! touch x\n${end}`,
      `CREATE USER IF NOT EXISTS \`a\`@\`b\`; /*! DROP DATABASE mixed */;\n${end}`,
      `GRANT SELECT ON *.* TO \`a\`@\`b\``,
      `GRANT SELECT ON *.* TO "a"; ${end}`,
      `SET SESSION sql_mode = 'ANSI_QUOTES';\n${end}`,
      `CREATE USER IF NOT EXISTS \`a\`@\`b\`;\n`,
    ])
      await assert.rejects(
        loadMysql(into(other), [asSaved('users.sql', Buffer.from(text)), dump], loading({ force: true })),
        failsWith('restore-failed', /among its users/),
        text,
      );
    assert.equal(await sql(other, 'mysql', `SELECT COUNT(*) FROM user WHERE user = 'a'`), '0');
  });

  test('accounts that exist get the saved password, grants on what is not there are named', async () => {
    const [users] = await save(onSocket({ databases: ['-dash'] }));
    assert.ok(users?.file === 'users.sql');
    await sql(
      other,
      'mysql',
      `ALTER USER owner@'%' IDENTIFIED BY 'changed'; DROP DATABASE everything; CREATE DATABASE everything`,
    );
    const { lines } = await loadMysql(into(other), [users, await saveOne('-dash')], loading({ force: true }));
    const query = `SELECT authentication_string FROM user WHERE user = 'owner'`;
    assert.equal(await sql(other, 'mysql', query), await sql(server, 'mysql', query));
    assert.match(lines.at(-1) ?? '', /none on what is not there: .*everything\.p/);
  });

  test('accounts that exist have no lock, limit or condition afterwards that the saved ones had not', async () => {
    const strict = `REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 MAX_UPDATES_PER_HOUR 6 MAX_CONNECTIONS_PER_HOUR 7
      MAX_USER_CONNECTIONS 8 MAX_STATEMENT_TIME 1.5 ACCOUNT LOCK PASSWORD EXPIRE INTERVAL 3 DAY`;
    const logins = ['free', 'strict', 'some'].map((user) => `\`${user} REQUIRE SSL\`@'%'`);
    const [free, bound, some] = logins;
    await sql(
      server,
      'mysql',
      `CREATE USER ${free} IDENTIFIED BY 'x'; CREATE USER ${bound} IDENTIFIED BY 'x' ${strict}; ALTER USER ${bound} PASSWORD EXPIRE;
       CREATE USER ${some} IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 3 PASSWORD EXPIRE NEVER`,
    );
    const properties = logins.map((login) => `SHOW CREATE USER ${login}`).join('; ');
    const saved = await save(onSocket({ databases: ['-dash'] }));
    for (const there of ['', strict]) {
      const drop = logins.map((login) => `DROP USER IF EXISTS ${login}; CREATE USER ${login} ${there}`);
      await sql(other, 'mysql', drop.join('; '));
      await loadMysql(into(other), saved, loading({ force: true }));
      assert.equal(await sql(other, 'mysql', properties), await sql(server, 'mysql', properties));
    }
    for (const one of [server, other]) await sql(one, 'mysql', `DROP USER ${logins.join(', ')}`);
  });

  test('users that log in by what the server lacks are refused before any account is made', async () => {
    const login = `\`a IDENTIFIED VIA b\`@'%' IDENTIFIED VIA unix_socket OR ed25519 USING PASSWORD('x')`;
    const made = `INSTALL SONAME 'auth_ed25519'; CREATE USER early@'%'; CREATE USER ${login} REQUIRE SSL`;
    await sql(server, 'mysql', made);
    const saved = await save(onSocket({ databases: ['-dash'] }));
    await sql(
      server,
      'mysql',
      `DROP USER early@'%', \`a IDENTIFIED VIA b\`@'%'; UNINSTALL SONAME 'auth_ed25519'`,
    );
    await assert.rejects(
      loadMysql(into(other), saved, loading({ force: true })),
      failsWith('restore-failed', /has no ed25519, by which there log in: a IDENTIFIED VIA b@%$/, /install/),
    );
    assert.equal(await sql(other, 'mysql', `SELECT COUNT(*) FROM user WHERE user = 'early'`), '0');
  });

  test('users with hashes are refused by a server that checks passwords before any account is made', async () => {
    const saved = await save(onSocket({ databases: ['mixed'] }));
    await sql(
      other,
      'mysql',
      "DROP USER IF EXISTS ''@'192.0.2.%'; INSTALL SONAME 'simple_password_check'; INSTALL SONAME 'auth_pam'",
    );
    try {
      const accounts = 'SELECT user, host, priv FROM mysql.global_priv ORDER BY 1, 2';
      const before = await sql(other, 'mysql', accounts);
      await assert.rejects(
        loadMysql(into(other), saved, loading({ force: true })),
        failsWith('restore-failed', /checks passwords \(simple_password_check\)/, /_validation = OFF/),
      );
      assert.equal(await sql(other, 'mysql', accounts), before);
      const { file, bytes } = saved.find((one) => one.file === 'users.sql')!;
      const lines = bytes.toString().split(/(?<=;\n)/);
      const pam =
        "CREATE USER IF NOT EXISTS `pammed`@`localhost` IDENTIFIED VIA pam USING 'login' OR unix_socket;\n";
      const noHashes = asSaved(file, Buffer.from(`${lines[0]}${pam}${lines.at(-1)}`));
      const dumps = saved.filter((one) => one.file !== file);
      await loadMysql(into(other), [noHashes, ...dumps], loading({ force: true }));
      await sql(other, 'mysql', 'DROP USER pammed@localhost; SET GLOBAL strict_password_validation = OFF');
      await assert.rejects(
        loadMysql(into(other), saved, loading({ force: true })),
        failsWith(
          'restore-failed',
          /1819.*\(simple_password_check\)/,
          /without a password.*UNINSTALL PLUGIN/,
        ),
      );
      await sql(other, 'mysql', 'UNINSTALL PLUGIN simple_password_check');
      await loadMysql(into(other), saved, loading({ force: true }));
    } finally {
      await sql(
        other,
        'mysql',
        "SET GLOBAL strict_password_validation = ON; UNINSTALL SONAME IF EXISTS 'simple_password_check'; UNINSTALL SONAME 'auth_pam'",
      );
    }
  });

  test('rights on routines come back, whatever the case of their names', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE Called; CREATE PROCEDURE Called.\`ÄProc\`() SELECT 1; CREATE FUNCTION Called.CamelFn() RETURNS int RETURN 1;
       CREATE TABLE Called.T (a int); CREATE USER caller@'%'; GRANT SELECT ON Called.T TO caller@'%';
       GRANT EXECUTE ON PROCEDURE Called.\`ÄProc\` TO caller@'%'; GRANT EXECUTE ON FUNCTION Called.CamelFn TO caller@'%'`,
    );
    const saved = await save(onSocket({ databases: ['Called'] }));
    const { lines } = await loadMysql(into(other), saved, loading());
    assert.doesNotMatch(lines.at(-1) ?? '', /Called\./);
    const grants = `SHOW GRANTS FOR caller@'%'`;
    assert.equal(await sql(other, 'mysql', grants), await sql(server, 'mysql', grants));
    await using small = await startMariadb(await newDirectory(0o755), undefined, [
      '--lower-case-table-names=1',
    ]);
    await loadMysql(into(small), saved, loading());
    assert.equal(
      await sql(small, 'mysql', grants),
      (await sql(server, 'mysql', grants)).replace(/`Called`(\.`T`)?/g, (name) => name.toLowerCase()),
    );
    for (const one of [server, other]) await sql(one, 'mysql', `DROP DATABASE Called; DROP USER caller@'%'`);
  });

  test('tables without transactions are named, each by its database', async () => {
    const run = newRun();
    await mysqlSource(onSocket()).streams(run);
    assert.deepEqual(run.codes, ['not-consistent']);
    assert.match(run.problems[0] ?? '', /database "mixed".*: "aria" \(Aria\), "isam" \(MyISAM\)$/);
  });

  test('a history that goes by transactions, which the dump program does not read, is left out and told', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE numbered; USE numbered;
       CREATE TABLE t (a int, s bigint unsigned GENERATED ALWAYS AS ROW START, e bigint unsigned GENERATED ALWAYS AS ROW END,
         PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING;
       CREATE TABLE timed (a int, s timestamp(6) GENERATED ALWAYS AS ROW START INVISIBLE,
         e timestamp(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING;
       INSERT INTO t (a) VALUES (1), (2); UPDATE t SET a = 3 WHERE a = 1; INSERT INTO timed VALUES (4); UPDATE timed SET a = 5`,
    );
    const run = newRun();
    const saved = await save(onSocket({ databases: ['numbered'], users: false }), run);
    assert.deepEqual(run.codes, ['not-consistent']);
    assert.match(
      run.problems[0] ?? '',
      /"numbered".* without their history, because .* transactions, as that of "t" .*: "t" \(InnoDB\), "timed" \(InnoDB\)$/,
    );
    await loadMysql(into(other), saved, loading());
    const rows = 'SELECT a FROM t FOR SYSTEM_TIME ALL ORDER BY a; SELECT a FROM timed FOR SYSTEM_TIME ALL';
    assert.equal(await sql(other, 'numbered', rows), '2\n3\n5');
    await sql(server, 'mysql', 'DROP DATABASE numbered');
  });

  test('a login with rights on one database saves it, and tells what it cannot see', async () => {
    const password = new Secret(() => oddPassword);
    const run = newRun();
    const own = await save(overTcp({ user: 'owner', password, databases: ['with space'] }), run);
    assert.deepEqual(
      own.map(({ file }) => file),
      ['with%20space.sql'],
    );
    assert.deepEqual(run.codes, ['rights-missing']);
    assert.match(run.problems[0] ?? '', /users and grants of .* are not saved: the login owner@%/);

    await assert.rejects(
      save(overTcp({ user: 'owner', password, databases: ['everything'] })),
      failsWith('source-denied', /insuffici?ent privileges/, /routines of others/),
    );

    await sql(
      server,
      'mysql',
      `CREATE USER looker@'%' IDENTIFIED BY 'x'; GRANT SELECT, SHOW VIEW, EVENT ON \`with space\`.* TO looker@'%'`,
    );
    const less = newRun();
    const looker = overTcp({ user: 'looker', password: new Secret(() => 'x'), users: false });
    await save(looker, less);
    assert.match(
      less.problems.join('\n'),
      /sees only databases that it has rights on[^]*"with space" may lack .*: triggers \(TRIGGER\), routines/,
    );
    await assert.rejects(save({ ...looker, databases: ['big'] }), failsWith('source-denied', /"big"/));
  });

  test('a plain login loads what it may, and is told why views of others are not its to make', async () => {
    await sql(server, 'mysql', `CREATE DATABASE theirs; GRANT ALL ON theirs.* TO owner@'%'`);
    const password = new Secret(() => oddPassword);
    const url = `mysql://owner@127.0.0.1:${server.port}/theirs`;
    await loadMysql(url, [await saveOne('with space')], loading({ password }));
    await assert.rejects(
      loadMysql(url, [await saveOne('everything')], loading({ password, force: true })),
      failsWith('source-denied', /SUPER|SET USER/, /belong to other users/),
    );
    await sql(server, 'mysql', 'DROP DATABASE theirs');
  });

  test('a client that an option file has answer in another form is told from a server', async () => {
    for (const form of ['table', 'verbose'])
      await assert.rejects(
        withOptions(`[mysql]\n${form}\n`, () => streamsOf(onSocket())),
        failsWith('config-invalid', /an option file.* changes how .*mariadb answers/, /\[mysql\]/),
      );
  });

  test('a server that gives a login only so many rows is refused: the dump would end there', async () => {
    for (const [set, unset] of [
      ['SET GLOBAL sql_select_limit = 3', 'SET GLOBAL sql_select_limit = DEFAULT'],
      [`SET GLOBAL init_connect = 'SET sql_select_limit = 3'`, `SET GLOBAL init_connect = ''`],
    ] as const) {
      await sql(server, 'mysql', set);
      const password = new Secret(() => oddPassword);
      const asked = streamsOf(overTcp({ user: 'owner', password, databases: ['with space'] }));
      await assert.rejects(
        asked,
        failsWith('source-unavailable', /gives the login owner@% no more than 3 rows/, /sql_select_limit/),
      );
      await sql(server, 'mysql', unset);
    }
  });

  test('an option file that limits the rows of the client limits no users, and a server that does no restore', async () => {
    const limits = '[mysql]\nsafe-updates\nselect-limit=2\n';
    assert.equal(await withOptions(limits, savedUsers), await savedUsers());

    await sql(server, 'mysql', 'CREATE DATABASE `zz last`; CREATE TABLE `zz last`.t (a int)');
    await sql(server, 'mysql', 'SET GLOBAL sql_select_limit = 1');
    const load = loadMysql(into(server, 'zz last'), [asSaved('x.sql', Buffer.from(''))], loading());
    await assert.rejects(load, failsWith('target-exists'));
    await sql(server, 'mysql', 'SET GLOBAL sql_select_limit = DEFAULT; DROP DATABASE `zz last`');
  });

  test('an option file that would cut the dumps is refused, and one with other options changes nothing', async () => {
    const config = onSocket({ databases: ['-dash'], users: false });
    const options = ['no-data', 'no_create_info', 'where=id < 3', 'whe=1', 'ignore-table=-dash.t a'];
    for (const option of [...options, 'loose-ignore-table-data=a.b', 'databases', 'compatible=ansi'])
      for (const group of ['mysqldump', 'mariadb-dump'])
        await assert.rejects(
          withOptions(`[${group}]\nquick\n${option}\n`, () => streamsOf(config)),
          failsWith(
            'config-invalid',
            /an option file.* changes what .*-dump dumps: --(?!quick)/,
            /\[mysqldump\]/,
          ),
          option,
        );
    const harmless =
      '[mysqldump]\nskip-triggers\nskip-opt\nskip-tz-utc\nskip-quote-names\nnet_buffer_length=16K\n';
    const [saved] = await withOptions(harmless, () => save(config));
    assert.deepEqual(saved?.bytes, (await saveOne('-dash')).bytes);
  });

  test('the server is asked for its databases at each run', async () => {
    assert.ok(!(await filesNow()).includes('later.sql'));
    await sql(server, 'mysql', 'CREATE DATABASE later');
    assert.ok((await filesNow()).includes('later.sql'));
    await sql(server, 'mysql', 'DROP DATABASE later');
  });

  test('details tell the versions of server and program, and what the databases are', async () => {
    const run = newRun();
    await mysqlSource(onSocket({ databases: ['everything'] })).streams(run);
    assert.deepEqual(
      run.details.map(({ type }) => type),
      ['server', 'database'],
    );
    assert.match(
      JSON.stringify(run.details[0]),
      /"maker":"MariaDB","version":"1\d\.\d+\.\d+","dumpedBy":"MariaDB 1\d\.\d+/,
    );
    assert.match(
      JSON.stringify(run.details[1]),
      /"name":"everything","characterSet":"utf8mb4","collation":"utf8mb4_unicode_ci",.*"tables":5,"sizeBytes":\d{5,}/,
    );
  });

  test('a database that is listed in capitals where case does not matter is the one that is there', async () => {
    const setting = ['--lower-case-table-names=1'];
    await using small = await startMariadb(await newDirectory(0o755), undefined, setting);
    await sql(
      small,
      'mysql',
      'CREATE DATABASE Wiki CHARACTER SET latin1 COLLATE latin1_german1_ci; CREATE TABLE wiki.t (a int) ENGINE=MyISAM; CREATE DATABASE ΠΕΛΑΤΕΣ',
    );
    const run = newRun();
    const config = { host: small.socket, users: false };
    const [dump] = await save(onSocket({ ...config, databases: ['Wiki'] }), run);
    assert.deepEqual([dump!.file, run.codes], ['wiki.sql', ['not-consistent']]);
    assert.match(dump!.bytes.toString(), /^ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_german1_ci;/);
    const others = await mysqlSource(onSocket({ ...config, exclude: ['ΠΕΛΑΤΕΣ'] })).streams(newRun());
    assert.deepEqual(
      others.map(({ file }) => file),
      ['wiki.sql'],
    );
    const lacking = await mysqlSource(onSocket({ databases: ['Everything'], users: false })).streams(
      newRun(),
    );
    assert.match(lacking[0]?.lacks?.[0] ?? '', /no database "Everything"/);
  });

  test('a listed database that does not exist fails alone', async () => {
    const run = newRun();
    const [gone, there] = await mysqlSource(onSocket({ databases: ['gone', '-dash'], users: false })).streams(
      run,
    );
    assert.ok(gone && there);
    assert.match(gone.lacks?.[0] ?? '', /no database "gone" that the login root@localhost may see/);
    assert.equal(there.lacks, undefined);
    await assert.rejects(
      Array.fromAsync(gone.open(run)),
      failsWith('source-unavailable', /database "gone".*Unknown database/),
    );
    assert.ok((await Array.fromAsync(there.open(run))).length > 0);
  });

  test('a database with an event that the dump program would spin over for ever fails at once, and alone', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE spins; USE spins; CREATE EVENT fine ON SCHEDULE EVERY 1 DAY DO SELECT '; ;';
       CREATE EVENT \`e;;\` ON SCHEDULE EVERY 1 DAY DO SELECT 1; CREATE EVENT said ON SCHEDULE EVERY 1 DAY COMMENT ';;' DO SELECT 1;
       CREATE EVENT ev ON SCHEDULE EVERY 1 DAY DO SELECT ';;'`,
    );
    const run = newRun(AbortSignal.timeout(20_000));
    const config = onSocket({ databases: ['spins', '-dash'], users: false });
    const [spins, there] = await mysqlSource(config).streams(run);
    assert.ok(spins && there);
    const says = /"spins" would never end.* "e;;", "ev", "said"$/;
    await assert.rejects(
      Array.fromAsync(spins.open(run)),
      failsWith('source-unavailable', says, /ALTER EVENT/),
    );
    assert.ok((await Array.fromAsync(there.open(run))).length > 0);
    await sql(server, 'mysql', 'DROP DATABASE spins');
  });

  test('a view that reads what is gone fails its database, with what to do', async () => {
    await sql(
      server,
      'mysql',
      'CREATE DATABASE stale; USE stale; CREATE TABLE t (a int); CREATE VIEW v AS SELECT a FROM t; DROP TABLE t',
    );
    await assert.rejects(
      saveOne('stale'),
      failsWith('source-unavailable', /database "stale".*'stale\.v'.*\(1356\)/, /ALTER VIEW, or DROP VIEW/),
    );
    await sql(server, 'mysql', 'DROP DATABASE stale');
  });

  test('a source with no database left is an error, not an empty success', async () => {
    const config = onSocket({ databases: ['big'], exclude: ['big'] });
    await assert.rejects(mysqlSource(config).streams(newRun()), failsWith('source-empty'));
  });

  test('a wrong or missing password and a server that is down are told apart', async () => {
    await assert.rejects(
      streamsOf(overTcp({ password: new Secret(() => 'wrong') })),
      failsWith('source-denied', /using password: YES/, /check user/),
    );
    await assert.rejects(
      streamsOf(overTcp({ password: undefined })),
      failsWith('source-denied', /using password: NO/, /no password was given/),
    );
    await assert.rejects(streamsOf(overTcp({ port: 1 })), failsWith('source-unavailable', /Can't connect/));
    await assert.rejects(
      streamsOf(onSocket({ host: '/nowhere/s' })),
      failsWith('source-unavailable', /socket \/nowhere\/s/),
    );
  });

  test('a password with every odd character works, and is in no argument, environment, message or detail', async () => {
    const seen = watchForCanary();
    const run = newRun();
    const saving = (database: string) =>
      save(
        overTcp({ user: 'owner', password: new Secret(() => oddPassword), databases: [database] }),
        run,
      ).catch((error: unknown) => error);
    const there = await saving('with space');
    const failure = await saving('big');
    const found = seen();
    assert.ok(Array.isArray(there), String(there));
    assert.ok(failure instanceof SealiftError && failure.code === 'source-denied');
    assert.deepEqual(found, []);
    const told = JSON.stringify([
      run.details,
      run.problems,
      failure.message,
      failure.hint,
      String(failure.cause),
    ]);
    assert.ok(!told.includes(canary));
  });

  test('a password in ~/.my.cnf logs in where none is configured, and does not win over one that is', async () => {
    await withOptions(`[client]\nuser=${server.user}\npassword=${server.password}\n`, async () => {
      const [found] = await save(
        overTcp({ user: undefined, password: undefined, databases: ['-dash'], users: false }),
      );
      assert.ok(found);
      const password = new Secret(() => oddPassword);
      await save(overTcp({ user: 'owner', password, databases: ['with space'], users: false }));
    });
  });

  test(
    'the password file has mode 0600, and can be read by the user that the tools run as',
    { skip: process.geteuid?.() !== 0 },
    async () => {
      const made: string[] = [];
      const run = newRun();
      const temporary = async () => {
        const path = await run.temporary();
        made.push(path);
        return path;
      };
      await mysqlSource(overTcp({ runAs: 'nobody' })).streams({ ...run, temporary });
      const file = join(made[0] ?? '', 'password.cnf');
      assert.match(await readFile(file, 'utf8'), /^\[client\]\npassword="\w+"\n$/);
      const { stdout } = await promisify(execFile)('stat', ['-c', '%a %U', file]);
      assert.equal(stdout.trim(), '600 nobody');
    },
  );

  test('a mariadb-dump that is killed midway does not end its stream naturally', async () => {
    const run = newRun();
    const [stream] = await mysqlSource(onSocket({ databases: ['big'], users: false })).streams(run);
    assert.ok(stream);
    const read = async () => {
      let chunks = 0;
      for await (const _ of stream.open(run))
        if (++chunks === 2) process.kill(childNamed('mariadb-dump'), 'SIGKILL');
    };
    await assert.rejects(read(), failsWith('tool-failed', /SIGKILL/));
  });

  test('a dump that is not read for so long that the server gives it up is told, and a load waits', async () => {
    await sql(server, 'mysql', 'SET GLOBAL net_write_timeout = 1; SET GLOBAL wait_timeout = 1');
    const run = newRun();
    // By TCP, since what is being written to a socket of this machine is not lost.
    const [stream] = await mysqlSource(overTcp({ databases: ['big'], users: false })).streams(run);
    assert.ok(stream);
    await assert.rejects(
      Array.fromAsync(slowly(stream.open(run))),
      failsWith('source-unavailable', /Lost connection/, /net_write_timeout/),
    );
    const saved = await saveOne('big');
    await loadMysql(into(server, 'late'), [{ ...saved, open: () => slowly(saved.open()) }], loading());
    assert.deepEqual(await contentOf(server, 'late'), await contentOf(server, 'big'));
    await sql(server, 'mysql', 'DROP DATABASE late');
    await sql(server, 'mysql', 'SET GLOBAL net_write_timeout = 60; SET GLOBAL wait_timeout = 28800');
  });

  test('a connection that the server ends midway does not end the stream naturally', async () => {
    const run = newRun();
    const [stream] = await mysqlSource(onSocket({ databases: ['big'], users: false })).streams(run);
    assert.ok(stream);
    const read = async () => {
      let chunks = 0;
      for await (const _ of stream.open(run)) {
        if (++chunks !== 2) continue;
        const dumping = await sql(
          server,
          'mysql',
          `SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT%FROM%big%' AND id <> CONNECTION_ID()`,
        );
        await sql(server, 'mysql', `KILL ${dumping}`);
      }
    };
    await assert.rejects(read(), failsWith('source-unavailable', /Lost connection/));
  });

  test('an abort ends mariadb-dump and its stream, and one that hangs', async () => {
    for (const directories of [undefined, await programsWith('mariadb-dump', asFixture('hangs'))]) {
      const abort = new AbortController();
      const run = newRun(abort.signal);
      const source = mysqlSource(onSocket({ databases: ['big'], users: false }), directories);
      const [stream] = await source.streams(run);
      assert.ok(stream);
      const read = async () => {
        let chunks = 0;
        for await (const _ of stream.open(run)) if (++chunks === 2) abort.abort(new Error('enough'));
      };
      await assert.rejects(read(), /enough/);
      assert.throws(() => childNamed(directories === undefined ? 'mariadb-dump' : 'hangs'));
    }
  });

  for (const [fixture, code, says] of [
    ['empty', 'source-empty', /is empty/],
    ['something-else', 'source-damaged', /does not begin/],
    ['dies-midway', 'tool-failed', /SIGKILL/],
    ['fails-at-the-end', 'tool-failed', /the disk of the server is broken/],
    ['floods-stderr', 'tool-failed', /the last word/],
  ] as const)
    test(`a mariadb-dump that is "${fixture}" ends in ${code}`, async () => {
      const config = onSocket({ databases: ['-dash'], users: false });
      const directories = await programsWith('mariadb-dump', asFixture(fixture));
      await assert.rejects(save(config, newRun(), directories), failsWith(code, says));
    });

  test('a dump that is cut off without a word is not taken for one', async () => {
    const script = `${version('mariadb-dump  Ver 10.19 Distrib 10.11.99-MariaDB')}\n/usr/bin/mariadb-dump "$@" | head -c 2000`;
    const config = onSocket({ databases: ['-dash'], users: false });
    const directories = await programsWith('mariadb-dump', script);
    await assert.rejects(save(config, newRun(), directories), failsWith('source-damaged', /does not end/));
  });

  test('a dump program that is too old, of the other maker, or missing is refused by name', async () => {
    const streams = async (script: string) =>
      mysqlSource(onSocket(), await programsWith('mariadb-dump', script)).streams(newRun());
    const install = /apt-get install mariadb-client/;
    await assert.rejects(
      streams(version('mysqldump  Ver 10.16 Distrib 10.1.48-MariaDB, for debian-linux-gnu (x86_64)')),
      failsWith('tool-too-old', /is 10\.1\.48/, install),
    );
    await assert.rejects(
      streams(version('mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)')),
      failsWith('tool-missing', /is MySQL's/, install),
    );
    const [directory = ''] = await programsWith('mariadb-dump', '');
    await rm(join(directory, 'mariadb-dump'));
    await assert.rejects(
      mysqlSource(onSocket(), [directory]).streams(newRun()),
      failsWith('tool-missing', /mariadb-dump or mysqldump is not installed/, install),
    );
    await rm(join(directory, 'mariadb'));
    await assert.rejects(
      mysqlSource(onSocket(), [directory]).streams(newRun()),
      failsWith('tool-missing', /mariadb or mysql/),
    );
  });

  test('by the program: backed up as the plain configuration says, loaded with the password from MYSQL_PWD', async (t) => {
    const source = { name: 'web', kind: 'mysql', databases: ['everything', 'mixed'], host: server.socket };
    const env = { MYSQL_PWD: oddPassword };
    const login = `CREATE OR REPLACE USER loader@'%' IDENTIFIED BY ${literal(oddPassword)}`;
    await sql(other, 'mysql', `${login}; GRANT ALL ON *.* TO loader@'%' WITH GRANT OPTION`);
    const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources: [source] } }, env });
    const { snapshots } = await world.json<BackupSummary>('backup');
    assert.equal(snapshots[0]?.status, 'complete');
    assert.deepEqual(
      snapshots[0].problems.map(({ source, code }) => [source, code]),
      [['web', 'not-consistent']],
    );
    const again = await world.json<BackupSummary>('backup');
    assert.equal(again.snapshots[0]?.newBytes, 0, 'nothing is new');

    await sql(other, 'mysql', 'DROP DATABASE IF EXISTS everything; DROP DATABASE IF EXISTS mixed');
    const url = `mysql://loader@127.0.0.1:${other.port}`;
    const restored = await world.run('restore', 'latest', '--into', url, '--key', world.key);
    assert.equal(restored.status, 0, restored.stderr);
    assert.match(
      restored.stdout + restored.stderr,
      /grants loaded \(\d+ of \d+\); none that this login is not allowed to pass on: (?=.*PROXY).*reader/,
    );
    assert.deepEqual(await contentOf(other, 'everything'), await contentOf(server, 'everything'));
    const refused = await world.run('restore', 'latest', '--into', url, '--key', world.key);
    assert.equal(refused.status, 2, refused.stderr);
    assert.match(refused.stderr, /"everything".*is not empty/);
  });

  test('by hand, as the documentation says', async () => {
    const [users, dump] = await save(onSocket({ databases: ['everything'] }));
    assert.ok(users && dump);
    await sql(other, 'mysql', 'DROP DATABASE IF EXISTS everything; CREATE DATABASE everything');
    for (const [{ bytes }, args] of [
      [dump, ['--comments', '--max-allowed-packet=1G', 'everything']],
      [users, []],
    ] as const) {
      const options = ['--no-defaults', `--socket=${other.socket}`, '--binary-mode', ...args];
      const done = promisify(execFile)('mariadb', options);
      done.child.stdin?.end(bytes);
      await done;
    }
    assert.deepEqual(await contentOf(other, 'everything'), await contentOf(server, 'everything'));
  });

  test('programs that go by their old names alone are used', async () => {
    const directory = await newDirectory(0o755);
    await symlink('/usr/bin/mariadb', join(directory, 'mysql'));
    await symlink('/usr/bin/mariadb-dump', join(directory, 'mysqldump'));
    assert.equal(
      (await save(onSocket({ databases: ['-dash'], users: false }), newRun(), [directory])).length,
      1,
    );
  });
});

suite('where a MariaDB or MySQL database is loaded', () => {
  test('a URL names user, host, port and database, or a socket', () => {
    assert.deepEqual(parseTarget('mysql://me@db.example:3307/a%20b'), {
      address: { host: 'db.example', port: 3307, user: 'me', tls: undefined },
      database: 'a b',
    });
    assert.deepEqual(parseTarget('mariadb:///db?socket=/run/mysqld/mysqld.sock'), {
      address: { host: '/run/mysqld/mysqld.sock', port: undefined, user: undefined, tls: undefined },
      database: 'db',
    });
    assert.deepEqual(parseTarget('mysql://[::1]'), {
      address: { host: '::1', port: undefined, user: undefined, tls: undefined },
      database: undefined,
    });
    for (const url of [
      'mysql://host/db?socket=/s',
      'mysql:///db?socket=s',
      'mysql://host/db?ssl=1',
      'mysql://host/%zz',
      'mysql://host/wiki#2',
    ])
      assert.throws(() => parseTarget(url), failsWith('usage'));
  });

  test('a password in the URL is refused and not repeated', () => {
    for (const url of [
      'mysql://me:canary@host/db',
      'mysql://host/db?password=canary',
      'mysql://me:canary@ho st/',
    ])
      assert.throws(
        () => parseTarget(url),
        (error: unknown) => {
          assert.ok(error instanceof SealiftError && error.exitStatus === 2);
          return !JSON.stringify([error.message, error.hint, String(error.cause)]).includes('canary');
        },
      );
  });

  test('rights are read from grants, in which names are patterns', () => {
    const rights = new Rights([
      "GRANT SHOW DATABASES ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*1'",
      'GRANT SELECT, SHOW VIEW ON `wiki\\_%`.* TO `u`@`%`',
      'GRANT ALL PRIVILEGES ON `a``b`.* TO `u`@`%` WITH GRANT OPTION',
      'GRANT TRIGGER ON `other`.`table` TO `u`@`%`',
    ]);
    assert.ok(rights.has(['SHOW DATABASES']) && rights.has(['SHOW DATABASES'], 'any'));
    assert.ok(
      rights.has(['SELECT'], 'wiki_de') && !rights.has(['SELECT'], 'wikide') && !rights.has(['SELECT']),
    );
    assert.ok(rights.has(['TRIGGER'], 'a`b') && !rights.has(['TRIGGER'], 'other'));
  });
});
