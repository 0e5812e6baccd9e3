import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { abortedLater } from '../concurrency.ts';
import type { Secret } from '../config/secrets.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { feedProcess } from '../process.ts';
import {
  ask,
  askAny,
  command,
  conninfo,
  describe,
  explain,
  anyProgram,
  literal,
  psqlEncoding,
  psqlOptions,
  psqlScript,
  reach,
  type Server,
  type ServerAddress,
} from './postgres-connection.ts';
import { failedLoad, loaded, noteDamage, notEmpty, notOneDump, offerDumps } from './load-failure.ts';
import { withAdvice } from './postgres-advice.ts';
import { type Contents, definition, readContents } from './postgres-contents.ts';
import { loadGlobals } from './postgres-globals.ts';
import {
  type Damaged,
  type Loaded,
  type Loader,
  type LoadStream,
  nameOf,
  type Surroundings,
} from './source.ts';
import { parseTargetUrl, type TargetForm } from './target-url.ts';
import { tlsOfTarget } from './tls.ts';

export interface LoadOptions extends Surroundings {
  /** Load into databases that are not empty: what the dump holds is dropped there first. */
  readonly force: boolean;
  readonly password?: Secret | undefined;
  /** A file in libpq's format (PGPASSFILE). */
  readonly passFile?: string | undefined;
  /** Where to look for the programs. */
  readonly directories?: readonly string[] | undefined;
}

export const postgresLoader: Loader = {
  kind: 'postgres',
  takesSeveral: true,
  passwordVariable: 'PGPASSWORD',
  load(into, streams, context) {
    const passFile = context.variable('PGPASSFILE');
    // The programs are started in another folder.
    return loadPostgres(into, streams, { ...context, passFile: passFile && resolve(passFile) });
  },
};

/**
 * Loads streams of a `postgres` source into a server.
 *
 * - `postgres://user@host:port/db`: one dump, into that database, which is made if it is missing.
 * - `postgres://user@host:port`: every dump into the database it came from, after the roles in `globals.sql`, or these alone.
 * - `?host=/run/postgresql` names the directory of a socket. A password is refused: it would be seen by others.
 *
 * Each database is loaded in one transaction: a load that fails leaves it as it was, and one that was made for it is
 * dropped again. Throws `target-exists` for a database that is not empty, before anything is loaded.
 * Returns what was done, one line each.
 */
export async function loadPostgres(
  url: string,
  streams: readonly LoadStream[],
  options: LoadOptions,
): Promise<Loaded> {
  const { address, database } = parseTarget(url);
  const { password, passFile, directories, signal } = options;
  const dumps = streams.filter(({ file }) => file.endsWith('.dump'));
  const globals = streams.find(({ file }) => file === 'globals.sql');
  if (dumps.length === 0 && (globals === undefined || database !== undefined))
    throw new SealiftError('usage', 'there is no dump to load', {
      hint: 'roles and tablespaces are for the whole server: leave the database out of the URL',
    });
  if (database !== undefined && dumps.length !== 1) throw notOneDump(dumps.length, database);

  const server = await reach({ ...address, password, passFile }, directories, options);
  const targets = dumps.map((dump): Target => {
    const name = database ?? nameOf(dump.file, '.dump');
    return { server, name, dump, whole: database === undefined, options };
  });
  const places = new Set(['postgres', 'template1', ...targets.map(({ name }) => name)]);
  // Databases are made and dropped from there.
  const { answer, asked: maintenance } = await askAny(server, places, aboutServer, signal);
  const facts = answer as Facts;
  for (const target of targets) {
    refuseLongName(target, facts);
    await refuseToOverwrite(target, facts);
    await refuseToAlter(target, facts, maintenance);
  }

  const lines: string[] = [];
  if (globals !== undefined && database === undefined)
    lines.push(
      ...(await loadGlobals(server, maintenance, globals.open(), signal)
        .catch(offerDumps)
        .catch(failedLoad('the roles'))
        .catch(withAdvice)),
    );
  const damaged: Damaged[] = [];
  for (const target of targets) {
    lines.push(
      ...(await load(target, facts, maintenance)
        .catch(noteDamage(damaged, target.dump))
        .catch(failedLoad(`database ${JSON.stringify(target.name)}`, lines, damaged))
        .catch(withAdvice)),
    );
  }
  return loaded(lines, damaged, targets.length);
}

interface Target {
  readonly server: Server;
  readonly name: string;
  readonly dump: LoadStream;
  /** The database is put back as it was, with its owner, settings and grants; else only its content. */
  readonly whole: boolean;
  readonly options: LoadOptions;
}

interface Facts {
  readonly major: number;
  readonly superuser: boolean;
  readonly longestNameBytes: number;
  readonly databases: readonly string[];
}

const form: TargetForm = {
  schemes: ['postgres', 'postgresql'],
  example: 'postgres://user@host:port/database',
  hint: 'for a socket: postgres:///database?host=/run/postgresql&user=NAME; a # in a name is written %23',
  parameters: ['host', 'port', 'user', 'ca'],
  passwordFrom: 'PGPASSFILE, ~/.pgpass or PGPASSWORD',
};

/** `postgres://[user@][host][:port][/database][?host=DIRECTORY&port=N&user=NAME&ca=PATH]`. */
export function parseTarget(url: string): { address: ServerAddress; database: string | undefined } {
  const { host, port, user, database, parameters } = parseTargetUrl(url, form);
  return { address: { host, port, user, tls: tlsOfTarget(parameters, host) }, database };
}

/** What the server is and has. */
const aboutServer = `
  SELECT json_build_object(
    'major', current_setting('server_version_num')::int / 10000,
    'superuser', (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
    'longestNameBytes', current_setting('max_identifier_length')::int,
    'databases', (SELECT json_agg(datname) FROM pg_catalog.pg_database))`;

/** The server itself would cut it without an error, and make or fill a database of another name. */
function refuseLongName({ server, name }: Target, { longestNameBytes }: Facts): void {
  const bytes = Buffer.byteLength(name);
  if (bytes <= longestNameBytes) return;
  throw new SealiftError(
    'usage',
    `${describe(server)} takes names of ${longestNameBytes} bytes, and ${JSON.stringify(name)} has ${bytes}`,
    { hint: 'give the database a shorter name in the URL' },
  );
}

/** 16384 is the first number that PostgreSQL gives to an object of a user. */
const holdsSomething = `
  SELECT to_json(EXISTS (SELECT FROM pg_class WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_type WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_extension WHERE oid >= 16384) OR EXISTS (SELECT FROM pg_largeobject_metadata))`;

async function refuseToOverwrite({ server, name, options }: Target, facts: Facts): Promise<void> {
  if (options.force || !facts.databases.includes(name)) return;
  if ((await ask(server, name, holdsSomething, options.signal)) === false) return;
  throw notEmpty(name, describe(server));
}

/** Of the settings that a dump does not bring with it, this one changes what is loaded. */
async function refuseToAlter(
  { server, name, options }: Target,
  { databases }: Facts,
  maintenance: string,
): Promise<void> {
  const database = databases.includes(name) ? name : maintenance;
  const query = `SELECT to_json(current_setting('array_nulls'))`;
  if ((await ask(server, database, query, options.signal)) === 'on') return;
  throw new SealiftError(
    'restore-failed',
    `database ${JSON.stringify(name)} of ${describe(server)} would get the text "NULL" for each NULL in an array: there, array_nulls = off`,
    { hint: 'ALTER SYSTEM, DATABASE or ROLE ... SET array_nulls = on for the time of the load' },
  );
}

const cleanUpMs = 60_000;

async function load(target: Target, facts: Facts, maintenance: string): Promise<string[]> {
  const { server, name, dump, whole, options } = target;
  const { signal, force } = options;
  const contents = await readContents(server, dump, options);
  const missing = !facts.databases.includes(name);
  const { how, properties, lost } = await definition(contents, dump, whole ? name : undefined, options);
  // Only a superuser can give things to others; on a rented server everything belongs to whoever loads it.
  const bare = facts.superuser ? [] : ['--no-owner', '--no-acl'];
  const clean = force && !missing ? ['--clean', '--if-exists'] : [];
  const argv = [
    contents.pgRestore,
    '--exit-on-error',
    '--single-transaction',
    '--no-password',
    ...clean,
    ...bare,
  ];

  if (missing) await make(target, how, maintenance, facts, contents);
  let isLoaded = false;
  try {
    await feedProcess(command(server, [...argv, `--dbname=${conninfo(server, name)}`]), dump.open(), signal);
    isLoaded = true;
    // Afterwards, because a setting such as default_transaction_read_only would get in the way of the load.
    if (whole && facts.superuser) await run(server, maintenance, properties, signal);
  } catch (error) {
    const left = missing
      ? await dropAgain(server, maintenance, name, facts)
      : isLoaded
        ? `; database ${JSON.stringify(name)} is loaded, but not all of its owner, settings and grants are set`
        : '';
    throw leaving(ofOlderServer(explain(error, server, name), contents, facts), left);
  }
  const settings = whole && properties.some((one) => /^ALTER .* SET /s.test(one));
  const lacks = settings ? 'owners, grants and its settings' : 'owners and grants';
  const without = bare.length > 0 ? `, without ${lacks}: the login is no superuser` : '';
  const done = `database ${JSON.stringify(name)} ${missing ? 'made and ' : ''}loaded`;
  return [[`${done}${without}`, lost].filter((part) => part !== '').join('; ')];
}

/** For what is mostly quick: only a client that waits for its server learns what became of its statement. */
const createGraceMs = 5_000;

async function make(
  { server, name, options: { signal } }: Target,
  how: string,
  maintenance: string,
  facts: Facts,
  contents: Contents,
): Promise<void> {
  signal.throwIfAborted();
  // Another restore may be making one of that name at the same time.
  const create = `CREATE DATABASE ${quoted(name)} /* ${randomBytes(8).toString('hex')} */ `;
  using patience = abortedLater(signal, createGraceMs);
  try {
    await run(server, maintenance, [create + how], patience.signal);
  } catch (error) {
    // Where the server itself said no, a database of that name is somebody else's.
    const left = patience.signal.aborted ? await stopMaking(server, maintenance, name, create, facts) : '';
    throw leaving(ofOlderServer(error, contents, facts), left);
  }
}

/**
 * A server goes on making a database for a client that has gone, and nobody would drop it then. The transaction that makes
 * it tells it from one that got the name meanwhile.
 */
async function stopMaking(
  server: Server,
  maintenance: string,
  name: string,
  create: string,
  facts: Facts,
): Promise<string> {
  const signal = AbortSignal.timeout(cleanUpMs);
  const end = `
    SELECT json_build_object('ended', count(pg_terminate_backend(pid)), 'transactions', json_agg(backend_xid::text))
    FROM pg_stat_activity WHERE application_name = 'sealift' AND strpos(query, ${literal(create)}) = 1`;
  const look = `SELECT to_json(xmin::text) FROM pg_database WHERE datname = ${literal(name)}`;
  const transactions = new Set<unknown>();
  let madeBy: unknown;
  try {
    for (;;) {
      const found = (await ask(server, maintenance, end, signal)) as Making;
      if (found.ended === 0) break;
      for (const transaction of found.transactions ?? [])
        if (transaction !== null) transactions.add(transaction);
      await delay(200, undefined, { signal });
    }
    madeBy = await ask(server, maintenance, look, signal);
  } catch {
    return `; the server may still be making database ${JSON.stringify(name)}, which has to be dropped then`;
  }
  if (transactions.has(madeBy)) return dropAgain(server, maintenance, name, facts);
  return madeBy === undefined || transactions.size > 0
    ? ''
    : `; there is a database ${JSON.stringify(name)} now, which has to be dropped unless somebody else made it`;
}

interface Making {
  readonly ended: number;
  /** Null before anything is written. */
  readonly transactions: readonly (string | null)[] | null;
}

/** Statements are given on standard input, where psql has been kept from seeing commands of its own in them. */
async function run(
  server: Server,
  database: string,
  statements: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const path = await anyProgram(server, 'psql');
  const argv = [path, ...psqlOptions(server, database), '--file=-'];
  await feedProcess(command(server, argv, psqlEncoding), [Buffer.from(psqlScript(statements))], signal);
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Has a signal of its own: an interrupted load has to be cleaned up too. Returns what is to be said of it. */
async function dropAgain(
  server: Server,
  maintenance: string,
  name: string,
  { major }: Facts,
): Promise<string> {
  const force = major >= 13 ? ' WITH (FORCE)' : '';
  const drop = `DROP DATABASE IF EXISTS ${quoted(name)}${force}`;
  return run(server, maintenance, [drop], AbortSignal.timeout(cleanUpMs)).then(
    () => '',
    (error: unknown) =>
      `; database ${JSON.stringify(name)} was made for it and could not be dropped again: ${messageOf(error)}`,
  );
}

/** A server that is older than the programs that made the dump may not understand it. */
function ofOlderServer(error: unknown, { dumpedByMajor }: Contents, { major }: Facts): unknown {
  if (!(error instanceof SealiftError) || dumpedByMajor <= major) return error;
  const hint = `the dump was made by pg_dump ${dumpedByMajor}, which the older server ${major} may not understand; into a database that was made there by hand much of it loads`;
  return new SealiftError(error.code, error.message, { hint, cause: error.cause });
}

/** Tells what a load that failed has left behind. */
function leaving(error: unknown, left: string): unknown {
  if (!(error instanceof SealiftError)) return error;
  // Of what a statement may not do, no other password makes a difference.
  const isRight = error.code === 'source-denied' && error.message.includes('ERROR:  ');
  const code = isRight ? 'restore-failed' : error.code;
  return new SealiftError(code, error.message + left, { hint: error.hint, cause: error.cause });
}
