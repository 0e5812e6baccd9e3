import { SealiftError } from '../errors.ts';
import { feedProcess, ToolFailure } from '../process.ts';
import {
  ask,
  describe,
  explain,
  inAnyCase,
  literal,
  type Maker,
  makerOf,
  plainSession,
  quoted,
  type Server,
  sqlCommand,
} from './mysql-connection.ts';
import { readSmall, smallBodyBytes } from './small-body.ts';

/**
 * Users, roles and grants as SQL, which both makers' servers give by SHOW CREATE USER and SHOW GRANTS: mariadb-dump can
 * write users, mysqldump cannot, and neither knows the other's. First what makes the accounts, then what they may do.
 */

/** Accounts that the server makes itself, and that nobody can log in to. */
const ownAccounts = ['mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema'];

/** In quotes: a name, or a text. */
export const name = "`(?:[^`]|``)*`|'(?:[^'\\\\]|''|\\\\[^])*'";
const outsideQuotes = (statement: string): string => statement.replace(new RegExp(name, 'g'), '');
const account = `(?:PUBLIC|(?:${name})(?:@(?:${name}))?)`;

interface Account {
  readonly user: string;
  readonly host: string;
  readonly isRole: boolean;
}

export async function* saveUsers(
  server: Server,
  maker: Maker,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const accounts = (await accountsOf(server, maker, signal)).filter(
    ({ user }) => !ownAccounts.includes(user),
  );
  const users = accounts.filter(({ isRole }) => !isRole);
  const roles = accounts.filter(({ isRole, user }) => isRole && user !== 'PUBLIC');
  const asking = (query: string, of: readonly Account[]) =>
    statementsOf(
      server,
      of.map((one) => `${query} ${nameOf(one)}`),
      signal,
    );

  const made = [
    ...roles.map(({ user }) => `CREATE ROLE IF NOT EXISTS ${quoted(user)}`),
    ...(await asking('SHOW CREATE USER', users)).map(creation),
  ];
  const given = (await asking('SHOW GRANTS FOR', accounts))
    .map(withoutPassword)
    .filter((one) => !saysNothing.test(one));
  if (maker === 'MySQL') given.push(...(await defaultRoles(server, signal)));
  const statements = [...new Set(["SET SESSION sql_mode = ''", ...made, ...given])];
  const lines = statements.map((statement) => `${statement};\n`);
  const literally = maker === 'MySQL' && (await partialRevokes(server, signal)) === 'ON';
  yield Buffer.from(
    `-- Users and grants of a ${maker} server${literally ? withPartialRevokes : ''}\n${lines.join('')}-- Users and grants complete\n`,
  );
}

const withPartialRevokes = ' with partial_revokes';

const accountsOf = async (server: Server, maker: Maker, signal: AbortSignal): Promise<Account[]> => {
  const isRole = maker === 'MariaDB' ? 'is_role' : "'N'";
  const rows = await ask(
    server,
    `SELECT user, host, ${isRole} FROM mysql.user ORDER BY HEX(user), HEX(host)`,
    signal,
  );
  return rows.map(([user = '', host = '', role]) => ({ user, host, isRole: role === 'Y' }));
};

const nameOf = ({ user, host, isRole }: Account): string =>
  isRole ? quoted(user) : `${literal(user)}@${literal(host)}`;

async function statementsOf(
  server: Server,
  queries: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  if (queries.length === 0) return [];
  // MySQL's newer hashes are bytes, and are lost on the way unless it writes them as hexadecimal.
  const sql = [
    '/*!80017 SET SESSION print_identified_with_as_hex = 1 */',
    'SET SESSION sql_quote_show_create = 1',
    ...queries,
  ].join(';\n');
  return (await ask(server, sql, signal)).map(([statement = '']) => statement);
}

/** Outside of quotes: a comment of the account may read like it. A quote ends where no second one follows. */
const namesDefaultRoles = new RegExp(
  `^((?:[^\`']|(?:${name})(?![\`']))*?) DEFAULT ROLE ${account}(?:,${account})*(?= REQUIRE )`,
);

/** MySQL names the default roles there, before they exist; they come at the end. */
const creation = (statement: string): string =>
  statement.replace(namesDefaultRoles, '$1').replace(/^CREATE USER /, 'CREATE USER IF NOT EXISTS ');

/** MariaDB repeats in the grant how an account logs in; for one that exists, that would change its password. */
function withoutPassword(statement: string): string {
  const [, grant, more = ''] =
    new RegExp(`^(GRANT [A-Z_, ]+ ON \\*\\.\\* TO ${account})( [^]*)?$`).exec(statement) ?? [];
  if (grant === undefined) return statement;
  return outsideQuotes(more).includes('GRANT OPTION') ? `${grant} WITH GRANT OPTION` : grant;
}

const saysNothing = new RegExp(`^GRANT USAGE ON \\*\\.\\* TO ${account}$`);

async function defaultRoles(server: Server, signal: AbortSignal): Promise<string[]> {
  const query = `SELECT user, host, default_role_user, default_role_host FROM mysql.default_roles d
    WHERE EXISTS (SELECT 1 FROM mysql.role_edges e WHERE e.to_user = d.user AND e.to_host = d.host
      AND e.from_user = d.default_role_user AND e.from_host = d.default_role_host) ORDER BY 1, 2, 3, 4`;
  const byUser = Object.groupBy(
    await ask(server, query, signal),
    ([user = '', host = '']) => `${literal(user)}@${literal(host)}`,
  );
  return Object.entries(byUser).map(([user, rows = []]) => {
    const roles = rows.map(([, , role = '', host = '']) => `${literal(role)}@${literal(host)}`);
    return `SET DEFAULT ROLE ${roles.join(', ')} TO ${user}`;
  });
}

/** What a saved `users.sql` holds. */
export interface SavedUsers {
  readonly accounts: readonly string[];
  readonly grants: readonly string[];
  /** The setting of the server that they are of. */
  readonly partialRevokes: boolean;
}

/**
 * Takes the text apart. It is as honest as the host that made it: nothing is let through but statements that make users
 * and give rights, so that a snapshot cannot pass off other SQL as its users.
 */
export async function readUsers(body: AsyncIterable<Uint8Array>): Promise<SavedUsers> {
  const bytes = await readSmall(body);
  if (bytes === undefined) throw refused(`more than ${smallBodyBytes} bytes`);
  const sql = bytes.toString('utf8');
  const statements = sqlStatements(sql).map(allowed);
  const accounts: string[] = [];
  for (const one of statements)
    if (one.startsWith('CREATE ')) accounts.push(one);
    else if (one.startsWith('ALTER ')) accounts.push(`${accounts.pop() ?? ''};\n${one}`);
  return {
    partialRevokes: sql.split('\n', 1)[0]!.endsWith(withPartialRevokes),
    accounts,
    grants: statements.filter((one) => /^(GRANT|REVOKE|SET DEFAULT) /.test(one)),
  };
}

const harmless = [
  new RegExp(`^CREATE (USER|ROLE) IF NOT EXISTS ${account}( |$)`),
  // MariaDB tells of a password that is expired, and would expire, in two statements.
  new RegExp(`^ALTER USER ${account} PASSWORD EXPIRE (NEVER|INTERVAL \\d+ DAY)$`),
  /^(GRANT|REVOKE) /,
  /^SET DEFAULT ROLE /,
  /^SET SESSION sql_mode = ''$/,
];

function allowed(statement: string): string {
  if (harmless.some((pattern) => pattern.test(statement))) return statement;
  throw refused(`"${statement.slice(0, 30)}"`);
}

const refused = (what: string): SealiftError =>
  new SealiftError(
    'restore-failed',
    `the snapshot holds SQL among its users that is not written there: ${what}`,
    { hint: 'restore it to a file (--to) and look at it before a server does' },
  );

const tokens =
  /(?<comment>-- [^\n]*\n)|(?<end>;)|(?<other>'(?:[^'\\]|''|\\[^])*'|`(?:[^`]|``)*`|[\w\u0080-\uffff]+|[ \n]+|[*.,@()=-](?!-))/y;

/** The statements of a text that `saveUsers` made. What could be read in two ways is refused. */
function sqlStatements(sql: string): string[] {
  const found: string[] = [];
  let statement = '';
  tokens.lastIndex = 0;
  while (tokens.lastIndex < sql.length) {
    const at = tokens.lastIndex;
    const { groups } = tokens.exec(sql) ?? {};
    if (groups === undefined) throw refused(JSON.stringify(sql.slice(at, at + 20)));
    statement += groups['other'] ?? '';
    if (groups['end'] === undefined) continue;
    found.push(statement.trim());
    statement = '';
  }
  if (statement.trim() !== '' || !sql.endsWith('-- Users and grants complete\n')) throw refused('no end');
  return found;
}

/**
 * Throws `restore-failed`, before anything is loaded, where this server would give wider rights than the saved one,
 * takes no hashes, or knows no way in for an account.
 */
export async function checkUsers(server: Server, saved: SavedUsers, signal: AbortSignal): Promise<void> {
  const narrowed = saved.grants.flatMap((statement) => narrowedFor(statement, saved.partialRevokes) ?? []);
  const setting = narrowed.length === 0 ? 'ON' : await partialRevokes(server, signal);
  if (setting !== 'ON')
    throw new SealiftError(
      'restore-failed',
      `${describe(server)} has no partial_revokes, as the saved one had, and would give wider rights to ${[...new Set(narrowed)].join(', ')}`,
      { hint: 'give it that setting, and load again: SET PERSIST partial_revokes = ON' },
    );
  await checkTakesHashes(server, saved, signal);
  const ways = saved.accounts.flatMap((statement) =>
    waysIn(statement).map((plugin) => ({ login: loginOf(statement), plugin })),
  );
  if (ways.length === 0) return;
  const query = `SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'AUTHENTICATION' AND plugin_status = 'ACTIVE'`;
  const there = (await ask(server, query, signal)).map(([plugin = '']) => plugin);
  const closed = ways.filter(({ plugin }) => !there.includes(plugin));
  if (closed.length === 0) return;
  const missing = new Set(closed.map(({ plugin }) => plugin));
  throw new SealiftError(
    'restore-failed',
    `${describe(server)} has no ${[...missing].join(', ')}, by which there log in: ${closed.map(({ login }) => login).join(', ')}`,
    { hint: 'install what is missing, or load single databases: a database in the URL leaves users alone' },
  );
}

/** What is used is a hash, but for plugins that know no passwords of their own. */
const usesHash = / BY PASSWORD | (?!(?:pam|gssapi|unix_socket) )\w+ USING /;

/** A MariaDB server that checks passwords refuses hashes, which it cannot check; of an account that exists without a word why. */
async function checkTakesHashes(
  server: Server,
  { accounts }: SavedUsers,
  signal: AbortSignal,
): Promise<void> {
  const hashed = accounts.filter((statement) => usesHash.test(outsideQuotes(statement)));
  if (hashed.length === 0) return;
  const query = `SHOW GLOBAL VARIABLES WHERE variable_name = 'strict_password_validation' AND value = 'ON';
    SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE'`;
  const [strict, checking] = await ask(server, query, signal);
  if (strict?.[0] !== 'strict_password_validation' || checking === undefined) return;
  throw new SealiftError(
    'restore-failed',
    `${describe(server)} checks passwords (${checking[0]}), and takes no accounts with hashes of them`,
    { hint: 'SET GLOBAL strict_password_validation = OFF for as long as the load takes' },
  );
}

const wayOfMysql = new RegExp(`^CREATE USER IF NOT EXISTS ${account} IDENTIFIED WITH '([^']*)'`);
const waysOfMariadb = / IDENTIFIED VIA (\w+(?: USING )?(?: OR \w+(?: USING )?)*)/;

/** The plugins by which an account logs in. */
function waysIn(creation: string): string[] {
  const [, plugin] = wayOfMysql.exec(creation) ?? [];
  if (plugin !== undefined) return [plugin];
  const [, plugins] = waysOfMariadb.exec(outsideQuotes(creation)) ?? [];
  return plugins?.split(' OR ').map((one) => one.replace(' USING ', '')) ?? [];
}

const aboutOneDatabase = new RegExp(`^GRANT [^']*? ON (${name})\\.\\* TO (${name})@(${name})(?: |$)`);
const aboutAPart = new RegExp(`^REVOKE [^]* FROM (${name})@(${name})$`);

/** The account whose right reaches further without partial_revokes: there, `_` and `%` stand for themselves. */
function narrowedFor(statement: string, literally: boolean): string | undefined {
  const [revoked, fromUser = '', fromHost = ''] = aboutAPart.exec(statement) ?? [];
  if (revoked !== undefined) return `${unquote(fromUser)}@${unquote(fromHost)}`;
  const [given, database = '', user = '', host = ''] = aboutOneDatabase.exec(statement) ?? [];
  const isPattern = /(^|[^\\])[_%]/.test(unquote(database));
  return given !== undefined && literally && isPattern ? `${unquote(user)}@${unquote(host)}` : undefined;
}

async function partialRevokes(server: Server, signal: AbortSignal): Promise<string | undefined> {
  const [[, setting] = []] = await ask(server, "SHOW GLOBAL VARIABLES LIKE 'partial_revokes'", signal);
  return setting;
}

/** Makes the accounts, and gives those that exist the saved properties. The login itself keeps its own. */
export async function makeAccounts(
  server: Server,
  { accounts }: SavedUsers,
  signal: AbortSignal,
): Promise<string[]> {
  const query = `SELECT 'is', user, host FROM mysql.user UNION ALL SELECT 'me', CURRENT_USER(), ''`;
  const rows = await ask(server, query, signal);
  const there = new Set(
    rows.flatMap(([what, user = '', host = '']) => (what === 'is' ? [`${user}@${host}`] : [])),
  );
  const me = rows.find(([what]) => what === 'me')?.[1];
  const lines: string[] = [];
  const wanted = accounts.flatMap((statement) => {
    const login = loginOf(statement);
    if (login === undefined || !there.has(login)) return [statement];
    if (login !== me && hasSeveralFactors(statement)) {
      lines.push(
        `user ${login} stays as it is here: it logs in by several factors, which cannot be altered at once`,
      );
      return [];
    }
    if (login !== me) return [`${alteration(statement)};\n${withoutTheOthers(statement)}`];
    lines.push(`user ${login} keeps its password: this restore is logged in as it`);
    return [];
  });
  await run(server, wanted, signal);
  return [...lines, `users and roles loaded (${wanted.length} of ${accounts.length})`];
}

const hasSeveralFactors = (creation: string): boolean =>
  outsideQuotes(creation).includes(' AND IDENTIFIED WITH ');

/** In MySQL, a method of logging in that is altered without its `AS` makes the password expire. */
const alteration = (creation: string): string =>
  creation
    .replace(/^CREATE USER IF NOT EXISTS /, 'ALTER USER ')
    .replace(new RegExp(`^ALTER USER ${account} IDENTIFIED WITH '[^']*'(?! AS )`), "$& AS ''");

/** What is so where a statement that makes a user does not speak of it. */
const defaults: Readonly<Record<string, string>> = {
  REQUIRE: 'REQUIRE NONE',
  MAX_QUERIES_PER_HOUR: 'MAX_QUERIES_PER_HOUR 0',
  MAX_UPDATES_PER_HOUR: 'MAX_UPDATES_PER_HOUR 0',
  MAX_CONNECTIONS_PER_HOUR: 'MAX_CONNECTIONS_PER_HOUR 0',
  MAX_USER_CONNECTIONS: 'MAX_USER_CONNECTIONS 0',
  MAX_STATEMENT_TIME: '/*M!100101 MAX_STATEMENT_TIME 0 */',
  ACCOUNT: '/*M!100403 ACCOUNT UNLOCK */',
  'PASSWORD EXPIRE': '/*M!100403 PASSWORD EXPIRE DEFAULT */',
  FAILED_LOGIN_ATTEMPTS: '/*!80019 FAILED_LOGIN_ATTEMPTS 0 */',
  PASSWORD_LOCK_TIME: '/*!80019 PASSWORD_LOCK_TIME 0 */',
};

/** Takes the properties from an account that is there which the saved one has not. */
function withoutTheOthers(creation: string): string {
  const said = outsideQuotes(creation);
  const unsaid = Object.entries(defaults).flatMap(([what, text]) =>
    said.includes(` ${what}`) ? [] : [text],
  );
  const [, whose] = new RegExp(`^CREATE USER IF NOT EXISTS (${account})`).exec(creation) ?? [];
  return `ALTER USER ${whose} ${unsaid.join(' ').replace('MAX_', 'WITH MAX_')}`;
}

/** `user@host` of a statement that makes a user. */
function loginOf(statement: string): string | undefined {
  const parts = new RegExp(`^CREATE USER IF NOT EXISTS (${name})@(${name})`).exec(statement);
  return parts === null ? undefined : `${unquote(parts[1]!)}@${unquote(parts[2]!)}`;
}

const unquote = (text: string): string =>
  text.startsWith('`')
    ? text.slice(1, -1).replaceAll('``', '`')
    : text.slice(1, -1).replace(/\\([^])|'(')/g, '$1$2');

/**
 * Gives the rights, once the tables and routines are there that some are about. What cannot be given is named and left
 * out: rights on what is not there, PROXY by a login that has it not itself (as root has, and no other by ALL), and in
 * MariaDB roles that were there before and that the login is no admin of.
 */
export async function giveGrants(
  server: Server,
  { grants }: SavedUsers,
  signal: AbortSignal,
): Promise<string[]> {
  const { isThere, proxies, givableRoles, privileges } = await whatCanBeGiven(server, signal);
  const unknown = new Set<string>();
  const missing = new Set<string>();
  const foreign = new Set<string>();
  const known = grants.flatMap((statement) => {
    const [, list] = dynamicRights.exec(statement) ?? [];
    if (list === undefined || privileges === undefined) return [statement];
    const rights = list.split(',');
    const left = rights.filter((right) => privileges.has(right));
    for (const right of rights) if (!left.includes(right)) unknown.add(right);
    return left.length === 0 ? [] : [statement.replace(list, left.join(','))];
  });
  const wanted = known.filter((statement) => {
    const [, routine, database, object] = aboutAnObject.exec(statement) ?? [];
    const called = object && (routine === undefined ? unquote(object) : inAnyCase(unquote(object)));
    const whole = database && called && `${unquote(database)}.${called}`;
    if (whole !== undefined && !isThere(whole)) {
      missing.add(whole);
      return false;
    }
    if (statement.startsWith('GRANT PROXY ') && !proxies) {
      foreign.add('PROXY');
      return false;
    }
    const [, given, standard] = aboutARole.exec(statement) ?? [];
    const role = given ?? standard;
    if (role === undefined || givableRoles?.has(unquote(role)) !== false) return true;
    foreign.add(unquote(role));
    return false;
  });
  await run(server, wanted, signal);
  const notes = [
    `grants loaded (${wanted.length} of ${grants.length})`,
    missing.size === 0 ? '' : `none on what is not there: ${[...missing].join(', ')}`,
    unknown.size === 0 ? '' : `none that this server does not know: ${[...unknown].join(', ')}`,
    foreign.size === 0 ? '' : `none that this login is not allowed to pass on: ${[...foreign].join(', ')}`,
  ];
  return [notes.filter((note) => note !== '').join('; ')];
}

/** MySQL writes them apart from the others, without a space between. */
const dynamicRights = /^GRANT ([A-Z_]+(?:,[A-Z_]+)*) ON \*\.\* TO /;

const aboutAnObject = new RegExp(
  `^(?:GRANT|REVOKE) [^']*? ON (?:TABLE |(FUNCTION |PROCEDURE |PACKAGE (?:BODY )?))?(${name})\\.(${name}) (?:TO|FROM) `,
);

const aboutARole = new RegExp(`^(?:GRANT (${name}) TO |SET DEFAULT ROLE (${name}) FOR )`);

async function whatCanBeGiven(
  server: Server,
  signal: AbortSignal,
): Promise<{
  /** Whether there is such a table, or a routine of that name in small letters: to servers, its case does not matter. */
  isThere: (whole: string) => boolean;
  proxies: boolean;
  givableRoles: Set<string> | undefined;
  privileges: Set<string> | undefined;
}> {
  const [[version = '', lowerCase = ''] = [], ...rows] = await ask(
    server,
    `SELECT VERSION(), @@lower_case_table_names;
     SELECT table_schema, table_name FROM information_schema.tables
      UNION ALL SELECT routine_schema, LOWER(routine_name) FROM information_schema.routines`,
    signal,
  );
  const own = await ask(server, 'SHOW GRANTS', signal);
  const proxying = /^GRANT PROXY ON (``@`%`|''@'%'|``@``|''@'') TO .* WITH GRANT OPTION$/s;
  const query = `SELECT role_name FROM information_schema.applicable_roles WHERE is_grantable = 'YES'`;
  const isMariadb = makerOf(version) === 'MariaDB';
  const roles = isMariadb ? await ask(server, query, signal) : undefined;
  const privileges = isMariadb ? undefined : await ask(server, 'SHOW PRIVILEGES', signal);
  const asHere = (whole: string) => (lowerCase === '0' ? whole : inAnyCase(whole));
  const objects = new Set(rows.map((row) => asHere(row.join('.'))));
  return {
    isThere: (whole) => objects.has(asHere(whole)),
    proxies: own.some(([row = '']) => proxying.test(row)),
    privileges: privileges && new Set(privileges.map(([privilege = '']) => privilege.toUpperCase())),
    givableRoles: roles && new Set(roles.map(([role = '']) => role)),
  };
}

async function run(server: Server, statements: readonly string[], signal: AbortSignal): Promise<void> {
  const sql = plainSession + statements.map((statement) => `${statement};\n`).join('');
  try {
    await feedProcess(sqlCommand(server), [Buffer.from(sql)], signal);
  } catch (error) {
    throw withoutStatement(explain(error, server));
  }
}

const cut = (text: string): string => text.replace(/ near '[^]*/, ' (the statement is not shown)');

/** A syntax error quotes the statement from where it fails, which may hold the hash of a password. */
function withoutStatement(error: unknown): unknown {
  if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) return error;
  const { message, status, signal, stderr } = error.cause;
  const cause = new ToolFailure(message.split(' ', 1)[0]!, status, signal, cut(stderr));
  return new SealiftError(error.code, cut(error.message), { hint: error.hint, cause });
}
