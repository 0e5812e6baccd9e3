import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { PostgresConfig } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { loadPostgres, parseTarget } from '../../src/sources/postgres-restore.ts';
import { sqlStatements } from '../../src/sources/postgres-globals.ts';
import { postgresSource } from '../../src/sources/postgres.ts';
import type { SourceContext } from '../../src/sources/source.ts';
import { type PostgresService, startPostgres } from '../services/postgres.ts';
import { withoutServices } from '../services/services.ts';

const canary = 'canary:\\pass"word\'%';
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

interface Run extends SourceContext {
  readonly problems: string[];
  readonly details: { readonly type: string }[];
}

/** What a test makes is removed at the end of the file. */
let scratch = '';
let server: PostgresService & AsyncDisposable;
let other: PostgresService & AsyncDisposable;

async function newDirectory(mode: number): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, mode);
  return path;
}

function newRun(signal = new AbortController().signal): Run {
  const problems: string[] = [];
  const details: Run['details'] = [];
  return {
    signal,
    problems,
    details,
    problem: (code) => void problems.push(code),
    detail: async (record) => void details.push(record),
    temporary: () => newDirectory(0o700),
  };
}

function onSocket(change: Partial<PostgresConfig> = {}): PostgresConfig {
  const { host, port, user } = server;
  const what = {
    name: 'pg',
    kind: 'postgres',
    databases: 'all',
    exclude: [],
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

interface Saved {
  readonly file: string;
  readonly bytes: Buffer;
  open(): AsyncGenerator<Uint8Array>;
}

function asSaved(file: string, bytes: Buffer): Saved {
  async function* open(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
  }
  return { file, bytes, open };
}

async function save(config: PostgresConfig, run = newRun(), directories?: string[]): Promise<Saved[]> {
  const saved: Saved[] = [];
  for (const { file, open } of await postgresSource(config, directories).streams(run)) {
    const chunks: Uint8Array[] = [];
    // A chunk is good until the next is asked for.
    for await (const chunk of open(run)) chunks.push(Buffer.from(chunk));
    saved.push(asSaved(file, Buffer.concat(chunks)));
  }
  return saved;
}

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

const failsWith =
  (code: string, message = /(?:)/, hint = /(?:)/) =>
  (error: unknown) => {
    assert.ok(error instanceof SealiftError, String(error));
    assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message);
    assert.match(error.hint ?? '', hint);
    return true;
  };

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

suite('postgres', { skip: withoutServices }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-postgres-'));
    await chmod(scratch, 0o755);
    const signal = new AbortController().signal;
    server = await startPostgres(await newDirectory(0o755), signal);
    other = await startPostgres(await newDirectory(0o755), signal);
    await psql(server, 'postgres', `CREATE ROLE owner LOGIN PASSWORD '${canary.replaceAll("'", "''")}'`);
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
    assert.equal(await psql(other, 'we=ird', 'SHOW default_transaction_read_only'), 'on');
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

  test('a login that is no superuser saves roles without passwords, and loads without owners', async () => {
    await psql(server, 'postgres', `ALTER ROLE owner CREATEDB`);
    const password = new Secret(() => canary);
    const run = newRun();
    const saved = await save(overTcp({ user: 'owner', password, databases: ['postgres'] }), run);
    assert.deepEqual(run.problems, ['globals-without-passwords']);
    const [globals, dump] = saved;
    assert.ok(globals && dump && !globals.bytes.includes('SCRAM-SHA-256'));
    const url = `postgres://owner@127.0.0.1:${server.port}/theirs`;
    const { lines } = await loadPostgres(url, [dump], loading({ password }));
    assert.deepEqual(lines, [
      'database "theirs" made and loaded, without owners and grants: the login is no superuser',
    ]);
    await psql(server, 'postgres', 'DROP DATABASE theirs');
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
    await assert.rejects(
      Array.fromAsync(gone.open(run)),
      failsWith('source-unavailable', /database "gone".*does not exist/),
    );
    assert.ok((await Array.fromAsync(there.open(run))).length > 0);
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
      password: new Secret(() => canary),
      databases: ['big'],
      globals: false,
    });
    await assert.rejects(save(config), failsWith('source-denied', /permission denied for table big/));
  });

  test('a password with every odd character works, and is in no argument, environment, message or detail', async () => {
    const seen: string[] = [];
    const watch = setInterval(() => {
      for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)))
        for (const file of ['cmdline', 'environ'])
          try {
            const text = readFileSync(`/proc/${pid}/${file}`, 'latin1');
            if (text.includes('canary')) seen.push(text);
          } catch {
            // The process has ended meanwhile.
          }
    }, 3);
    const run = newRun();
    const config = overTcp({
      user: 'owner',
      password: new Secret(() => canary),
      databases: ['postgres', 'big'],
    });
    const failure = await save(config, run).catch((error: unknown) => error);
    clearInterval(watch);
    assert.ok(failure instanceof SealiftError && failure.code === 'source-denied');
    assert.deepEqual(seen, []);
    const told = JSON.stringify([
      run.details,
      run.problems,
      failure.message,
      failure.hint,
      String(failure.cause),
    ]);
    assert.ok(!told.includes('canary'));
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

  test('globals with anything but roles and tablespaces in them never reach psql', async () => {
    const mark = join(scratch, 'was-here');
    for (const text of [
      `\\! touch ${mark}\n`,
      `CREATE ROLE a; -- \r\\! touch ${mark}\n`,
      `COMMENT ON ROLE a IS E'\\' \\! touch ${mark}\n';`,
      `COMMENT ON ROLE a IS $$ ' $$; \\! touch ${mark} '\n`,
      `/* ' */ \\! touch ${mark} /* ' */`,
      `COPY x FROM PROGRAM 'touch ${mark}';`,
      `SET client_encoding = 'SJIS'; CREATE ROLE a;`,
      `SET standard_conforming_strings = off; COMMENT ON ROLE a IS '\\'; \\! touch ${mark} ';`,
      `CREATE ROLE a`,
    ]) {
      const [dump] = await saveOne('-dash');
      assert.ok(dump);
      const globals = asSaved('globals.sql', Buffer.from(text));
      await assert.rejects(
        loadPostgres(into(other), [globals, dump], loading({ force: true })),
        failsWith('restore-failed'),
      );
    }
    assert.ok(!existsSync(mark));
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
      address: { host: 'db.example', port: 5433, user: 'me' },
      database: 'a b',
    });
    assert.deepEqual(parseTarget('postgresql:///db?host=/run/postgresql'), {
      address: { host: '/run/postgresql', port: undefined, user: undefined },
      database: 'db',
    });
    assert.deepEqual(parseTarget('postgres://[::1]'), {
      address: { host: '::1', port: undefined, user: undefined },
      database: undefined,
    });
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

  test('statements end where psql ends them', () => {
    const sql = `\\restrict a1\n-- c;\nCREATE ROLE "a;""b";\nCOMMENT ON ROLE x IS E'\\\\'';';\nSET a = 'b''; -- ';\n\\unrestrict a1\n`;
    assert.deepEqual(sqlStatements(sql), [
      'CREATE ROLE "a;""b"',
      `COMMENT ON ROLE x IS E'\\\\'';'`,
      `SET a = 'b''; -- '`,
    ]);
  });
});

/** A process that this one started. */
function childNamed(name: string): number {
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const [, comm, rest = ''] = /\((.*)\) (.*)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
      if (comm === name && rest.split(' ')[1] === String(process.pid)) return Number(pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error(`no child is named ${name}`);
}
