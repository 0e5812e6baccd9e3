import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { MysqlConfig } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { loadMysql } from '../../src/sources/mysql-restore.ts';
import { mysqlSource } from '../../src/sources/mysql.ts';
import { startedTogether } from '../services/server-group.ts';
import { mysqlPrograms, mysqlRoot, type MysqlService, startMysql } from '../services/mysql.ts';
import { canary, watchForCanary } from '../support/canary.ts';
import { everyByte, hostileTexts, literal, quoted } from './mysql-fixture.ts';
import { makeAuthority, makeServerCertificate } from '../support/certificates.ts';
import { failsWith } from '../support/fails-with.ts';
import { newRun, type Run } from './run.ts';
import { asSaved, saveAll, type Saved } from './saved.ts';

/**
 * What the tests of MariaDB (mysql.test.ts) cannot show: MySQL's own programs and server. Debian's stable releases have
 * none, so these tests run where one is named (services/mysql.ts).
 */
const skip =
  mysqlRoot === undefined && 'SEALIFT_TEST_MYSQL names no root with MySQL (test/services/mysql.ts)';

const oddPassword = `${canary}:\\pass"word'#%n\\n; =`;
const oddNames = [
  'with space',
  'we=ird',
  `q'u"o\\t\`e`,
  '-dash',
  'ünïcode',
  'line\nbreak\ttab',
  '%41',
  '.',
  'users',
];

/** One of everything that a database can hold. */
const everything = `
  CREATE DATABASE everything CHARACTER SET latin1 COLLATE latin1_german1_ci;
  USE everything;
  CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, b longblob, g geometry SRID 0, bits bit(9), j json,
    v varchar(90) CHARACTER SET utf8mb4, st int AS (length(b) * 2) STORED, vi int AS (length(v) + 1) VIRTUAL,
    hidden int DEFAULT 7 INVISIBLE, n decimal(30, 10), f double, d datetime(6), stamp timestamp NULL, e enum('a', 'ü'),
    s set('x', 'y'), vec vector(3), u varchar(36) DEFAULT (uuid()), y year, tm time(3));
  INSERT INTO t (b, g, bits, j, v, n, f, d, stamp, e, s, vec, y, tm) VALUES
    (x'${everyByte}', point(1, 2), b'101010101', '{"a": "😀"}',
     '😀 ''"\\\\ \\n\\t\\0 \\Z', 1.5, 1e-300, '2026-03-29 02:30:00.123456', '2026-11-26 12:00:00', 'ü', 'x,y',
     STRING_TO_VECTOR('[1,2,3]'), 2026, '-12:00:00.123'),
    (NULL, NULL, NULL, NULL, '\\n-- Dump completed\\nALTER DATABASE \`everything\` CHARACTER SET ', NULL, 0.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  CREATE TABLE \`ta\`\`ble "x" \\! %\` (\`col \`\`u\` int, PRIMARY KEY (\`col \`\`u\`)) PARTITION BY HASH (\`col \`\`u\`) PARTITIONS 3;
  INSERT INTO \`ta\`\`ble "x" \\! %\` VALUES (1), (2), (3), (4);
  CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES t (id) ON DELETE CASCADE, CHECK (id > 0));
  INSERT INTO child VALUES (1, 1), (2, 2);
  CREATE TABLE a_first (id int, parent int, FOREIGN KEY (parent) REFERENCES child (id));
  CREATE TABLE keyed (j json, a varchar(40) CHARACTER SET utf8mb4, KEY ((CAST(j->>'$.x' AS UNSIGNED))), FULLTEXT KEY (a),
    KEY down (a DESC), KEY unseen (a) INVISIBLE);
  INSERT INTO keyed VALUES ('{"x": 5}', 'hello world');
  CREATE TRIGGER trig BEFORE INSERT ON t FOR EACH ROW SET NEW.v = concat(NEW.v, '!');
  CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DISABLE COMMENT 'it''s' DO INSERT INTO child VALUES (9, 1);
  CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC RETURN x + 1;
  DELIMITER //
  CREATE PROCEDURE p() BEGIN
    -- a comment; with ' in it, and \\! in it
    /* another */ SELECT ';', "//";
  END //
  DELIMITER ;
  CREATE VIEW z_view AS SELECT id FROM t;
  CREATE VIEW a_view AS SELECT id, f(id) AS fid FROM z_view;
  ALTER DATABASE everything CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs;
`;

const accounts = `
  CREATE ROLE reader; CREATE ROLE \`odd "r'o;le\`; GRANT SELECT ON everything.* TO reader; GRANT reader TO \`odd "r'o;le\`;
  CREATE USER owner@'%' IDENTIFIED BY ${literal(oddPassword)}; GRANT ALL ON everything.* TO owner@'%';
  GRANT ALL ON \`with space\`.* TO owner@'%'; GRANT reader TO owner@'%' WITH ADMIN OPTION; SET DEFAULT ROLE reader TO owner@'%';
  CREATE USER \`o'dd; \\\`\`u\`@localhost IDENTIFIED WITH caching_sha2_password BY 'x' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5
    PASSWORD EXPIRE INTERVAL 90 DAY FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 ACCOUNT LOCK COMMENT 'it''s me; really';
  GRANT PROCESS, BACKUP_ADMIN ON *.* TO \`o'dd; \\\`\`u\`@localhost WITH GRANT OPTION;
  CREATE USER sha@localhost IDENTIFIED WITH sha256_password BY 'x' ATTRIBUTE '{"name": "Jo''e; x", "n": 1}';
  CREATE USER said@localhost IDENTIFIED BY 'x' COMMENT 'no DEFAULT ROLE \`reader\`@\`%\` REQUIRE NONE ${"x''".repeat(40)}';
  CREATE USER issuer@localhost IDENTIFIED BY 'z' REQUIRE ISSUER '/C=AT/O=x; y' SUBJECT '/CN=a' PASSWORD HISTORY 5;
  CREATE USER open@localhost; CREATE USER ''@'192.0.2.%'; GRANT SELECT ON \`with space\`.\`t a\` TO ''@'192.0.2.%';
  GRANT PROXY ON owner@'%' TO sha@localhost;
  GRANT SELECT (id, v), INSERT ON everything.t TO \`odd "r'o;le\`;
  GRANT EXECUTE ON PROCEDURE everything.p TO reader; GRANT EXECUTE ON FUNCTION everything.f TO reader;
`;

let scratch = '';
/** MySQL's programs alone. */
let programs = '';
let ca = '';
let server: MysqlService & AsyncDisposable;
let other: MysqlService & AsyncDisposable;

async function newFolder(): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, 0o755);
  return path;
}

const scratchRun = (): Run => ({ ...newRun(), temporary: () => mkdtemp(join(scratch, 't-')) });

async function sql(service: MysqlService, database: string, statements: string): Promise<string> {
  const manner = ['--batch', '--raw', '--skip-column-names', '--binary-mode', '--comments'];
  const args = [
    '--no-defaults',
    `--socket=${service.socket}`,
    '--user=root',
    '--default-character-set=utf8mb4',
    ...manner,
  ];
  const done = promisify(execFile)(join(programs, 'mysql'), [...args, `--database=${database}`], {
    env: { PATH: process.env['PATH'] },
    maxBuffer: 2 ** 28,
  });
  done.child.stdin?.on('error', () => {}).end(statements);
  return (await done).stdout.trimEnd();
}

const plain = { name: 'my', kind: 'mysql', databases: 'all', exclude: [], users: true };

const onSocket = (change: Partial<MysqlConfig> = {}): MysqlConfig =>
  ({ ...plain, host: server.socket, user: 'root', password: undefined, ...change }) as unknown as MysqlConfig;

const overTcp = (
  user: string,
  password: string | undefined,
  change: Partial<MysqlConfig> = {},
): MysqlConfig =>
  onSocket({
    host: server.tcpHost,
    port: server.port,
    user,
    password: password === undefined ? undefined : new Secret(() => password),
    ...change,
  });

const save = (config: MysqlConfig, run = scratchRun(), directories = [programs]): Promise<Saved[]> =>
  saveAll(mysqlSource(config, directories), run);

async function saveOne(database: string): Promise<Saved> {
  const [saved] = await save(onSocket({ databases: [database], users: false }));
  assert.ok(saved);
  return saved;
}

const saveDash = (change: Partial<MysqlConfig>) =>
  save(overTcp(server.user, server.password, { databases: ['-dash'], users: false, ...change }));

const streamsOf = (config: MysqlConfig) => mysqlSource(config, [programs]).streams(scratchRun());

const dumpsNow = async () =>
  (await save(onSocket({ exclude: ['big'] }))).map(({ bytes }) => bytes.toString('latin1'));

const into = (service: MysqlService, database = '') =>
  `mysql:///${encodeURIComponent(database)}?socket=${service.socket}&user=root`;

const loading = (change: object = {}) => ({
  ...scratchRun(),
  force: false,
  directories: [programs],
  ...change,
});

/** Every table with its rows, and how everything was made; as text. */
async function contentOf(service: MysqlService, database: string): Promise<string> {
  const of = literal(database);
  const tables = await sql(
    service,
    database,
    `SELECT HEX(table_name) FROM information_schema.tables WHERE table_schema = ${of} ORDER BY 1`,
  );
  const names = tables
    .split('\n')
    .filter((hex) => hex !== '')
    .map((hex) => quoted(Buffer.from(hex, 'hex').toString()));
  return sql(
    service,
    database,
    `SELECT default_character_set_name, default_collation_name FROM information_schema.schemata WHERE schema_name = ${of};
     ${names.map((name) => `CHECKSUM TABLE ${name}; SELECT COUNT(*) FROM ${name};`).join('\n')}
     SELECT table_name, column_name, column_type, collation_name, is_nullable, column_default, extra, generation_expression
       FROM information_schema.columns WHERE table_schema = ${of} ORDER BY table_name, ordinal_position;
     SELECT table_name, index_name, column_name, expression, collation, is_visible FROM information_schema.statistics WHERE table_schema = ${of} ORDER BY 1, 2, seq_in_index;
     SELECT table_name, table_comment, create_options FROM information_schema.tables WHERE table_schema = ${of} ORDER BY 1;
     SELECT table_name, view_definition, definer FROM information_schema.views WHERE table_schema = ${of} ORDER BY 1;
     SELECT routine_name, routine_definition, definer, sql_mode, database_collation FROM information_schema.routines WHERE routine_schema = ${of} ORDER BY 1;
     SELECT trigger_name, action_timing, action_statement, definer, sql_mode FROM information_schema.triggers WHERE trigger_schema = ${of} ORDER BY 1;
     SELECT event_name, event_definition, interval_value, starts, status, definer, event_comment FROM information_schema.events WHERE event_schema = ${of} ORDER BY 1;
     SELECT constraint_name, table_name, referenced_table_name, delete_rule FROM information_schema.referential_constraints WHERE constraint_schema = ${of} ORDER BY 1, 2;
     SELECT constraint_name, check_clause FROM information_schema.check_constraints WHERE constraint_schema = ${of} ORDER BY 1`,
  ).then((text) => text.replaceAll(`${database}.`, '').replaceAll(`${quoted(database)}.`, ''));
}

suite('MySQL itself', { skip }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-mysql-'));
    await chmod(scratch, 0o755);
    programs = await newFolder();
    await mysqlPrograms(mysqlRoot!, programs);
    ca = makeAuthority(scratch, 'ours');
    const { cert, key } = makeServerCertificate(scratch, 'ours', 'localhost');
    execFileSync('chown', ['mysql', key]);
    const secured = [`--ssl-cert=${cert}`, `--ssl-key=${key}`];
    const start = async () => startMysql(await newFolder(), mysqlRoot!, programs, secured);
    [server, other] = await startedTogether(start(), start());
    await sql(server, 'mysql', everything);
    for (const name of oddNames)
      await sql(
        server,
        'mysql',
        `CREATE DATABASE ${quoted(name)}; USE ${quoted(name)};
         CREATE TABLE \`t a\` (id int PRIMARY KEY, text varchar(99)) COMMENT ${literal(name)};
         INSERT INTO \`t a\` WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 200)
           SELECT n, sha2(concat(n, DATABASE()), 256) FROM seq`,
      );
    await sql(
      server,
      'mysql',
      `${accounts} CREATE DATABASE mixed; CREATE TABLE mixed.isam (a int) ENGINE=MyISAM; CREATE TABLE mixed.inno (a int);
       INSERT INTO mixed.isam VALUES (1); CREATE DATABASE big; SET SESSION cte_max_recursion_depth = 1000000;
       CREATE TABLE big.big AS WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 200000)
         SELECT n, repeat(sha2(n, 256), 5) AS text FROM seq`,
    );
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('a whole server comes back on another: odd names, every kind of object, users and their rights', async () => {
    const run = scratchRun();
    const saved = await save(onSocket({ exclude: ['big'] }), run);
    assert.equal(saved.length, 1 + oddNames.length + 2);
    assert.equal(run.problems.length, 1, run.problems.join('\n'));
    assert.match(run.problems[0]!, /^not-consistent: .*database "mixed".*: "isam" \(MyISAM\)$/);
    assert.match(
      JSON.stringify(run.details[0]),
      /"maker":"MySQL","version":"\d+\.\d+\.\d+","dumpedBy":"MySQL \d/,
    );
    const { lines } = await loadMysql(into(other), saved, loading());
    for (const name of [...oddNames, 'everything', 'mixed']) {
      assert.ok(lines.includes(`database ${JSON.stringify(name)} made and loaded`));
      assert.equal(await contentOf(other, name), await contentOf(server, name), name);
    }
    const check = `SELECT HEX(b), HEX(v), ST_AsText(g), bits + 0, st, vi, hidden, f, d, stamp, j, VECTOR_TO_STRING(vec), u FROM t; SELECT * FROM a_view`;
    assert.equal(await sql(other, 'everything', check), await sql(server, 'everything', check));
    const users = `SELECT user, host, plugin, HEX(authentication_string), ssl_type, x509_issuer, max_questions, account_locked,
        password_lifetime, password_reuse_history, user_attributes FROM user WHERE user <> 'admin' ORDER BY 1, 2;
      SELECT * FROM db ORDER BY 1, 2, 3; SELECT * FROM role_edges ORDER BY 1, 2, 3, 4; SELECT * FROM default_roles;
      SELECT host, db, user, table_name, table_priv, column_priv FROM tables_priv ORDER BY 1, 2, 3, 4;
      SELECT host, db, user, routine_name, proc_priv FROM procs_priv ORDER BY 1, 2, 3, 4;
      SELECT * FROM global_grants ORDER BY 1, 2, 3; SELECT host, user, proxied_host, proxied_user, with_grant FROM proxies_priv ORDER BY 1, 2, 3, 4`;
    assert.equal(await sql(other, 'mysql', users), await sql(server, 'mysql', users));
    assert.match(lines.at(-1)!, /^grants loaded \((\d+) of \1\)$/);
    assert.equal(await sql(other, 'mysql', 'SELECT @@GLOBAL.max_allowed_packet'), '67108864', 'put back');
  });

  test('rights that are revoked in part are not loaded where the server would not take them back', async () => {
    const revoked = `SET GLOBAL partial_revokes = ON; CREATE USER part@localhost; GRANT SELECT ON *.* TO part@localhost;
      REVOKE SELECT ON everything.* FROM part@localhost; CREATE USER wild@localhost; GRANT SELECT ON \`app_1\`.* TO wild@localhost`;
    await sql(server, 'mysql', revoked);
    const saved = await save(onSocket({ databases: ['-dash'] }));
    const load = () => loadMysql(into(other), saved, loading({ force: true }));
    await assert.rejects(
      load,
      failsWith('restore-failed', /to part@localhost, wild@localhost$/, /SET PERSIST partial_revokes = ON/),
    );
    assert.equal(
      await sql(other, 'mysql', `SELECT COUNT(*) FROM user WHERE user = 'part'`),
      '0',
      'nothing was loaded',
    );
    await sql(other, 'mysql', 'SET GLOBAL partial_revokes = ON');
    await load();
    const grants = 'SHOW GRANTS FOR part@localhost';
    assert.equal(await sql(other, 'mysql', grants), await sql(server, 'mysql', grants));
    for (const one of [server, other])
      await sql(one, 'mysql', 'DROP USER part@localhost, wild@localhost; SET GLOBAL partial_revokes = OFF');
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

  test('a second load is refused, with force it is repeated; one dump loads into a database of another name', async () => {
    const saved = await saveOne('everything');
    await loadMysql(into(other, 'ne`w=one'), [saved], loading());
    await assert.rejects(loadMysql(into(other, 'ne`w=one'), [saved], loading()), failsWith('target-exists'));
    await sql(other, 'ne`w=one', 'DELETE FROM child');
    await loadMysql(into(other, 'ne`w=one'), [saved], loading({ force: true }));
    assert.equal(await contentOf(other, 'ne`w=one'), await contentOf(server, 'everything'));
  });

  test('accounts that exist get the saved password, grants on what is not there are named', async () => {
    const [users, dump] = await save(onSocket({ databases: ['-dash'] }));
    assert.ok(users?.file === 'users.sql' && dump);
    await sql(
      other,
      'mysql',
      `ALTER USER owner@'%' IDENTIFIED BY 'changed' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 MAX_USER_CONNECTIONS 6
         FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 PASSWORD EXPIRE NEVER ACCOUNT LOCK;
       DROP DATABASE IF EXISTS everything; CREATE DATABASE everything`,
    );
    const { lines } = await loadMysql(into(other), [users, dump], loading({ force: true }));
    const query = `SELECT user, host, HEX(authentication_string), password_expired, password_lifetime, account_locked, ssl_type,
        max_questions, max_user_connections, user_attributes FROM user WHERE user <> 'admin' ORDER BY 1, 2`;
    assert.equal(await sql(other, 'mysql', query), await sql(server, 'mysql', query));
    assert.match(lines.at(-1) ?? '', /none on what is not there: .*everything\.p/);
  });

  test('what another version of the server does not know is told: before the load, or by name', async () => {
    const [users, dump] = await save(onSocket({ databases: ['-dash'] }));
    const load = (change: (sql: string) => string) => {
      const changed = asSaved('users.sql', Buffer.from(change(users!.bytes.toString())));
      return loadMysql(into(other), [changed, dump!], loading({ force: true }));
    };
    await assert.rejects(
      load((sql) => sql.replace("'sha256_password'", "'mysql_native_password'")),
      failsWith('restore-failed', /has no mysql_native_password, .*: sha@localhost$/),
    );
    const { lines } = await load((sql) =>
      sql.replace('GRANT BACKUP_ADMIN', 'GRANT SET_USER_ID,BACKUP_ADMIN'),
    );
    assert.match(lines.at(-1) ?? '', /none that this server does not know: SET_USER_ID$/);
  });

  test('accounts with several factors, mandatory roles and names without quotes do not stop a load', async () => {
    await sql(
      server,
      'mysql',
      `INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'; CREATE USER mfa@localhost IDENTIFIED BY 'x' AND IDENTIFIED WITH auth_socket;
       CREATE ROLE everybody; SET GLOBAL mandatory_roles = 'everybody'; CREATE USER any@localhost; SET DEFAULT ROLE everybody TO any@localhost;
       SET GLOBAL sql_quote_show_create = OFF`,
    );
    await sql(other, 'mysql', `INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'`);
    const saved = await save(onSocket({ databases: ['-dash'] }));
    await loadMysql(into(other), saved, loading({ force: true }));
    const { lines } = await loadMysql(into(other), saved, loading({ force: true }));
    assert.ok(lines.some((line) => line.startsWith('user mfa@localhost stays as it is here')));
    await sql(
      server,
      'mysql',
      `SET GLOBAL mandatory_roles = ''; SET GLOBAL sql_quote_show_create = ON; DROP USER mfa@localhost, any@localhost; DROP ROLE everybody`,
    );
  });

  test('what would cut a dump is refused: so many rows for a login, an option file, an event that has no end', async (t) => {
    const config = onSocket({ databases: ['cut'], users: false });
    await sql(
      server,
      'mysql',
      `CREATE DATABASE cut; CREATE EVENT cut.ev ON SCHEDULE EVERY 1 DAY DO SELECT ';;'; SET GLOBAL sql_select_limit = 3`,
    );
    await assert.rejects(streamsOf(config), failsWith('source-unavailable', /no more than 3 rows/));
    await sql(server, 'mysql', 'SET GLOBAL sql_select_limit = DEFAULT');
    await assert.rejects(save(config), failsWith('source-unavailable', /"cut" would never end.*"ev"$/));

    const home = await newFolder();
    const { HOME } = process.env;
    t.after(() => void (process.env['HOME'] = HOME));
    process.env['HOME'] = home;
    await writeFile(join(home, '.my.cnf'), '[mysqldump]\nwhere=1\n', { mode: 0o600 });
    await assert.rejects(streamsOf(config), failsWith('config-invalid', /dumps: --where/));
    await writeFile(join(home, '.my.cnf'), '[mysql]\nsafe-updates\nselect-limit=1\nforce\n', { mode: 0o600 });
    assert.equal((await save(onSocket({ exclude: ['cut', 'big'] }))).length, 1 + oddNames.length + 2);
    await sql(server, 'mysql', 'DROP DATABASE cut');
  });

  test('a view into a database that is loaded later, and rights on routines in capitals, come back', async () => {
    await sql(
      server,
      'mysql',
      `CREATE DATABASE c2; CREATE TABLE c2.t (a int); CREATE DATABASE c1; CREATE VIEW c1.v AS SELECT a FROM c2.t;
       CREATE PROCEDURE c1.MyProc() SELECT 1; CREATE USER caller@'%'; GRANT EXECUTE ON PROCEDURE c1.MyProc TO caller@'%'`,
    );
    const { lines } = await loadMysql(
      into(other),
      await save(onSocket({ databases: ['c1', 'c2'] })),
      loading(),
    );
    assert.ok(
      lines.indexOf('database "c2" made and loaded') < lines.indexOf('database "c1" made and loaded'),
    );
    const grants = `SHOW GRANTS FOR caller@'%'`;
    assert.equal(await sql(other, 'mysql', grants), await sql(server, 'mysql', grants));
    for (const one of [server, other])
      await sql(one, 'mysql', `DROP DATABASE c1; DROP DATABASE c2; DROP USER caller@'%'`);
  });

  test('a load that fails leaves nothing of a new database, and an empty one as it was', async () => {
    const { file, bytes } = await saveOne('with space');
    const cut = asSaved(file, bytes.subarray(0, -20));
    const nonsense = Buffer.from('SELECT nonsense;\n-- Dump completed\n');
    const broken = asSaved(file, Buffer.concat([bytes.subarray(0, -18), nonsense]));
    for (const dump of [cut, broken]) {
      await assert.rejects(loadMysql(into(server, 'fresh'), [dump], loading()), failsWith('restore-failed'));
      assert.equal(await sql(server, 'mysql', `SHOW DATABASES LIKE 'fresh'`), '');
    }
    await sql(server, 'mysql', 'CREATE DATABASE fresh COLLATE latin1_bin');
    const was = await contentOf(server, 'fresh');
    await assert.rejects(
      loadMysql(into(server, 'fresh'), [broken], loading()),
      failsWith('restore-failed', /nonsense/),
    );
    assert.equal(await contentOf(server, 'fresh'), was);
    await sql(server, 'mysql', 'DROP DATABASE fresh');
  });

  test('a hostile dump runs no program here and reads no file', async () => {
    const mark = join(scratch, 'was-here');
    const secret = join(scratch, 'secret');
    await writeFile(secret, 'canary\n');
    const { stdout } = await promisify(execFile)('sh', [
      '-c',
      `printf '\\. ${secret}\n' | ${programs}/mysql --no-defaults --commands --user=root --socket=${server.socket} 2>&1 || :`,
    ]);
    assert.ok(stdout.includes('canary'), 'what this is about: the client left to itself');
    for (const text of hostileTexts(mark, secret)) {
      const head = '-- MySQL dump 10.13\n--\nCREATE TABLE `t a` (text text);\n';
      const hostile = asSaved('hostile.sql', Buffer.from(`${head}${text}\n-- Dump completed\n`));
      await loadMysql(into(server, 'hostile'), [hostile], loading({ force: true })).catch(
        (error: unknown) => {
          assert.ok(error instanceof SealiftError);
          assert.doesNotMatch(error.message, /canary/);
        },
      );
      assert.ok(!existsSync(mark), text);
      const isThere = (await sql(server, 'mysql', `SHOW DATABASES LIKE 'hostile'`)) !== '';
      if (isThere)
        assert.equal(await sql(server, 'hostile', 'SELECT * FROM `t a`; DROP DATABASE hostile'), '', text);
    }
  });

  test('a login with rights on one database saves it, and tells what it cannot see', async () => {
    const run = scratchRun();
    const own = await save(overTcp('owner', oddPassword, { databases: ['with space'] }), run);
    assert.deepEqual(
      own.map(({ file }) => file),
      ['with%20space.sql'],
    );
    assert.match(
      run.problems.join('\n'),
      /^rights-missing: users and grants of .* are not saved: the login owner@%[^\n]*$/,
    );
    await sql(
      server,
      'mysql',
      `CREATE USER looker@'%' IDENTIFIED BY 'x'; GRANT SELECT, SHOW VIEW, EVENT ON \`with space\`.* TO looker@'%';
       CREATE USER saver@'%' IDENTIFIED BY 'x'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, SHOW_ROUTINE, SHOW DATABASES ON *.* TO saver@'%'`,
    );
    const less = scratchRun();
    await save(overTcp('looker', 'x', { users: false }), less);
    assert.match(
      less.problems.join('\n'),
      /sees only databases that it has rights on[^]*"with space" may lack .*: triggers \(TRIGGER\), routines/,
    );
    await assert.rejects(
      save(overTcp('looker', 'x', { users: false, databases: ['big'] })),
      failsWith('source-denied', /"big"/),
    );
    const whole = scratchRun();
    const password = new Secret(() => 'x');
    const all = await save(onSocket({ user: 'saver', password, exclude: ['big'], users: false }), whole);
    assert.deepEqual(
      whole.problems.filter((text) => !text.startsWith('not-consistent')),
      [],
    );
    const asRoot = await save(onSocket({ exclude: ['big'], users: false }));
    assert.deepEqual(
      all.map(({ bytes }) => bytes.toString('latin1')),
      asRoot.map(({ bytes }) => bytes.toString('latin1')),
    );
    await sql(server, 'mysql', `DROP USER looker@'%', saver@'%'`);
  });

  test('a plain login loads what it may, and is told why views of others are not its to make', async () => {
    await sql(server, 'mysql', `CREATE DATABASE theirs; GRANT ALL ON theirs.* TO owner@'%'`);
    const password = new Secret(() => oddPassword);
    const url = `mysql://owner@127.0.0.1:${server.port}/theirs`;
    await loadMysql(url, [await saveOne('with space')], loading({ password }));
    await assert.rejects(
      loadMysql(url, [await saveOne('everything')], loading({ password, force: true })),
      failsWith('restore-failed', /ERROR 1419/, /log_bin_trust_function_creators/),
    );
    await sql(server, 'mysql', 'CREATE DATABASE viewed; CREATE VIEW viewed.v AS SELECT 1');
    await assert.rejects(
      loadMysql(url, [await saveOne('viewed')], loading({ password, force: true })),
      failsWith('source-denied', /SET_ANY_DEFINER/, /belong to other users.*SET_ANY_DEFINER/),
    );
    await sql(server, 'mysql', 'DROP DATABASE theirs; DROP DATABASE viewed');
  });

  test('a wrong or missing password, a server that is down and a database that is gone are told apart', async () => {
    await assert.rejects(
      streamsOf(overTcp(server.user, 'wrong')),
      failsWith('source-denied', /using password: YES/, /check user/),
    );
    await assert.rejects(
      streamsOf(overTcp(server.user, undefined)),
      failsWith('source-denied', /using password: NO/, /no password was given/),
    );
    await assert.rejects(
      streamsOf(overTcp(server.user, server.password, { port: 1 })),
      failsWith('source-unavailable', /Can't connect/),
    );
    await assert.rejects(
      streamsOf(onSocket({ host: '/nowhere/s' })),
      failsWith('source-unavailable', /\/nowhere\/s/),
    );
    await assert.rejects(
      save(onSocket({ databases: ['gone'], users: false })),
      failsWith('source-unavailable', /database "gone".*Unknown database/),
    );
  });

  test('a password with every odd character works, and is in no argument, environment, message or detail', async () => {
    const seen = watchForCanary();
    const run = scratchRun();
    const saving = (database: string) =>
      save(overTcp('owner', oddPassword, { databases: [database] }), run).catch((error: unknown) => error);
    const there = await saving('with space');
    const failure = await saving('big');
    assert.deepEqual(seen(), []);
    assert.ok(Array.isArray(there), String(there));
    assert.ok(failure instanceof SealiftError && failure.code === 'source-denied');
    const told = JSON.stringify([
      run.details,
      run.problems,
      failure.message,
      failure.hint,
      String(failure.cause),
    ]);
    assert.ok(!told.includes(canary));
  });

  test('with tls it saves from the server of that name that our authority vouches for, and from no other', async () => {
    assert.equal((await saveDash({ host: 'localhost', tls: { ca } })).length, 1);
    const refused = failsWith('source-unavailable', /SSL/, /from an authority in the file of `ca`/);
    await assert.rejects(saveDash({ host: '127.0.0.1', tls: { ca } }), refused);
    await assert.rejects(
      saveDash({ host: 'localhost', tls: { ca: makeAuthority(scratch, 'others') } }),
      refused,
    );
  });

  test('a connection that the server ends midway does not end the stream naturally', async () => {
    const run = scratchRun();
    const [stream] = await mysqlSource(onSocket({ databases: ['big'], users: false }), [programs]).streams(
      run,
    );
    const read = async () => {
      let chunks = 0;
      for await (const _ of stream!.open(run)) {
        if (++chunks !== 2) continue;
        const query = `SELECT id FROM performance_schema.processlist WHERE info LIKE 'SELECT%FROM%big%' AND id <> CONNECTION_ID()`;
        await sql(server, 'mysql', `KILL ${await sql(server, 'mysql', query)}`);
      }
    };
    await assert.rejects(read(), failsWith('source-unavailable', /Lost connection/));
  });

  test("MariaDB's programs save and load what they know of it, and say whose they are where they fail", async () => {
    const theirs = await newFolder();
    for (const name of ['mariadb', 'mariadb-dump']) await symlink(`/usr/bin/${name}`, join(theirs, name));
    const [users, saved] = await save(onSocket({ databases: ['with space'] }), scratchRun(), [theirs]);
    assert.ok(users && saved);
    await sql(other, 'mysql', 'DROP DATABASE IF EXISTS `with space`');
    await loadMysql(into(other), [users, saved], loading({ directories: [theirs], force: true }));
    assert.equal(await contentOf(other, 'with space'), await contentOf(server, 'with space'));
    const both = scratchRun();
    await save(onSocket({ databases: ['everything'] }), both, [theirs, programs]);
    assert.match(
      JSON.stringify(both.details[0]),
      /"dumpedBy":"MySQL /,
      'of both, the one for the server is taken',
    );
    await assert.rejects(
      save(onSocket({ databases: ['everything'], users: false }), scratchRun(), [theirs]),
      failsWith('tool-failed', /mariadb-dump/, /the server is MySQL.*apt-get install mysql-client/),
    );
  });
});
