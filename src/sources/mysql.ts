import type { MysqlConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { readProcess } from '../process.ts';
import { isAtLeast } from './at-least.ts';
import { withEvidence } from './evidence.ts';
import {
  ask,
  checkOptionFiles,
  clientOf,
  command,
  describe,
  dumpProgram,
  everyRow,
  explain,
  inAnyCase,
  literal,
  type Maker,
  makerOf,
  type Program,
  reach,
  type Server,
} from './mysql-connection.ts';
import { dumpBegins, dumpEnds, fileOf, usersFile } from './mysql-dump.ts';
import { Rights } from './mysql-rights.ts';
import { saveUsers } from './mysql-users.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * A MariaDB or MySQL server: `users.sql` (users, roles and grants) and one `.sql` per database, as the dump program
 * writes it, behind one statement that gives the database its character set.
 *
 * Each database is consistent in itself (one repeatable-read transaction), but for tables of engines that have no
 * transactions; two databases of one server are not saved at the same instant.
 */
export function mysqlSource(config: MysqlConfig, directories?: readonly string[]): Source {
  return { name: config.name, kind: 'mysql', streams: (context) => streams(config, context, directories) };
}

/** What belongs to the server itself. Users and grants, the only thing in there that is not its own, come by `users`. */
const ownDatabases = ['information_schema', 'performance_schema', 'sys', 'mysql'];

interface Facts {
  readonly maker: Maker;
  readonly version: string;
  readonly login: string;
  /** Names of databases are the same in any case. */
  readonly lowerCase: boolean;
  readonly rights: Rights;
  readonly databases: readonly Database[];
}

interface Database {
  readonly name: string;
  readonly characterSet: string;
  readonly collation: string;
  readonly comment: string;
}

async function streams(
  config: MysqlConfig,
  context: SourceContext,
  directories: readonly string[] | undefined,
): Promise<SourceStream[]> {
  const { signal } = context;
  const server = await reach(config, directories, context);
  const facts = await inspect(server, signal);
  const names = wanted(config, facts);
  if (names.length === 0)
    throw new SealiftError('source-empty', `${describe(server)} has no database to save`);

  const { maker, version } = facts;
  const program = await dumpProgram(server, maker, version, signal);
  await checkOptionFiles(server, program, signal);
  const dumpedBy = `${program.maker} ${program.version}`;
  await context.detail({ type: 'server', source: config.name, maker, version, dumpedBy });
  const there = facts.databases.filter(({ name }) => names.includes(name));
  const tables = await inspectTables(server, there, signal);
  for (const database of there) {
    const { count = 0, sizeBytes = 0 } = tables.sizes.get(database.name) ?? {};
    await context.detail({ type: 'database', source: config.name, ...database, tables: count, sizeBytes });
  }
  noteWhatIsNotConsistent(tables.unusual, program, context);
  noteWhatIsNotSeen(config, facts, there, context);

  const hasNumbered = (name: string) =>
    tables.unusual.some(({ database, byTransaction }) => database === name && byTransaction);
  const dumps = names.map((name): SourceStream => {
    const database = there.find((one) => one.name === name);
    return {
      file: fileOf(name),
      lacks: database
        ? undefined
        : [`there is no database ${JSON.stringify(name)} that the login ${facts.login} may see`],
      open: ({ signal }) => dump(server, maker, program, name, database, hasNumbered(name), signal),
    };
  });
  if (!config.users) return dumps;
  if (!facts.rights.has(['SELECT'], 'mysql')) {
    context.problem(
      'rights-missing',
      `users and grants of ${describe(server)} are not saved: the login ${facts.login} may not read them (GRANT SELECT ON mysql.*), or set users: false`,
    );
    return dumps;
  }
  return [{ file: usersFile, open: ({ signal }) => saveUsers(server, maker, signal) }, ...dumps];
}

/** What the server is and has. Throws `source-unavailable` if its dumps would lack rows without a word. */
async function inspect(server: Server, signal: AbortSignal): Promise<Facts> {
  const [[version = '', comment = '', login = '', lowerCase = '', rowLimit = ''] = [], ...grants] = await ask(
    server,
    'SELECT VERSION(), @@version_comment, CURRENT_USER(), @@lower_case_table_names, @row_limit; SHOW GRANTS',
    signal,
  );
  if (!/^\d+$/.test(rowLimit))
    throw new SealiftError(
      'config-invalid',
      `an option file of this machine changes how ${server.client.path} answers`,
      { hint: 'look for table, xml, verbose, tee and the like in [mysql] or [client]' },
    );
  if (rowLimit !== everyRow)
    throw new SealiftError(
      'source-unavailable',
      `${describe(server)} gives the login ${login} no more than ${rowLimit} rows, and a dump would end there`,
      { hint: 'SET GLOBAL sql_select_limit = DEFAULT, and take it out of init_connect' },
    );
  const maker = makerOf(`${version} ${comment}`);
  const hasComments = maker === 'MariaDB' && isAtLeast(version, 10, 5);
  const columns = `schema_name, default_character_set_name, default_collation_name, ${hasComments ? 'schema_comment' : "''"}`;
  const query = `SELECT ${columns} FROM information_schema.schemata ORDER BY HEX(schema_name)`;
  const rows = await ask(server, query, signal);
  return {
    maker,
    version: /^[\d.]*\d/.exec(version)?.[0] ?? version,
    login,
    lowerCase: lowerCase !== '0',
    rights: new Rights(grants.map(([row = '']) => row)),
    databases: rows
      .map(([name = '', characterSet = '', collation = '', comment = '']) => ({
        name,
        characterSet,
        collation,
        comment,
      }))
      // `#mysql50#` is how the server shows a folder that it did not make, such as lost+found.
      .filter(({ name }) => !ownDatabases.includes(name) && !name.startsWith('#mysql50#')),
  };
}

/** The databases to save, as the server calls them. A listed one that does not exist stays in: its stream fails when it is opened. */
function wanted({ databases, exclude }: MysqlConfig, facts: Facts): string[] {
  const there = facts.databases.map(({ name }) => name);
  const asCalled = (wanted: string) =>
    (facts.lowerCase && there.find((name) => inAnyCase(name) === inAnyCase(wanted))) || wanted;
  const excluded = exclude.map(asCalled);
  const names = databases === 'all' ? there : databases.map(asCalled);
  return [...new Set(names)].filter((name) => !excluded.includes(name));
}

interface UnusualTable {
  readonly database: string;
  readonly name: string;
  readonly engine: string;
  readonly versioned: boolean;
  /** Its history goes by the numbers of transactions, not by time. */
  readonly byTransaction: boolean;
}

/** The sizes as the server estimates them, and the tables that a dump does not give back as they were at one instant. */
async function inspectTables(
  server: Server,
  databases: readonly Database[],
  signal: AbortSignal,
): Promise<{ sizes: Map<string, { count: number; sizeBytes: number }>; unusual: UnusualTable[] }> {
  if (databases.length === 0) return { sizes: new Map(), unusual: [] };
  const among = `t.table_schema IN (${databases.map(({ name }) => literal(name)).join(', ')})`;
  const real = `t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')`;
  const rows = await ask(
    server,
    `SELECT 'sizes', t.table_schema, COUNT(*), COALESCE(SUM(t.data_length + t.index_length), 0)
       FROM information_schema.tables t WHERE ${among} AND ${real} GROUP BY t.table_schema, HEX(t.table_schema);
     SELECT 'unusual', t.table_schema, t.table_name, t.engine, t.table_type = 'SYSTEM VERSIONED'
       FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
      WHERE ${among} AND ${real} AND (COALESCE(e.transactions, 'NO') <> 'YES' OR t.table_type = 'SYSTEM VERSIONED')
      ORDER BY HEX(t.table_schema), HEX(t.table_name)`,
    signal,
  );
  const numbered = rows.some((row) => row[4] === '1') ? await numberedTables(server, among, signal) : [];
  const sizes = new Map<string, { count: number; sizeBytes: number }>();
  const unusual: UnusualTable[] = [];
  // To these tables, names that differ in case or accents alone are the same.
  for (const [what, database = '', ...more] of rows.filter((row) =>
    databases.some(({ name }) => name === row[1]),
  ))
    if (what === 'sizes') sizes.set(database, { count: Number(more[0]), sizeBytes: Number(more[1]) });
    else {
      const [name = '', engine = '', versioned] = more;
      const byTransaction = numbered.some((one) => one.database === database && one.name === name);
      unusual.push({ database, name, engine, versioned: versioned === '1', byTransaction });
    }
  return { sizes, unusual };
}

async function numberedTables(
  server: Server,
  among: string,
  signal: AbortSignal,
): Promise<{ database: string; name: string }[]> {
  const rows = await ask(
    server,
    `SELECT t.table_schema, t.table_name FROM information_schema.columns t
      WHERE ${among} AND t.data_type = 'bigint' AND t.generation_expression = 'ROW START'`,
    signal,
  );
  return rows.map(([database = '', name = '']) => ({ database, name }));
}

/** More tables than this are counted, not named. */
const namedTables = 20;

function noteWhatIsNotConsistent(
  unusual: readonly UnusualTable[],
  program: Program,
  { problem }: SourceContext,
): void {
  for (const [database, tables = []] of Object.entries(Object.groupBy(unusual, (table) => table.database))) {
    const plain = tables.filter(({ versioned, engine }) => !versioned || engine !== 'InnoDB');
    if (plain.length > 0)
      problem(
        'not-consistent',
        `tables of database ${JSON.stringify(database)} whose engines have no transactions, so that changes during the dump may be in it in part: ${naming(plain)}`,
      );
    const versioned = tables.filter((table) => table.versioned);
    const numbered = versioned.filter(({ byTransaction }) => byTransaction);
    const readsIt = dumpsHistory(program);
    const why = !readsIt
      ? 'which only mariadb-dump 10.11 and newer reads'
      : `because mariadb-dump reads none that goes by transactions, as that of ${naming(numbered)}`;
    if (versioned.length > 0 && (!readsIt || numbered.length > 0))
      problem(
        'not-consistent',
        `tables of database ${JSON.stringify(database)} that are saved without their history, ${why}: ${naming(versioned)}`,
      );
  }
}

function naming(tables: readonly UnusualTable[]): string {
  const names = tables.slice(0, namedTables).map(({ name, engine }) => `${JSON.stringify(name)} (${engine})`);
  const more = tables.length - names.length;
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

const dumpsHistory = ({ maker, version }: Program): boolean =>
  maker === 'MariaDB' && isAtLeast(version, 10, 11);

/** What the dump program cannot see, it leaves out without a word. */
function noteWhatIsNotSeen(
  config: MysqlConfig,
  { rights, login }: Facts,
  databases: readonly Database[],
  { problem }: SourceContext,
): void {
  if (config.databases === 'all' && !rights.has(['SHOW DATABASES', 'SELECT']))
    problem(
      'rights-missing',
      `the login ${login} sees only databases that it has rights on (GRANT SHOW DATABASES ON *.*)`,
    );
  const readsRoutines = rights.has(['SELECT'], 'mysql') || rights.has(['SELECT']);
  for (const { name } of databases) {
    const unseen = [
      rights.has(['SELECT'], name) ? [] : ['tables (SELECT)'],
      rights.has(['TRIGGER'], name) ? [] : ['triggers (TRIGGER)'],
      readsRoutines || rights.has(seeingRoutines, name) ? [] : ['routines (SHOW CREATE ROUTINE)'],
    ].flat();
    if (unseen.length === 0) continue;
    problem(
      'rights-missing',
      `the dump of database ${JSON.stringify(name)} may lack what the login ${login} has no right to see: ${unseen.join(', ')}`,
    );
  }
}

/** With these alone a routine of somebody else is seen but not read, which fails the dump aloud. */
const seeingRoutines = ['SHOW CREATE ROUTINE', 'SHOW_ROUTINE', 'EXECUTE', 'ALTER ROUTINE', 'CREATE ROUTINE'];

const dumpOptions = [
  // These are the default; an option file may say otherwise.
  '--opt',
  // A locked table could not take numbers from its sequence.
  '--skip-add-locks',
  '--comments',
  '--quote-names',
  '--tz-utc',
  '--single-transaction',
  '--quick',
  '--routines',
  '--triggers',
  '--events',
  '--hex-blob',
  '--skip-dump-date',
  '--no-tablespaces',
  '--default-character-set=utf8mb4',
  '--max-allowed-packet=1G',
];

const makerOptions: Readonly<Record<Maker, readonly string[]>> = {
  MariaDB: ['--loose-dump-history'],
  // What an older server, or MariaDB, cannot answer, and what only its own replicas could use.
  MySQL: ['--loose-column-statistics=0', '--loose-set-gtid-purged=OFF'],
};

async function* dump(
  server: Server,
  maker: Maker,
  program: Program,
  name: string,
  database: Database | undefined,
  withoutHistory: boolean,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  await checkEvents(server, name, signal);
  const history = withoutHistory ? ['--loose-skip-dump-history'] : [];
  const options = [...dumpOptions, ...makerOptions[program.maker], ...history, '--', name];
  const what = `the dump of database ${JSON.stringify(name)}`;
  if (database !== undefined) yield Buffer.from(givesCharacterSet(database));
  try {
    yield* withEvidence(readProcess({ ...command(server, program, options), buffered: true }, signal), what, {
      begins: dumpBegins,
      ends: dumpEnds,
    });
  } catch (error) {
    const explained = explain(error, server, name);
    const foreign = program.maker !== maker && explained instanceof SealiftError;
    throw foreign ? sayingWhose(explained, maker, program) : explained;
  }
}

/** Throws `source-unavailable` for events that the dump programs of both makers never find a delimiter for. */
async function checkEvents(server: Server, database: string, signal: AbortSignal): Promise<void> {
  const texts = ['definer', 'event_name', 'event_comment', 'event_definition'];
  const holds = texts.map((text) => `${text} LIKE '%;;%'`).join(' OR ');
  const rows = await ask(
    server,
    `SELECT event_name FROM information_schema.events
      WHERE event_schema = ${literal(database)} AND (${holds}) ORDER BY HEX(event_name)`,
    signal,
  );
  if (rows.length === 0) return;
  const names = rows.map(([event]) => JSON.stringify(event)).join(', ');
  throw new SealiftError(
    'source-unavailable',
    `the dump of database ${JSON.stringify(database)} would never end, because ";;" is in its events ${names}`,
    { hint: "write it apart, as '; ;' or CONCAT(';', ';'): ALTER EVENT" },
  );
}

/** What a program does not know of the other maker's server, it may fail at without a word. */
function sayingWhose(error: SealiftError, maker: Maker, program: Program): SealiftError {
  if (error.hint !== undefined) return error;
  const hint = `the server is ${maker}, and ${program.path} is ${program.maker}'s: apt-get install ${clientOf[maker]}`;
  return new SealiftError(error.code, error.message, { hint, cause: error.cause });
}

/** Without a name it is about the database that is loaded into, whatever that is called. */
function givesCharacterSet({ characterSet, collation, comment }: Database): string {
  const about = comment === '' ? '' : ` COMMENT ${literal(comment)}`;
  return `ALTER DATABASE CHARACTER SET ${characterSet} COLLATE ${collation}${about};\n`;
}
