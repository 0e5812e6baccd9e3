import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { ToolFailure } from '../../src/process.ts';
import { loadMysql } from '../../src/sources/mysql-restore.ts';
import { mysqlSource } from '../../src/sources/mysql.ts';
import {
  command as commandOfPostgres,
  explain as explainPostgres,
} from '../../src/sources/postgres-connection.ts';
import { loadPostgres } from '../../src/sources/postgres-restore.ts';
import { postgresSource } from '../../src/sources/postgres.ts';
import { explain as explainRedis } from '../../src/sources/redis-connection.ts';
import { replicate } from '../../src/sources/redis-replicate.ts';
import { redisSource } from '../../src/sources/redis.ts';
import type { LoadStream, Source } from '../../src/sources/source.ts';
import { type MariadbService, startMariadb } from '../services/mariadb.ts';
import { type PostgresService, startPostgres } from '../services/postgres.ts';
import { type RedisService, startRedis } from '../services/redis.ts';
import { freePorts, startedTogether } from '../services/server-group.ts';
import { withoutServices } from '../services/services.ts';
import { makeAuthority, makeServerCertificate } from '../support/certificates.ts';
import { newRun, type Run } from './run.ts';
import { saveAll } from './saved.ts';

interface Where {
  readonly host: string;
  readonly ca: string;
  /** Another than that of the server with TLS. */
  readonly port?: number;
  /** The login of the user's own option file. */
  readonly ownLogin?: boolean;
}

/** What a test makes is removed at the end of the file. */
let scratch = '';

const scratchRun = (): Run => ({ ...newRun(), temporary: () => mkdtemp(join(scratch, 't-')) });

async function folder(): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, 0o755);
  return path;
}

async function save(source: Source): Promise<LoadStream[]> {
  const saved = await saveAll(source, scratchRun());
  for (const { bytes } of saved) assert.ok(bytes.length > 0);
  return saved;
}

function notVouchedFor(error: unknown): true {
  assert.ok(error instanceof SealiftError, String(error));
  assert.equal(error.code, 'source-unavailable', error.message);
  assert.match(error.message, /SSL|TLS|certificate/i);
  assert.doesNotMatch(error.message, /unknown variable/);
  assert.match(error.hint ?? '', /from an authority in the file of `ca`/);
  return true;
}

const loading = (password: string) => ({
  ...scratchRun(),
  force: false,
  password: new Secret(() => password),
});

const target = (scheme: string, { user, port }: { user: string; port: number }, ca: string): string =>
  `${scheme}://${user}@localhost:${port}/anew?ca=${encodeURIComponent(ca)}`;

const failing = (stderr: string) =>
  new SealiftError('tool-failed', stderr, { cause: new ToolFailure('tool', 1, null, stderr) });

test('an error that only has a word of it is none of TLS', () => {
  const server = {
    host: 'db',
    port: undefined,
    user: undefined,
    runAs: undefined,
    directories: [],
    tls: { ca: '/ca' },
  };
  for (const [explained, code] of [
    [
      explainPostgres(
        failing('ERROR:  cannot drop table certificates'),
        { ...server, passFile: undefined },
        'x',
      ),
      'tool-failed',
    ],
    [
      explainPostgres(
        failing('SSL error: certificate verify failed'),
        { ...server, passFile: undefined },
        'x',
      ),
      'source-unavailable',
    ],
    [
      explainRedis(failing('Could not connect to Redis at redis-tls.example'), { host: 'redis-tls.example' }),
      'source-unavailable',
    ],
  ] as const) {
    assert.ok(explained instanceof SealiftError);
    assert.equal(explained.code, code);
    assert.equal(
      explained.hint?.includes('authority') ?? false,
      explained.message.includes('SSL error'),
      explained.message,
    );
  }
  const withTicket = commandOfPostgres({ ...server, passFile: undefined }, ['psql']);
  assert.equal(
    withTicket.env?.['PGGSSENCMODE'],
    'disable',
    'a ticket of Kerberos takes the place of no certificate',
  );
});

/** Servers that let in nobody who does not encrypt, with a certificate for `localhost` from our authority. */
suite('a connection with tls', { skip: withoutServices }, () => {
  let ca = '';
  let otherCa = '';
  let postgres: PostgresService & AsyncDisposable;
  let mariadb: MariadbService & AsyncDisposable;
  let redis: RedisService & AsyncDisposable;
  let redisPort = 0;

  const psql = (input: string): string =>
    execFileSync(
      join(postgres.binDir, 'psql'),
      ['-XAtq', '-h', postgres.host, '-p', String(postgres.port), '-U', postgres.user, 'postgres'],
      { input, encoding: 'utf8' },
    );
  const sql = (input: string): string =>
    execFileSync('mariadb', ['--no-defaults', '--batch', `--socket=${mariadb.socket}`], {
      input,
      encoding: 'utf8',
    });

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-tls-'));
    await chmod(scratch, 0o755);
    [ca, otherCa] = [makeAuthority(scratch, 'ours'), makeAuthority(scratch, 'others')];
    const { cert, key } = makeServerCertificate(scratch, 'ours', 'localhost');
    /** A key that the user of a server, and nobody else, may read. */
    const keyOf = (user: string): string => {
      const path = join(scratch, `${user}.key`);
      copyFileSync(key, path);
      chmodSync(path, 0o600);
      if (process.getuid?.() === 0) execFileSync('chown', [user, path]);
      return path;
    };
    [redisPort = 0] = await freePorts(1);
    [postgres, mariadb, redis] = await startedTogether(
      startPostgres(await folder()),
      startMariadb(await folder(), undefined, [
        `--ssl-cert=${cert}`,
        `--ssl-key=${keyOf('mysql')}`,
        '--require-secure-transport=ON',
      ]),
      startRedis(await folder(), {
        settings: [
          `tls-port ${redisPort}`,
          `tls-cert-file ${cert}`,
          `tls-key-file ${keyOf('redis')}`,
          `tls-ca-cert-file ${ca}`,
          'tls-auth-clients no',
        ],
      }),
    );
    const keyFile = keyOf('postgres');
    psql(`ALTER SYSTEM SET ssl_cert_file = '${cert}'; `);
    psql(`ALTER SYSTEM SET ssl_key_file = '${keyFile}'; `);
    psql('ALTER SYSTEM SET ssl = on');
    const rules = psql('SHOW hba_file').trim();
    writeFileSync(rules, readFileSync(rules, 'utf8').replaceAll(/^host /gm, 'hostssl '));
    psql(`SELECT pg_reload_conf(); CREATE TABLE t AS SELECT 1 AS a`);
    sql('CREATE DATABASE chat; CREATE TABLE chat.t AS SELECT 1 AS a');
    redis.cli(['SET', 'a', '1']);
  });

  after(async () => {
    await postgres?.[Symbol.asyncDispose]();
    await mariadb?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  const kinds: Record<'postgres' | 'mysql' | 'redis', (where: Where) => Source> = {
    postgres: ({ host, ca, port = postgres.port }) =>
      postgresSource({
        name: 's',
        kind: 'postgres',
        databases: ['postgres'],
        exclude: [],
        excludeTables: [],
        excludeTableData: [],
        parallel: 1,
        globals: false,
        host,
        port,
        user: postgres.user,
        password: new Secret(() => postgres.password),
        tls: { ca },
      }),
    mysql: ({ host, ca, port = mariadb.port, ownLogin = false }) =>
      mysqlSource({
        name: 's',
        kind: 'mysql',
        databases: ['chat'],
        exclude: [],
        users: false,
        host,
        port,
        user: ownLogin ? undefined : mariadb.user,
        password: ownLogin ? undefined : new Secret(() => mariadb.password),
        tls: { ca },
      }),
    redis: ({ host, ca, port = redisPort }) =>
      redisSource({
        name: 's',
        kind: 'redis',
        host,
        port,
        password: new Secret(() => redis.password),
        tls: { ca },
      }),
  };

  for (const kind of ['postgres', 'mysql', 'redis'] as const)
    test(`${kind}: saves from a server that our authority vouches for, and from no other`, async () => {
      const source = kinds[kind];
      assert.equal((await save(source({ host: 'localhost', ca }))).length, 1);
      await assert.rejects(save(source({ host: 'localhost', ca: otherCa })), notVouchedFor);
      await assert.rejects(
        save(source({ host: 'localhost', ca: join(scratch, 'missing.pem') })),
        notVouchedFor,
      );
      // redis-cli does not compare the name.
      if (kind !== 'redis') await assert.rejects(save(source({ host: '127.0.0.1', ca })), notVouchedFor);
    });

  test('a server without TLS is refused, not spoken to without it', async () => {
    await using plainPostgres = await startPostgres(await folder());
    await using plainMariadb = await startMariadb(await folder());
    const where = { host: 'localhost', ca };
    await assert.rejects(save(kinds.postgres({ ...where, port: plainPostgres.port })), notVouchedFor);
    await assert.rejects(save(kinds.mysql({ ...where, port: plainMariadb.port })), notVouchedFor);
    await assert.rejects(save(kinds.redis({ ...where, port: redis.port })), (error: unknown) => {
      assert.ok(error instanceof SealiftError && error.code === 'source-unavailable', String(error));
      assert.match(`${error.message} ${error.hint}`, /did not answer within 20 s .*TLS/);
      return true;
    });
  });

  test('a Redis that asks for a certificate of the client is told what to set', async () => {
    redis.cli(['CONFIG', 'SET', 'tls-auth-clients', 'yes']);
    try {
      await assert.rejects(save(kinds.redis({ host: 'localhost', ca })), {
        code: 'source-unavailable',
        hint: /tls-auth-clients no/,
      });
    } finally {
      redis.cli(['CONFIG', 'SET', 'tls-auth-clients', 'no']);
    }
  });

  test('a Redis that replicates over TLS, and would never come for a dump, is refused, and as it says it is loaded', async () => {
    const [body] = await save(kinds.redis({ host: 'localhost', ca }));
    const load = () =>
      replicate(`redis://127.0.0.1:${redis.port}`, body!, { ...loading(redis.password), force: true });
    redis.cli(['CONFIG', 'SET', 'tls-replication', 'yes']);
    try {
      await assert.rejects(load(), { code: 'usage', hint: /^CONFIG SET tls-replication no.*--into redis:/ });
    } finally {
      redis.cli(['CONFIG', 'SET', 'tls-replication', 'no']);
    }
    assert.match((await load()).lines[0] ?? '', /holds 1 key now/);
  });

  test('an option file adds no authority', async () => {
    const trusted = await folder();
    copyFileSync(ca, join(trusted, 'ours.pem'));
    execFileSync('openssl', ['rehash', trusted]);
    const home = await folder();
    const settings = [`user=${mariadb.user}`, `password=${mariadb.password}`, `ssl-capath=${trusted}`];
    writeFileSync(join(home, '.my.cnf'), `[client]\n${settings.join('\n')}\n`, { mode: 0o600 });
    const { HOME } = process.env;
    process.env['HOME'] = home;
    try {
      const by = (authority: string) =>
        save(kinds.mysql({ host: 'localhost', ca: authority, ownLogin: true }));
      assert.equal((await by(ca)).length, 1);
      await assert.rejects(by(otherCa), notVouchedFor);
    } finally {
      process.env['HOME'] = HOME;
    }
  });

  test('a restore asks the same of its target', async () => {
    const dump = await save(kinds.postgres({ host: 'localhost', ca }));
    const tables = await save(kinds.mysql({ host: 'localhost', ca }));
    for (const load of [
      (by: string) => loadPostgres(target('postgres', postgres, by), dump, loading(postgres.password)),
      (by: string) => loadMysql(target('mysql', mariadb, by), tables, loading(mariadb.password)),
    ]) {
      await assert.rejects(load(otherCa), notVouchedFor);
      assert.equal((await load(ca)).lines.length, 1);
    }
  });
});
