import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Secret } from '../config/secrets.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { type Command, findProgram, output, searchPath, type SystemUser, systemUser } from '../process.ts';
import { explained, type Explanation } from './explanation.ts';
import { type Cluster, debianClusters, findCluster } from './postgres-cluster.ts';
import { writeSecretFile } from './secret-file.ts';
import type { Surroundings } from './source.ts';
import { type Tls, withTls } from './tls.ts';

/** How PostgreSQL's own programs reach one server. */
export interface Server {
  /** A host name, or the directory of a socket; the system's usual socket if there is none. */
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly user: string | undefined;
  /** A file in libpq's format that holds the password. */
  readonly passFile: string | undefined;
  readonly tls?: Tls | undefined;
  readonly runAs: SystemUser | undefined;
  /** Host and port are those of this cluster. */
  readonly cluster?: Cluster | undefined;
  /** Where to look for the programs: the first that is new enough is taken. */
  readonly directories: readonly string[];
}

export interface ServerAddress {
  /** In place of host and port: `15/main`. */
  readonly cluster?: string | undefined;
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
  readonly passFile?: string | undefined;
  readonly tls?: Tls | undefined;
  readonly runAs?: string | undefined;
}

/** Decides as whom to connect, and lays down the password where only the programs can read it. */
export async function reach(
  address: ServerAddress,
  directories: readonly string[] | undefined,
  around: Surroundings,
  clusters = debianClusters,
): Promise<Server> {
  const { signal } = around;
  const { user, password, tls } = address;
  const cluster =
    address.cluster === undefined ? undefined : await findCluster(address.cluster, clusters, signal);
  const { host, port } = cluster ?? address;
  const runAs = await runAsUser({ ...address, host }, cluster, signal);
  const passFile =
    password === undefined
      ? address.passFile
      : await writeSecretFile('pgpass', passFileText(password), runAs, around);
  const programs = directories ?? (await programDirectories());
  return { host, port, user, passFile, tls, runAs, cluster, directories: programs };
}

/**
 * The system user that the programs run as. Debian's server lets the system user `postgres`, and nobody else, in by
 * its socket without a password; so root becomes that user if nothing else is configured and there is such a user. A
 * cluster that belongs to somebody else lets in that user instead.
 */
async function runAsUser(
  address: ServerAddress,
  cluster: Cluster | undefined,
  signal: AbortSignal,
): Promise<SystemUser | undefined> {
  if (address.runAs !== undefined) return systemUser(address.runAs, signal);
  const onSocket = address.host === undefined || address.host.startsWith('/');
  const hasPassword = address.password !== undefined || address.passFile !== undefined;
  if (process.geteuid?.() !== 0 || !onSocket || hasPassword) return undefined;
  return systemUser(cluster === undefined ? 'postgres' : String(cluster.ownerId), signal).catch(
    (error: unknown) => {
      if (error instanceof SealiftError && error.code === 'config-invalid') return undefined;
      throw error;
    },
  );
}

/** https://www.postgresql.org/docs/current/libpq-pgpass.html */
function passFileText(password: Secret): string {
  const text = password.reveal();
  if (/[\r\n]/.test(text))
    throw new SealiftError('config-invalid', 'a password for PostgreSQL cannot hold a line break');
  return `*:*:*:*:${text.replace(/[\\:]/g, '\\$&')}\n`;
}

/** Debian keeps each version's programs in a folder of its own: newest first, then what is on the PATH. */
async function programDirectories(): Promise<string[]> {
  const root = '/usr/lib/postgresql';
  const versions = (await readdir(root).catch(() => [])).filter((name) => /^\d+(\.\d+)?$/.test(name));
  versions.sort((a, b) => Number(b) - Number(a));
  return [...versions.map((version) => join(root, version, 'bin')), ...searchPath()];
}

/** The first program of that name, for what every version can do. */
export async function anyProgram(server: Server, name: string): Promise<string> {
  const path = await findProgram(name, server.directories);
  if (path === undefined) throw notInstalled(name);
  return path;
}

/** The first program of that name whose major version is at least that of the server. */
export async function program(
  server: Server,
  name: string,
  signal: AbortSignal,
  serverMajor = 0,
): Promise<{ path: string; version: string }> {
  let newest = 0;
  for (const directory of server.directories) {
    const path = await findProgram(name, [directory]);
    if (path === undefined) continue;
    const { stdout } = await output({ argv: [path, '--version'] }, signal);
    const version = /\d+[.\w]*/.exec(stdout)?.[0] ?? '0';
    if (parseInt(version, 10) >= serverMajor) return { path, version };
    newest = Math.max(newest, parseInt(version, 10));
  }
  if (newest === 0) throw notInstalled(name);
  throw new SealiftError(
    'tool-too-old',
    `the server is PostgreSQL ${serverMajor}, but the newest ${name} here is ${newest}`,
    {
      hint: `apt-get install postgresql-client-${serverMajor} (from apt.postgresql.org if Debian has it not)`,
    },
  );
}

const notInstalled = (name: string): SealiftError =>
  new SealiftError('tool-missing', `${name} is not installed`, { hint: 'apt-get install postgresql-client' });

/**
 * A connection string. The name of the database always stands in quotes in one, because the programs would take a
 * bare name that holds `=` or begins with `postgres://` for a connection string itself.
 */
export function conninfo(server: Server, database: string): string {
  const settings: Record<string, string | number | undefined> = {
    dbname: database,
    host: server.host,
    port: server.port,
    user: server.user,
    ...(server.tls && { sslmode: 'verify-full', sslrootcert: server.tls.ca }),
    // A server that falls silent is noticed after about two minutes, not two hours.
    connect_timeout: 30,
    keepalives_idle: 60,
    keepalives_interval: 10,
    keepalives_count: 6,
    application_name: 'sealift',
  };
  return Object.entries(settings)
    .flatMap(([key, value]) => (value === undefined ? [] : [setting(key, String(value))]))
    .join(' ');
}

export const setting = (key: string, value: string): string => `${key}='${value.replace(/['\\]/g, '\\$&')}'`;

/** A string in a statement, whatever `standard_conforming_strings` is. */
export const literal = (text: string): string => `E'${text.replace(/[\\']/g, '$&$&')}'`;

/** A call of one of PostgreSQL's programs. */
export function command(server: Server, argv: string[], env: Record<string, string> = {}): Command {
  const passFile = server.passFile === undefined ? {} : { PGPASSFILE: server.passFile };
  // With a ticket of Kerberos it would be encrypted by that instead, and no certificate looked at.
  const tlsAlone = server.tls === undefined ? {} : { PGGSSENCMODE: 'disable' };
  return { argv, env: { ...passFile, ...tlsAlone, ...env }, runAs: server.runAs };
}

/** The options of a psql that reads no start-up file, asks nothing and stops at the first error. */
export function psqlOptions(server: Server, database: string): string[] {
  return ['-XAtq', '--no-password', '--set=ON_ERROR_STOP=1', `--dbname=${conninfo(server, database)}`];
}

/** Wins over what the server has set for the login or the database. */
export const psqlEncoding = { PGCLIENTENCODING: 'UTF8' };

/**
 * The standard input of a psql: statements of `sqlStatements`. psql ends strings where its server does, so before it reads
 * any it is told that a backslash is a letter like any other; behind a quote that ends elsewhere, a statement could hold
 * commands for this machine. The limits that a role or a database has for its users are none for a restore, as in pg_restore.
 */
export const psqlScript = (statements: readonly string[]): string =>
  [
    'SET standard_conforming_strings = on',
    'SET statement_timeout = 0',
    'SET lock_timeout = 0',
    // Since PostgreSQL 17; older servers refuse to set what they do not know.
    `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'transaction_timeout'`,
    ...statements,
  ]
    .map((statement) => `${statement};\n`)
    .join('');

/**
 * The answer to a query that yields one JSON value. Whoever may make functions in a database could give them the names of
 * the server's own, with arguments that fit better, and the login, which may be a superuser, would run them: only the
 * server's own are found (CVE-2018-1058). Within the one transaction, as a pooler passes the connection on.
 */
export const ask = (server: Server, database: string, query: string, signal: AbortSignal): Promise<unknown> =>
  askByOwnPath(
    server,
    database,
    `SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; ${query}`,
    signal,
  );

/** For a query about the login's own search path. It has to name the schema of each function, and use no operator. */
export async function askByOwnPath(
  server: Server,
  database: string,
  query: string,
  signal: AbortSignal,
): Promise<unknown> {
  const path = await anyProgram(server, 'psql');
  const argv = [path, ...psqlOptions(server, database), `--command=${query}`];
  try {
    const { stdout } = await output(command(server, argv, psqlEncoding), signal);
    return stdout.trim() === '' ? undefined : JSON.parse(stdout);
  } catch (error) {
    throw explain(error, server, database);
  }
}

/** Asks the first of these databases that lets us in. */
export async function askAny(
  server: Server,
  databases: ReadonlySet<string>,
  query: string,
  signal: AbortSignal,
): Promise<{ answer: unknown; asked: string }> {
  let first: unknown;
  for (const asked of databases) {
    try {
      return { answer: await ask(server, asked, query, signal), asked };
    } catch (error) {
      first ??= error;
      // A login may be good for its own database only; a server that is down is down for all of them.
      if (!messageOf(error).includes('FATAL:  ')) throw error;
    }
  }
  throw first;
}

const explanations: readonly Explanation[] = [
  {
    // libpq speaks English here, whatever the language of the server (lc_messages): of a password that was refused, too.
    says: /authentication failed|password retrieved from file|no password supplied|no pg_hba\.conf entry|fe_sendauth|FATAL: {2}role /i,
    code: 'source-denied',
    hint: 'check user, password and pg_hba.conf of the server; for a socket, the system user (runAs) has to match',
  },
  {
    says: /row-level security policy/,
    code: 'source-denied',
    hint: 'the login may not see every row of that table: ALTER ROLE ... BYPASSRLS, or leave the table out',
  },
  { says: /permission denied|must be (superuser|owner)|FATAL: {2}user /i, code: 'source-denied' },
  { says: /database .* does not exist|cannot connect to invalid database/s, code: 'source-unavailable' },
  {
    says: /canceling statement due to (statement|lock) timeout/,
    code: 'source-unavailable',
    hint: 'something held a lock on a table for too long: see pg_stat_activity',
  },
  {
    says: /FATAL: {2}could not (access|load) (file|library)/,
    code: 'source-unavailable',
    hint: 'the server is to load it for everyone who logs in, and has it not: install it there, or ALTER DATABASE or ROLE ... RESET session_preload_libraries (or local_preload_libraries)',
  },
  {
    says: /due to conflict with recovery/,
    code: 'source-unavailable',
    hint: 'a standby ends a dump that holds up its recovery: set max_standby_streaming_delay there to what a dump takes, or save the primary',
  },
];

/** "FATAL:  ", in its language, if that means nothing else. */
const refused: Explanation = {
  says: /connection to server .* failed: \S+: {2}/,
  code: 'source-unavailable',
  hint: 'the server runs, and that is its answer: does it have such a user and database, does pg_hba.conf let them in, and is a connection left?',
};

/** If it means nothing else. */
const noConnection =
  /connection to (server|database)|could not (connect|translate)|server closed the connection|terminating connection/;

/** What libpq says of a connection that it was to encrypt and check. */
const tlsRefused = /SSL error|does not support SSL|root certificate file|server certificate for/;

const startCluster = ({ name }: Cluster): string =>
  `pg_lsclusters shows whether it runs (pg_ctlcluster ${name.replace('/', ' ')} start); a changed port counts from its next start`;

/** Of PostgreSQL's programs. */
export function explain(error: unknown, server: Server, database: string): unknown {
  const { cluster, tls } = server;
  const hint =
    cluster === undefined ? 'is the server running, and are host and port right?' : startCluster(cluster);
  const code = 'source-unavailable';
  const others = [
    ...explanations,
    { says: /the database system is/, code, hint } as const,
    refused,
    { says: noConnection, code, hint } as const,
  ];
  const where = `database ${JSON.stringify(database)} of ${describe(server)}`;
  // libpq names the file that we laid down for it, and that is gone when this is read.
  const file = `password retrieved from file "${server.passFile}"`;
  return explained(
    error,
    withTls(tls, tlsRefused, others),
    (message) => `${where}: ${message.replace(`; ${file}`, '')}`,
  );
}

export function describe({ cluster, host, port }: Server): string {
  if (cluster !== undefined) return `the PostgreSQL cluster ${cluster.name} (${host}, port ${port})`;
  return `the PostgreSQL server ${host === undefined ? 'on the local socket' : `at ${host}`}${port === undefined ? '' : `, port ${port}`}`;
}
