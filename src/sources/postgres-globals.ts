import { SealiftError } from '../errors.ts';
import { feedProcess } from '../process.ts';
import {
  anyProgram,
  ask,
  command,
  psqlEncoding,
  psqlOptions,
  psqlScript,
  type Server,
} from './postgres-connection.ts';
import { readSmall, smallBodyBytes } from './small-body.ts';

/**
 * Loads roles and tablespaces. psql would carry out commands for this machine (`\!`) that stand in its input, and a
 * snapshot is only as honest as the host that made it. So the text is taken apart first, and psql is given nothing but
 * statements that make or alter roles and tablespaces.
 *
 * Roles and tablespaces that exist are not made again; their properties and grants are set to what was saved. The
 * role that is logged in keeps its own properties, as its password may be the one this restore depends on.
 */
export async function loadGlobals(
  server: Server,
  database: string,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<string[]> {
  const text = await readSmall(body);
  if (text === undefined) throw refused(`more than ${smallBodyBytes} bytes`);
  const saved = sqlStatements(text.toString('latin1')).map(allowed);
  const there = (await ask(server, database, existing, signal)) as Existing;
  const lines: string[] = [];
  const wanted = saved.filter((statement) => {
    const [, verb, kind, name] =
      new RegExp(`^(CREATE|ALTER) (ROLE|TABLESPACE) (${identifier})`).exec(statement) ?? [];
    if (verb === undefined || name === undefined) return true;
    if (verb === 'CREATE') return !(kind === 'ROLE' ? there.roles : there.tablespaces).includes(nameIn(name));
    if (kind === 'TABLESPACE' || nameIn(name) !== there.me) return true;
    lines.push(`role ${there.me} keeps its password and properties: this restore is logged in as it`);
    return false;
  });

  const path = await anyProgram(server, 'psql');
  const atOnce = wanted.some((statement) => statement.startsWith('CREATE TABLESPACE'))
    ? []
    : ['--single-transaction'];
  // Terse: an error does not quote the statement, which may hold the hash of a password.
  const argv = [path, ...psqlOptions(server, database), ...atOnce, '--set=VERBOSITY=terse', '--file=-'];
  await feedProcess(command(server, argv, psqlEncoding), [Buffer.from(psqlScript(wanted), 'latin1')], signal);
  lines.push(`roles and tablespaces loaded (${wanted.length} of ${saved.length} statements)`);
  return [...new Set(lines)];
}

/** The text holds one byte per character. */
const nameIn = (identifier: string): string => Buffer.from(unquote(identifier), 'latin1').toString('utf8');

const identifier = '"(?:[^"]|"")+"|[^\\s";]+';

const existing = `
  SELECT json_build_object(
    'me', current_user,
    'roles', (SELECT json_agg(rolname) FROM pg_catalog.pg_roles),
    'tablespaces', (SELECT json_agg(spcname) FROM pg_catalog.pg_tablespace))`;

interface Existing {
  readonly me: string;
  readonly roles: string[];
  readonly tablespaces: string[];
}

const harmless = [
  /^(CREATE|ALTER) (ROLE|TABLESPACE) /,
  /^COMMENT ON (ROLE|TABLESPACE) /,
  /^SECURITY LABEL /,
  /^(GRANT|REVOKE) /,
  /^SET default_transaction_read_only = off$/,
  // Under the other setting a string would end elsewhere than it was taken to end.
  /^SET standard_conforming_strings = on$/,
  // Encodings in which no byte of a longer character looks like a quote or a backslash.
  /^SET client_encoding = '(UTF8|SQL_ASCII|LATIN\d+|ISO_8859_\d|WIN125\d|WIN866|WIN874|KOI8[RU]|EUC_\w+)'$/,
];

function allowed(statement: string): string {
  if (harmless.some((pattern) => pattern.test(statement))) return statement;
  throw refused(`"${statement.slice(0, 40)}"`);
}

const refused = (what: string) =>
  new SealiftError(
    'restore-failed',
    `the snapshot holds SQL that PostgreSQL's own programs do not write there: ${what}`,
    { hint: 'restore it to a file (--to) and look at it before psql does' },
  );

const tokens = new RegExp(
  [
    /(?<comment>--[^\n\r]*)/,
    /(?<meta>\\(?:restrict|unrestrict|connect|encoding)\b(?:"(?:[^"]|"")*"|[^"\n])*)/,
    /(?<end>;)/,
    /(?<space>[ \t\n\r\f\v]+)/,
    // As psql reads them: the letter before a quote counts only where it is no part of a longer word. Of a number and a
    // letter some versions make one word; of a colon and a name, a variable.
    /(?<other>[eE]'(?:[^'\\]|\\[^]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*|\d+(?:[eE][-+]?\d+)?(?![\w\u0080-\uffff])|-(?!-)|\/(?!\*)|[^\w\s\0\u0080-\uffff'"\\$;:/-])/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'y',
);

/**
 * The statements of a text that pg_dumpall or pg_restore made, each on one line, but for its strings. psql's own commands,
 * of which such a text holds a few, are left out. What could be read in two ways is refused.
 */
export function sqlStatements(sql: string): string[] {
  // psql's lines are those of C: one would end there.
  if (sql.includes('\0')) throw refused('a zero byte');
  const found: string[] = [];
  let statement = '';
  tokens.lastIndex = 0;
  while (tokens.lastIndex < sql.length) {
    const at = tokens.lastIndex;
    const { groups } = tokens.exec(sql) ?? {};
    if (groups === undefined) throw refused(JSON.stringify(sql.slice(at, at + 20)));
    // Two strings with a line break in between would be one, with the escapes of the first.
    statement += groups['space'] === undefined ? (groups['other'] ?? '') : ' ';
    if (groups['meta'] !== undefined && statement.trim() !== '') throw refused(groups['meta'].slice(0, 20));
    if (groups['end'] === undefined) continue;
    found.push(statement.trim());
    statement = '';
  }
  if (statement.trim() !== '') throw refused('an unfinished statement');
  return found;
}

/** The name that an identifier of such a text stands for. */
export function unquote(identifier: string): string {
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier;
}
