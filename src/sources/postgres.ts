import { mapConcurrent } from '../concurrency.ts';
import type { PostgresConfig } from '../config/config.ts';
import { isThisMachine } from '../config/hosts.ts';
import { SealiftError } from '../errors.ts';
import { readProcess } from '../process.ts';
import {
  askAny,
  command,
  conninfo,
  describe,
  explain,
  program,
  reach,
  type Server,
  setting,
} from './postgres-connection.ts';
import { withEvidence } from './evidence.ts';
import { findGaps } from './postgres-gaps.ts';
import { refusePooler } from './postgres-pooler.ts';
import { dumpOptions, type Excludes, excludesOf, inspectExcludes, parsePattern } from './postgres-tables.ts';
import { fileName, type Source, type SourceContext, type SourceStream } from './source.ts';
import { real } from './within.ts';

/**
 * A PostgreSQL server: `globals.sql` (roles and tablespaces, as SQL) and one `.dump` per database.
 *
 * Dumps are in pg_dump's custom format, uncompressed: it restores from a pipe, in one transaction, and psql never
 * gets to interpret it (CVE-2025-8714). Each database is consistent in itself (one repeatable-read transaction);
 * two databases of one server are not saved at the same instant.
 *
 * `directories`: where to look for the programs; `clusters`: where Debian keeps the configuration of its clusters.
 */
export function postgresSource(
  config: PostgresConfig,
  directories?: readonly string[],
  clusters?: string,
): Source {
  return {
    name: config.name,
    kind: 'postgres',
    parallel: config.parallel,
    streams: async (context) => streams(config, await reach(config, directories, context, clusters), context),
  };
}

/** A dump locks every table against being altered. It gives up when it cannot have a lock for this long. */
const lockWaitMs = 5 * 60 * 1000;

interface Facts {
  readonly version: string;
  /** Null to who may not see it. */
  readonly dataDirectory: string | null;
  readonly major: number;
  /** That the server itself has been given. */
  readonly port: number;
  readonly readsPasswords: boolean;
  readonly databases: readonly Database[];
}

interface Database {
  readonly name: string;
  readonly encoding: string;
  readonly collation: string;
  readonly sizeBytes: number | null;
  /** Allows connections and is no template. */
  readonly ordinary: boolean;
}

async function streams(
  config: PostgresConfig,
  server: Server,
  context: SourceContext,
): Promise<SourceStream[]> {
  const { signal } = context;
  const named = config.databases === 'all' ? [] : config.databases;
  const places = new Set(['postgres', ...named, 'template1']);
  const { answer, asked } = await askAny(server, places, aboutServer, signal);
  const facts = answer as Facts;
  await refuseOtherServer(server, facts);
  if (mayBePooled(server, facts)) await refusePooler(server, asked, signal);
  const names = wanted(config, facts);
  if (names.length === 0)
    throw new SealiftError('source-empty', `${describe(server)} has no database to save`);

  const [pgDump, gaps] = await Promise.all([
    program(server, 'pg_dump', signal, facts.major),
    // One after the other: the login may have no second connection.
    mapConcurrent(names, 1, (name) => findGaps(server, name, signal)),
  ]);
  const { version } = facts;
  await context.detail({ type: 'server', source: config.name, version, dumpedBy: pgDump.version });
  for (const { ordinary: _, ...database } of facts.databases.filter(({ name }) => names.includes(name)))
    await context.detail({ type: 'database', source: config.name, ...database });

  const excludes = {
    tables: config.excludeTables.map(parsePattern),
    data: config.excludeTableData.map(parsePattern),
  };
  await lookAtExcludes(server, names, excludes, context);
  for (const text of gaps.flatMap(({ leftOut }) => leftOut)) context.problem('rights-missing', text);
  const dumps = names.map((name, i): SourceStream => {
    const { settings } = gaps[i]!;
    const isThere = facts.databases.some((one) => one.name === name);
    const passes = settings.length === 0 ? undefined : passesOverDamage(server, name, settings);
    const refused = isThere ? passes : notThere(name);
    return {
      file: fileName(name, '.dump'),
      lacks: refused && [refused.message],
      async *open({ signal }) {
        if (refused !== undefined) throw refused;
        yield* dump(server, pgDump.path, name, excludesOf(excludes, name), signal);
      },
    };
  });
  if (!config.globals) return dumps;
  const pgDumpall = await program(server, 'pg_dumpall', signal, facts.major);
  const globals: SourceStream = {
    file: 'globals.sql',
    open: (context) => dumpGlobals(server, pgDumpall.path, asked, facts, context),
  };
  return [globals, ...dumps];
}

/** What the server is and has. */
const aboutServer = `
  SELECT json_build_object(
    'version', current_setting('server_version'),
    'dataDirectory', (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'),
    'major', current_setting('server_version_num')::int / 10000,
    'port', current_setting('port')::int,
    'readsPasswords', has_table_privilege('pg_catalog.pg_authid', 'SELECT'),
    'databases', (SELECT json_agg(json_build_object(
        'name', datname, 'encoding', pg_encoding_to_char(encoding), 'collation', datcollate,
        'sizeBytes', CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END,
        'ordinary', datallowconn AND NOT datistemplate AND datconnlimit <> -2
      ) ORDER BY datname) FROM pg_catalog.pg_database))`;

/** Where one cluster is down, another may have taken its port; its dumps must not come under the name of the first. */
async function refuseOtherServer(server: Server, { dataDirectory }: Facts): Promise<void> {
  const { cluster } = server;
  if (cluster === undefined || dataDirectory === null) return;
  if ((await real(dataDirectory)) === (await real(cluster.dataDirectory))) return;
  throw new SealiftError(
    'source-unavailable',
    `${describe(server)} is not what answers there: that server has its data in ${dataDirectory}`,
    { hint: `start cluster ${cluster.name} on a port of its own: pg_lsclusters shows them all` },
  );
}

/** On this machine, a pooler has another port than its server. */
const mayBePooled = ({ host, port = 5432 }: Server, facts: Facts): boolean =>
  port !== facts.port || (host !== undefined && !isThisMachine(host));

/** Says which patterns do nothing, and what they leave that cannot be loaded. A dump succeeds all the same. */
async function lookAtExcludes(
  server: Server,
  names: readonly string[],
  excludes: Excludes,
  context: SourceContext,
): Promise<void> {
  const patterns = new Set([...excludes.tables, ...excludes.data].map(({ text }) => text));
  if (patterns.size === 0) return;
  const used = new Set<string>();
  const rowless = new Set<string>();
  let askedAll = true;
  for (const name of names) {
    try {
      const found = await inspectExcludes(server, name, excludesOf(excludes, name), context.signal);
      for (const text of found.used) used.add(text);
      for (const text of found.rowless) rowless.add(text);
      for (const text of found.needed) context.problem('exclude-needed', text);
    } catch (error) {
      // A database that does not let us in says so when it is dumped, and fails alone.
      if (!(error instanceof SealiftError && error.code.startsWith('source-'))) throw error;
      askedAll = false;
    }
  }
  for (const text of askedAll ? [...patterns].filter((one) => !used.has(one)) : [])
    context.problem(
      'exclude-unused',
      rowless.has(text)
        ? `the pattern ${text} leaves out no rows of ${describe(server)}: a partitioned table has them in its partitions, which have to be named too`
        : `the pattern ${text} matches no table of ${describe(server)}`,
    );
}

/** Said here, because the server itself takes a name that is too long for what it begins with: another database. */
const notThere = (database: string): SealiftError =>
  new SealiftError('source-unavailable', `there is no database ${JSON.stringify(database)}`);

const passesOverDamage = (server: Server, database: string, settings: readonly string[]): SealiftError =>
  new SealiftError(
    'source-unavailable',
    `database ${JSON.stringify(database)} of ${describe(server)}: with ${settings.map((name) => `${name} = on`).join(' and ')}, ` +
      'a dump would be without what stands on damaged pages, and succeed',
    {
      hint: `ALTER SYSTEM, DATABASE or ROLE ... RESET ${settings.join(', ')}; to save what can still be read, dump it by hand`,
    },
  );

/** The databases to save. A listed one that does not exist stays in: its stream fails when it is opened. */
function wanted({ databases, exclude }: PostgresConfig, facts: Facts): string[] {
  const names =
    databases === 'all'
      ? facts.databases.filter(({ ordinary }) => ordinary).map(({ name }) => name)
      : databases;
  return [...new Set(names)].filter((name) => !exclude.includes(name));
}

/**
 * The format has no footer. But its last block of data ends with a length of nothing, in five bytes, and a dump without
 * any data with an unset position, in nine.
 */
const wholeDump = { begins: /^PGDMP/, ends: /\0{5}$/, minBytes: 400 };

async function* dump(
  server: Server,
  pgDump: string,
  database: string,
  excludes: Excludes,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const argv = [
    pgDump,
    '--format=custom',
    '--compress=0',
    '--no-password',
    `--lock-wait-timeout=${lockWaitMs}`,
    ...dumpOptions(excludes),
    `--dbname=${conninfo(server, database)}`,
  ];
  const what = `the dump of database ${JSON.stringify(database)}`;
  try {
    yield* withEvidence(readProcess({ ...command(server, argv), buffered: true }, signal), what, wholeDump);
  } catch (error) {
    throw explain(error, server, database);
  }
}

async function* dumpGlobals(
  server: Server,
  pgDumpall: string,
  database: string,
  { readsPasswords }: Facts,
  context: SourceContext,
): AsyncGenerator<Uint8Array, void, void> {
  if (!readsPasswords)
    context.problem(
      'globals-without-passwords',
      `roles of ${describe(server)} are saved without their passwords: reading those needs a superuser`,
    );
  const argv = [
    pgDumpall,
    '--globals-only',
    '--no-password',
    ...(readsPasswords ? [] : ['--no-role-passwords']),
    `--dbname=${conninfo(server, database)}`,
    // This too may be a connection string, and is taken for one if it looks like it.
    `--database=${setting('dbname', database)}`,
  ];
  const begins = /^--\n-- PostgreSQL database cluster dump\n/;
  const ends = /\n-- PostgreSQL database cluster dump complete\n/;
  try {
    yield* withEvidence(readProcess(command(server, argv), context.signal), 'globals.sql', { begins, ends });
  } catch (error) {
    throw explain(error, server, database);
  }
}
