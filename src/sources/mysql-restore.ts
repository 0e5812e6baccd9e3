import type { Secret } from '../config/secrets.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { feedProcess, ToolFailure } from '../process.ts';
import { withEvidence } from './evidence.ts';
import {
  ask,
  describe,
  explain,
  inAnyCase,
  literal,
  plainSession,
  quoted,
  reach,
  type Server,
  type ServerAddress,
  sqlCommand,
} from './mysql-connection.ts';
import { checkUsers, giveGrants, makeAccounts, name as inQuotes, readUsers } from './mysql-users.ts';
import { databaseOf, dumpBegins, dumpEnds, sandboxLine, usersFile } from './mysql-dump.ts';
import { failedLoad, loaded, noteDamage, notEmpty, notOneDump, offerDumps } from './load-failure.ts';
import type { Damaged, Loaded, Loader, LoadStream, Surroundings } from './source.ts';
import { parseTargetUrl, type TargetForm } from './target-url.ts';
import { tlsOfTarget } from './tls.ts';

export interface LoadOptions extends Surroundings {
  /** Load into databases that are not empty: what the dump holds is dropped there first. */
  readonly force: boolean;
  readonly password?: Secret | undefined;
  /** Where to look for the programs. */
  readonly directories?: readonly string[] | undefined;
}

export const mysqlLoader: Loader = {
  kind: 'mysql',
  takesSeveral: true,
  passwordVariable: 'MYSQL_PWD',
  load: loadMysql,
};

/**
 * Loads streams of a `mysql` source into a server.
 *
 * - `mysql://user@host:port/db`: one dump, into that database, which is made if it is missing.
 * - `mysql://user@host:port`: every dump into the database it came from, between the users and the grants of `users.sql`.
 * - `?socket=/run/mysqld/mysqld.sock` names a socket. A password is refused: it would be seen by others.
 *
 * These servers cannot take back what made or dropped a table. So a database that a failed load had made is dropped
 * again, one that was empty is emptied again, and of one that was neither (`force`) the error tells what it holds now;
 * its dump has been read to the end before, so that a damaged snapshot changes nothing.
 * Throws `target-exists` for a database that is not empty, before anything is loaded.
 * Returns what was done, one line each.
 */
export async function loadMysql(
  url: string,
  streams: readonly LoadStream[],
  options: LoadOptions,
): Promise<Loaded> {
  const { address, database } = parseTarget(url);
  const { password, directories, signal } = options;
  const users = streams.find(({ file }) => file === usersFile);
  const dumps = streams.filter((stream) => stream !== users);
  if (database !== undefined && dumps.length !== 1) throw notOneDump(dumps.length, database);
  if (dumps.length === 0) throw new SealiftError('usage', 'there is no dump to load');

  const server = await reach({ ...address, password }, directories, options);
  const facts = await inspect(server, signal);
  const targets: Target[] = [];
  for (const dump of dumps)
    targets.push(await look(server, facts, database ?? databaseOf(dump.file), dump, options));
  if (facts.lowerCase) {
    const refuseTwin = twinsOn(server, 'the databases');
    for (const { name } of targets) refuseTwin(name);
  }
  const saved =
    users === undefined || database !== undefined
      ? undefined
      : await readUsers(users.open()).catch(offerDumps);

  if (saved !== undefined) await checkUsers(server, saved, signal);

  const lines: string[] = [];
  if (saved !== undefined)
    lines.push(...(await makeAccounts(server, saved, signal).catch(failedLoad('the users'))));
  await using _ = await raisePacketLimit(server, facts, signal);
  const damaged: Damaged[] = [];
  await loadAll(targets, lines, damaged, options);
  if (saved !== undefined)
    lines.push(...(await giveGrants(server, saved, signal).catch(failedLoad('the grants', lines, damaged))));
  return loaded(lines, damaged, targets.length);
}

interface Facts {
  readonly databases: readonly string[];
  readonly lowerCase: boolean;
  readonly packetLimitBytes: number;
}

interface Target {
  readonly server: Server;
  readonly name: string;
  readonly dump: LoadStream;
  readonly lowerCase: boolean;
  readonly before: 'missing' | 'empty' | 'not empty';
}

const form: TargetForm = {
  schemes: ['mysql', 'mariadb'],
  example: 'mysql://user@host:port/database',
  hint: 'for a socket: mysql:///database?socket=/run/mysqld/mysqld.sock&user=NAME; a # in a name is written %23',
  parameters: ['socket', 'user', 'ca'],
  passwordFrom: 'MYSQL_PWD or ~/.my.cnf',
};

/** `mysql://[user@][host][:port][/database][?socket=PATH&user=NAME&ca=PATH]`. */
export function parseTarget(url: string): { address: ServerAddress; database: string | undefined } {
  const { port, user, database, parameters, ...target } = parseTargetUrl(url, form);
  const socket = parameters.get('socket');
  if (socket !== null && (target.host !== undefined || !socket.startsWith('/')))
    throw new SealiftError('usage', 'socket=PATH takes a whole path, and no host beside it');
  const host = socket ?? target.host;
  return { address: { host, port, user, tls: tlsOfTarget(parameters, host) }, database };
}

async function inspect(server: Server, signal: AbortSignal): Promise<Facts> {
  const [[lowerCase, packetLimit] = [], ...rows] = await ask(
    server,
    `SELECT @@lower_case_table_names, @@GLOBAL.max_allowed_packet;
     SELECT schema_name FROM information_schema.schemata`,
    signal,
  );
  const databases = rows.map(([name = '']) => name);
  return { databases, lowerCase: lowerCase !== '0', packetLimitBytes: Number(packetLimit) };
}

/** Finds out what is there. Throws `target-exists` for what must not be overwritten. */
async function look(
  server: Server,
  { databases, lowerCase }: Facts,
  name: string,
  dump: LoadStream,
  { force, signal }: LoadOptions,
): Promise<Target> {
  const isThere = databases.some((there) =>
    lowerCase ? inAnyCase(there) === inAnyCase(name) : there === name,
  );
  const target = { server, name, dump, lowerCase };
  if (!isThere) return { ...target, before: 'missing' };
  const of = literal(name);
  const [[holds] = []] = await ask(
    server,
    `SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = ${of})
       OR EXISTS (SELECT 1 FROM information_schema.routines WHERE routine_schema = ${of})
       OR EXISTS (SELECT 1 FROM information_schema.events WHERE event_schema = ${of})`,
    signal,
  );
  if (holds === '0') return { ...target, before: 'empty' };
  if (force) return { ...target, before: 'not empty' };
  throw notEmpty(name, describe(server));
}

const packetBytes = 2 ** 30;

/**
 * A statement may be twice as long as the row that it holds, because bytes are written in hexadecimal, and longer than
 * the server takes. The limit is raised for the time of the load, where the login may do that.
 */
async function raisePacketLimit(
  server: Server,
  { packetLimitBytes }: Facts,
  signal: AbortSignal,
): Promise<AsyncDisposable> {
  const set = (bytes: number, signal: AbortSignal) =>
    ask(server, `SET GLOBAL max_allowed_packet = ${bytes}`, signal).then(
      () => true,
      (error: unknown) => {
        if (error instanceof SealiftError && error.cause instanceof ToolFailure) return false;
        throw error;
      },
    );
  const raised = packetLimitBytes < packetBytes && (await set(packetBytes, signal));
  return {
    async [Symbol.asyncDispose]() {
      // With a signal of its own: it has to be put back after an interruption too.
      if (raised) await set(packetLimitBytes, AbortSignal.timeout(cleanUpMs));
    },
  };
}

const cleanUpMs = 60_000;

/** There is no such database, table or routine, or none for a view. */
const refersToOther = /ERROR (1049|1146|1305|1356) /;

/** A database that refers to another which is not there yet, as views do, is loaded again after the others. */
async function loadAll(
  targets: readonly Target[],
  lines: string[],
  damaged: Damaged[],
  options: LoadOptions,
): Promise<void> {
  const early: { target: Target; fail: () => never }[] = [];
  for (const target of targets)
    try {
      lines.push(...(await load(target, options).catch(noteDamage(damaged, target.dump))));
    } catch (error) {
      const fail = () => failedLoad(`database ${JSON.stringify(target.name)}`, lines, damaged)(error);
      if (!refersToOther.test(messageOf(error))) fail();
      early.push({ target, fail });
    }
  if (early.length === targets.length) early[0]?.fail();
  const again = early.map(({ target }) => target);
  if (again.length > 0) await loadAll(again, lines, damaged, options);
}

async function load(target: Target, { signal }: LoadOptions): Promise<string[]> {
  const { server, name, before } = target;
  const how = await howItWas(target, signal);
  if (before === 'not empty') await readThrough(target);
  const options = [
    // Or the comments in routines and triggers would be cut out of them.
    '--comments',
    '--max-allowed-packet=1G',
    `--database=${name}`,
  ];
  if (before === 'missing') await ask(server, `CREATE DATABASE ${quoted(name)}`, signal);
  try {
    await feedProcess(sqlCommand(server, options), renamed(target), signal);
  } catch (error) {
    const left = await undo(target, how).catch(
      (cause: unknown) => `; and it could not be put right: ${messageOf(cause)}`,
    );
    throw withMore(explain(error, server, name), left);
  }
  return [`database ${JSON.stringify(name)} ${before === 'missing' ? 'made and ' : ''}loaded`];
}

/** What is needed to tell afterwards, or to put back, what was there. */
interface Before {
  readonly creation: string;
  readonly startedAt: string;
  readonly tables: readonly string[];
}

async function howItWas({ server, name, before }: Target, signal: AbortSignal): Promise<Before> {
  if (before === 'missing') return { creation: '', startedAt: '', tables: [] };
  const [[, creation = ''] = [], [startedAt = ''] = [], ...rows] = await ask(
    server,
    `SHOW CREATE DATABASE ${quoted(name)}; SELECT NOW(); ${tablesOf(name)}`,
    signal,
  );
  return { creation, startedAt, tables: rows.map(([table = '']) => table) };
}

const tablesOf = (database: string): string =>
  `SELECT table_name, COALESCE(create_time, '') FROM information_schema.tables
    WHERE table_schema = ${literal(database)} ORDER BY 1`;

/** Puts a database back as it was, as far as that is possible. Returns what to add to the error. */
async function undo(
  { server, name, before }: Target,
  { creation, startedAt, tables }: Before,
): Promise<string> {
  const signal = AbortSignal.timeout(cleanUpMs);
  if (before !== 'not empty') {
    await ask(server, `DROP DATABASE ${quoted(name)}${before === 'empty' ? `; ${creation}` : ''}`, signal);
    return '';
  }
  const now = await ask(server, tablesOf(name), signal);
  const anew = now.filter(([, created = '']) => created >= startedAt).map(([table = '']) => table);
  const gone = tables.filter((table) => !now.some(([there]) => there === table));
  const kept = tables.length - gone.length - anew.filter((table) => tables.includes(table)).length;
  const said = [
    anew.length === 0 ? '' : `made anew, the last perhaps not whole: ${anew.join(', ')}`,
    gone.length === 0 ? '' : `gone: ${gone.join(', ')}`,
    `as they were: ${kept} of ${tables.length} tables and views`,
  ];
  return `; of database ${JSON.stringify(name)} there are now ${said.filter((part) => part !== '').join('; ')}`;
}

function withMore(error: unknown, more: string): unknown {
  if (!(error instanceof SealiftError))
    return more === '' ? error : new Error(messageOf(error) + more, { cause: error });
  const hint = advice.find(({ says }) => says.test(error.message))?.hint ?? error.hint;
  return new SealiftError(error.code, error.message + more, { hint, cause: error.cause });
}

const advice: { says: RegExp; hint: string }[] = [
  {
    says: /ERROR 1419/,
    hint: 'the server writes a binary log, and then triggers and functions need SUPER: load it as an administrator, or SET GLOBAL log_bin_trust_function_creators = ON meanwhile',
  },
  {
    says: /ERROR 1418/,
    hint: 'the server writes a binary log, and the saved one wrote none, or has this setting: SET GLOBAL log_bin_trust_function_creators = ON meanwhile',
  },
  {
    says: /ERROR 1298/,
    hint: 'an event goes by a time zone that the server was not told of: mariadb-tzinfo-to-sql /usr/share/zoneinfo | mariadb mysql (MySQL: mysql_tzinfo_to_sql)',
  },
  {
    says: /SUPER|SET USER|SET_USER_ID|SET_ANY_DEFINER/,
    hint: 'its views, triggers, routines or events belong to other users: load it as a user with the right SUPER or SET USER (MySQL: SET_ANY_DEFINER)',
  },
  {
    says: /ERROR 1100/,
    hint: 'a dump of an older sealift locks out the sequence that a table takes its numbers from: restore it to a file (--to), drop the lines LOCK TABLES and UNLOCK TABLES, and load it by hand',
  },
  {
    says: /ERROR 1525 .*Incorrect row_(start|end) value/,
    hint: 'a row of a versioned table was made and removed in one moment, as by one trigger, and the server takes no such history: restore it to a file (--to), take out the lines of those rows, whose two last times are the same, and load it by hand',
  },
  {
    says: refersToOther,
    hint: 'it is about what is not there: load the other database first; two that need each other go through --to and, in turn, twice, through mariadb --force',
  },
  {
    says: /max_allowed_packet|ERROR 1153/,
    hint: 'let the server take longer statements: SET GLOBAL max_allowed_packet = 1073741824',
  },
  {
    says: /ERROR (2006|2013)/,
    hint: 'is the server still running? It also ends the connection over a longer statement than it takes: SET GLOBAL max_allowed_packet = 1073741824',
  },
  {
    says: /Unknown collation|Unknown character set/,
    hint: 'the server is older than the one that was saved, or of another maker',
  },
];

async function readThrough(target: Target): Promise<void> {
  for await (const _ of wholeDump(target));
}

/** The client does not notice that a dump is cut off: it has an end of its own. */
async function* wholeDump({ server, dump, lowerCase }: Target): AsyncGenerator<Uint8Array, void, void> {
  try {
    const whole = withEvidence(dump.open(), dump.file, { begins: dumpBegins, ends: dumpEnds });
    yield* lowerCase
      ? withoutTwins(whole, twinsOn(server, `the tables, views or sequences of ${dump.file}`))
      : whole;
  } catch (error) {
    if (!(error instanceof SealiftError) || !['source-damaged', 'source-empty'].includes(error.code))
      throw error;
    throw new SealiftError('restore-failed', `${dump.file} is not a whole dump of MariaDB or MySQL`, {
      cause: error,
    });
  }
}

/** The dump program tells of each table, sequence, and view before it is one, between lines that a routine hardly has. */
function withoutTwins(
  dump: AsyncIterable<Uint8Array>,
  refuseTwin: (name: string) => void,
): AsyncGenerator<Uint8Array, void, void> {
  return changed(dump, '\n--\n-- ', (line) => {
    const [, name] = / structure for (?:table |view )?`(.*)`/.exec(line) ?? [];
    if (name !== undefined) refuseTwin(Buffer.from(name, 'latin1').toString());
    return line;
  });
}

/** Where names in any case are one, throws for the second of them, which would take the place of the first. */
function twinsOn(server: Server, what: string): (name: string) => void {
  const known = new Map<string, string>();
  return (name) => {
    const twin = known.get(inAnyCase(name)) ?? name;
    known.set(inAnyCase(name), name);
    if (twin === name) return;
    throw new SealiftError(
      'restore-failed',
      `${what} ${JSON.stringify(twin)} and ${JSON.stringify(name)} are one to ${describe(server)}, where names are the same in any case`,
      { hint: 'load into a server with lower_case_table_names = 0, as the saved one had' },
    );
  };
}

/**
 * What loads the dump into a database of that name. By the name of the database the dump changes its character set, where
 * a routine or trigger was made under another, tells of sequences that columns take numbers from, and of what views read,
 * where their definer is gone or they read another database, too. The line about the client's sandbox, which is on anyway,
 * is left out, because older clients do not understand it.
 */
async function* renamed(target: Target): AsyncGenerator<Uint8Array, void, void> {
  const { name } = target;
  const original = databaseOf(target.dump.file);
  yield Buffer.from(plainSession + patientSession);
  const body = changed(wholeDump(target), sandboxLine, () => '', { limit: 1 });
  if (original === name) return yield* body;
  const [from, to] = [inLatin1(quoted(original)), inLatin1(quoted(name))];
  const about = `\nALTER DATABASE ${quoted(original)} CHARACTER SET `;
  const elsewhere = changed(body, about, (line) => line.replace(from, () => to));
  const withSequences = changed(elsewhere, '\n  `', (line) =>
    line.replaceAll(ofSequence, (whole, call?: string, database?: string) =>
      database === from ? call + to : whole,
    ),
  );
  const end = ' */;\n';
  yield* changed(withSequences, '\n/*!50001 VIEW `', (view) => viewOf(view, from, to), { end });
}

/** By itself a server may give up a client that has nothing to say for as long as a store is waited for. */
const patientSession = 'SET SESSION wait_timeout = 86400;\n';

const inLatin1 = (text: string): string => Buffer.from(text).toString('latin1');

/** Texts match too, to be left alone. */
const ofSequence = new RegExp(`((?:next|last|set)val\\()(${inQuotes})(?=\\.)|${inQuotes}`, 'g');

const inBackticks = '`(?:[^`]|``)*`';

/** Of a view: names and texts, where a parenthesis opens, with the function before it, or closes, and words. */
const viewParts = new RegExp(
  `(${inBackticks})(?=\\.${inBackticks}([.(]?))|${inQuotes}|(\\w*)\\(|\\)|\\w+`,
  'g',
);

/**
 * The view with the one database in place of the other: in the whole name of a column, in that of a function or a sequence,
 * and in that of a table behind `from` and `join`. Elsewhere a name of two parts begins with a table, as behind the
 * `from` of `extract(year from ...)`.
 */
function viewOf(view: string, from: string, to: string): string {
  const open: string[] = [];
  let isOfDatabase = false;
  return view.replaceAll(viewParts, (part, name?: string, behind?: string, opening?: string) => {
    const isRenamed = name === from && (behind !== '' || isOfDatabase);
    if (opening !== undefined) open.push(opening);
    if (part === ')') open.pop();
    // Parentheses may stand before a table.
    if (opening !== '')
      isOfDatabase =
        /^((straight_)?join|(next|last|set)val\()$/.test(part) ||
        (part === 'from' && !/trim|^extract$/.test(open.at(-1) ?? ''));
    return isRenamed ? to : part;
  });
}

/** Longer than anything that is changed. */
const changeLimitBytes = 2 ** 20;

/** Changes what begins with a text, from there to the end of the line or another text, at most so many times. Bytes are characters. */
async function* changed(
  body: AsyncIterable<Uint8Array>,
  begin: string,
  change: (line: string) => string,
  { limit = Infinity, end: until = '\n' } = {},
): AsyncGenerator<Uint8Array, void, void> {
  const wanted = Buffer.from(begin);
  let rest: Buffer = Buffer.alloc(0);
  let left = limit;
  for await (const chunk of body) {
    if (left === 0 && rest.length === 0) {
      yield chunk;
      continue;
    }
    const bytes = Buffer.concat([rest, chunk]);
    let start = 0;
    let at = bytes.indexOf(wanted);
    for (; at !== -1 && left > 0; at = bytes.indexOf(wanted, start), left--) {
      const end = bytes.indexOf(until, at + wanted.length - 1);
      if (end === -1) break;
      yield bytes.subarray(start, at);
      yield Buffer.from(change(bytes.toString('latin1', at, end)), 'latin1');
      start = end;
    }
    const isCut = at !== -1 && bytes.length - at < changeLimitBytes;
    const passed = isCut ? at : Math.max(start, bytes.length - wanted.length + 1);
    const keep = left === 0 ? bytes.length : passed;
    yield bytes.subarray(start, keep);
    rest = bytes.subarray(keep);
  }
  yield rest;
}
