import { dirname, join } from 'node:path';
import type { Secret } from '../config/secrets.ts';
import { SealiftError } from '../errors.ts';
import { type Command, findProgram, output, searchPath, type SystemUser, systemUser } from '../process.ts';
import { isAtLeast } from './at-least.ts';
import { explained, type Explanation } from './explanation.ts';
import { writeSecretFile } from './secret-file.ts';
import type { Surroundings } from './source.ts';
import { type Tls, withTls } from './tls.ts';

/** How the programs of MariaDB or MySQL reach one server. */
export interface Server {
  /** A host name; undefined for a socket. */
  readonly host: string | undefined;
  /** The path of a socket; the system's usual one if there is neither. */
  readonly socket: string | undefined;
  readonly port: number | undefined;
  readonly user: string | undefined;
  /** A folder with the option file that holds the password. */
  readonly secretDir: string | undefined;
  readonly tls: (Tls & { readonly noOthersDir: string }) | undefined;
  readonly runAs: SystemUser | undefined;
  /** Where to look for the programs. */
  readonly directories: readonly string[];
  /** What statements are given to. */
  readonly client: Program;
}

export interface ServerAddress {
  /** A host name, or the path of a socket. */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
  readonly tls?: Tls | undefined;
  readonly runAs?: string | undefined;
}

/**
 * Lays down the password where only the programs can read it. Without one they log in as they would by hand: by the
 * `~/.my.cnf` of the user they run as, or by the socket, where Debian's server knows root.
 */
export async function reach(
  { host, port, user, password, tls, runAs: userName }: ServerAddress,
  directories: readonly string[] | undefined,
  around: Surroundings,
): Promise<Server> {
  const runAs = userName === undefined ? undefined : await systemUser(userName, around.signal);
  const secretDir =
    password === undefined
      ? undefined
      : dirname(await writeSecretFile(optionFile, optionFileText(password), runAs, around));
  // Authorities that an option file names a folder of would count beside ours.
  const noOthersDir = tls === undefined ? '' : await around.temporary();
  const isSocket = host?.startsWith('/') === true;
  const whereToLook = directories ?? searchPath();
  const [client] = await programs(whereToLook, 'client', around.signal);
  return {
    host: isSocket ? undefined : host,
    socket: isSocket ? host : undefined,
    port,
    user,
    secretDir,
    tls: tls && { ...tls, noOthersDir },
    runAs,
    directories: whereToLook,
    client,
  };
}

const optionFile = 'password.cnf';

/** https://mariadb.com/kb/en/configuring-mariadb-with-option-files/ */
function optionFileText(password: Secret): string {
  const text = password.reveal();
  if (/[\r\n\0]/.test(text))
    throw new SealiftError('config-invalid', 'a password for MariaDB or MySQL cannot hold a line break');
  // In quotes, because a bare # begins a comment.
  return `[client]\npassword="${text.replace(/[\\"]/g, '\\$&')}"\n`;
}

/** Whose server or program it is. They drift apart: neither maker's programs know all of the other's server. */
export type Maker = 'MariaDB' | 'MySQL';

export interface Program {
  readonly path: string;
  readonly maker: Maker;
  readonly version: string;
}

/** Under their new names first: the old ones are gone from newer MariaDB, or point to the new. */
const programNames = { client: ['mariadb', 'mysql'], dump: ['mariadb-dump', 'mysqldump'] } as const;

/** The programs that there are, the preferred first. Throws `tool-missing` if there is none. */
async function programs(
  directories: readonly string[],
  what: keyof typeof programNames,
  signal: AbortSignal,
): Promise<[Program, ...Program[]]> {
  const found = await Promise.all(
    programNames[what].map(async (name): Promise<Program | undefined> => {
      const path = await findProgram(name, directories);
      if (path === undefined) return undefined;
      const { stdout } = await output({ argv: [path, '--version'] }, signal);
      const version = /(?:Distrib|from) (\d+[.\w]*)/.exec(stdout) ?? /Ver (\d+[.\w]*)/.exec(stdout);
      return { path, maker: makerOf(stdout), version: version?.[1] ?? '0' };
    }),
  );
  const [first, ...others] = found.filter((program) => program !== undefined);
  if (first !== undefined) return [first, ...others];
  throw new SealiftError('tool-missing', `${programNames[what].join(' or ')} is not installed`, {
    hint: 'apt-get install mariadb-client',
  });
}

export const makerOf = (version: string): Maker => (version.includes('MariaDB') ? 'MariaDB' : 'MySQL');

/** The package with a maker's programs. */
export const clientOf: Readonly<Record<Maker, string>> = { MariaDB: 'mariadb-client', MySQL: 'mysql-client' };

/**
 * The dump program for a server: of the same maker if there is one. Throws `tool-too-old` for one that does not know
 * what such a server may hold, and would leave it out or fail half-way.
 */
export async function dumpProgram(
  server: Server,
  maker: Maker,
  serverVersion: string,
  signal: AbortSignal,
): Promise<Program> {
  const found = await programs(server.directories, 'dump', signal);
  const program = found.find((one) => one.maker === maker) ?? found[0];
  const install = clientOf[maker];
  if (maker === 'MariaDB' && program.maker === 'MySQL')
    throw new SealiftError(
      'tool-missing',
      `the server is MariaDB, but ${program.path} is MySQL's, which does not know its sequences and versioned tables`,
      { hint: `apt-get install ${install}` },
    );
  if (program.maker === maker && isMuchOlder(program.version, serverVersion))
    throw new SealiftError(
      'tool-too-old',
      `the server is ${maker} ${serverVersion}, but ${program.path} is ${program.version}`,
      { hint: `apt-get install ${install}, from the packages of ${maker} if Debian's is too old` },
    );
  return program;
}

const knowsSequences = (version: string): boolean => isAtLeast(version, 10, 3);

/** By more than one major version (5 and 8 are neighbours by name only), or from before MariaDB's sequences (10.3). */
const isMuchOlder = (program: string, server: string): boolean =>
  parseInt(program, 10) + 1 < parseInt(server, 10) || (knowsSequences(server) && !knowsSequences(program));

/** Encrypted, by a certificate of the server's that is for its host name. */
const checked: Readonly<Record<Maker, readonly string[]>> = {
  // A fingerprint in an option file would count instead.
  MariaDB: ['--ssl', '--ssl-verify-server-cert', '--loose-ssl-fp=', '--loose-ssl-fplist='],
  MySQL: ['--ssl-mode=VERIFY_IDENTITY'],
};

/** A program with the option files that it reads. */
function reading({ secretDir, runAs }: Server, program: Program): Command {
  if (secretDir === undefined) return { argv: [program.path], runAs };
  // A ~/.my.cnf is read after that file, and a password in it would win.
  const env = { HOME: secretDir };
  return { argv: [program.path, `--defaults-extra-file=${join(secretDir, optionFile)}`], env, runAs };
}

/** Of options that cut a dump or change its form: names, or what they begin with. */
const cutting = ['no-data', 'no-create-info', 'where', 'ignore-', 'as-of', 'databases', 'compatible'];

/** Throws `config-invalid` where an option file has the dump program leave something out, or write it otherwise. */
export async function checkOptionFiles(server: Server, program: Program, signal: AbortSignal): Promise<void> {
  const { argv, ...more } = reading(server, program);
  const { stdout } = await output({ ...more, argv: [...argv, '--print-defaults'] }, signal);
  const names = [...stdout.matchAll(/(?<=\s)--(?:loose-)?([\w-]+)/g)].map(([, name = '']) =>
    name.replaceAll('_', '-'),
  );
  // The program takes them cut short, too.
  const found = names.filter((name) => cutting.some((one) => name.startsWith(one) || one.startsWith(name)));
  if (found.length === 0) return;
  throw new SealiftError(
    'config-invalid',
    `an option file of this machine changes what ${program.path} dumps: ${found.map((name) => `--${name}`).join(' ')}`,
    { hint: 'remove it from [mysqldump] or [mariadb-dump] in ~/.my.cnf or /etc/mysql' },
  );
}

/** A call of one of the programs. What names the server comes first, as an option file has to. */
export function command(server: Server, program: Program, options: readonly string[]): Command {
  const { host, socket, port, user, tls } = server;
  const { argv: begin, ...more } = reading(server, program);
  const argv = [...begin];
  if (socket !== undefined) argv.push('--protocol=socket', `--socket=${socket}`);
  if (host !== undefined) argv.push(`--host=${host}`);
  // By itself, "localhost" would mean the socket, whatever the port.
  if (port !== undefined && socket === undefined) argv.push('--protocol=tcp', `--port=${port}`);
  if (user !== undefined) argv.push(`--user=${user}`);
  if (tls !== undefined)
    argv.push(...checked[program.maker], `--ssl-ca=${tls.ca}`, `--ssl-capath=${tls.noOthersDir}`);
  return { ...more, argv: [...argv, ...options] };
}

/**
 * A client that carries out nothing but SQL. Its own commands (`\!`, `system`, `source`) would start
 * programs and read files on this machine; in binary mode it knows none of them but `delimiter`.
 */
export function sqlCommand(server: Server, options: readonly string[] = []): Command {
  const { client } = server;
  return command(server, client, [
    '--batch',
    '--skip-column-names',
    '--binary-mode',
    '--skip-force',
    '--skip-safe-updates',
    // A statement may hold the hash of a password, or somebody's data, which belong into no message.
    ...(client.maker === 'MariaDB' ? ['--loose-sandbox', '--loose-skip-print-query-on-error'] : []),
    '--local-infile=0',
    '--no-auto-rehash',
    '--default-character-set=utf8mb4',
    '--connect-timeout=30',
    ...options,
  ]);
}

/** Of the variable `sql_select_limit`, its maximum. */
export const everyRow = '18446744073709551615';

/**
 * Comes before all else that is said to a server, whose own settings could change how strings are read, how names are
 * quoted, and how many rows there are: `@row_limit` keeps how many the login is given otherwise.
 */
export const plainSession = `SET @row_limit = @@SESSION.sql_select_limit;
SET SESSION sql_mode = '', sql_select_limit = ${everyRow};
`;

/** The rows that statements yield, one list of columns each. A NULL is the text `NULL`. */
export async function ask(server: Server, sql: string, signal: AbortSignal): Promise<string[][]> {
  try {
    const input = `${plainSession}${sql};\n`;
    const { stdout } = await output({ ...sqlCommand(server), input }, signal);
    return stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t').map(unescaped));
  } catch (error) {
    throw explain(error, server);
  }
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', '0': '\0', '\\': '\\' };
const unescaped = (field: string): string => field.replace(/\\([nt0\\])/g, (_, one: string) => escapes[one]!);

/** A name in a statement. */
export const quoted = (name: string): string => `\`${name.replaceAll('`', '``')}\``;

/** What names that differ in case alone have in common. A server looks at one letter at a time: no Σ becomes a ς. */
export const inAnyCase = (name: string): string =>
  Array.from(name, (letter) => Array.from(letter.toLowerCase())[0]).join('');

/** A string in a statement, where `sql_mode` is empty. */
export const literal = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;

const explanations: readonly Explanation[] = [
  {
    says: /(ERROR|error:) 1698(?!.* at line )|Access denied for user .*\(using password: NO\)/,
    code: 'source-denied',
    hint: 'no password was given: give one, or let the system user log in by the socket (runAs, unix_socket)',
  },
  {
    says: /Access denied for user .*\(using password: YES\)|ERROR 1130|is not allowed to connect/,
    code: 'source-denied',
    hint: 'check user, password and the host that the account is for',
  },
  {
    says: /insuffici?ent privileges to SHOW CREATE/,
    code: 'source-denied',
    hint: 'to read the routines of others, the login needs SELECT ON mysql.proc (MariaDB) or SHOW_ROUTINE (MySQL)',
  },
  {
    says: /Access denied|command denied/,
    code: 'source-denied',
    hint: 'the login lacks a right: a backup needs SELECT, SHOW VIEW, TRIGGER and EVENT, a restore ALL',
  },
  { says: /Unknown database/, code: 'source-unavailable' },
  {
    says: /ERROR 1819/,
    code: 'restore-failed',
    hint: 'the server checks passwords, and takes no account without a password: UNINSTALL PLUGIN (MySQL: COMPONENT) what checks them for as long as the load takes',
  },
  {
    says: /Table definition has changed|\(1412\)/,
    code: 'source-unavailable',
    hint: 'a table was altered during the dump, which its snapshot does not survive: run it again',
  },
  {
    says: /: View .* references invalid .*\(1356\)/,
    code: 'source-unavailable',
    hint: 'what the view reads is gone, or its definer may not read it, and the dump ends there: mend it by ALTER VIEW, or DROP VIEW',
  },
  {
    says: /Lost connection to (MySQL |MariaDB )?server during query when dumping/,
    code: 'source-unavailable',
    hint: 'was the server stopped, or the store slow? A server gives up a dump that is not read for net_write_timeout, 60 s by default: SET GLOBAL net_write_timeout = 3600',
  },
  {
    says: /Can't connect|Lost connection|gone away|Unknown (MySQL |MariaDB )?server host|server shutdown|(ERROR|error:) 200\d|Too many connections/,
    code: 'source-unavailable',
    hint: 'is the server running, and are host, port and socket right?',
  },
];

/** Of the programs of MariaDB and MySQL. */
export function explain(error: unknown, server: Server, database?: string): unknown {
  const what = database === undefined ? '' : `database ${JSON.stringify(database)} of `;
  const possible = withTls(server.tls, /(ERROR|error:) 2026/, explanations);
  return explained(
    error,
    possible,
    (message) => `${what}${describe(server)}: ${message.replaceAll(ofLooseOption, '')}`,
  );
}

/** What an older program says of an option that it may leave aside. */
const ofLooseOption = /Warning: [^;]*unknown variable 'loose-[^;]*; /g;

export function describe({ host, socket, port }: Server): string {
  const place =
    host === undefined
      ? `on the ${socket === undefined ? 'local socket' : `socket ${socket}`}`
      : `at ${host}`;
  return `the MariaDB or MySQL server ${place}${port === undefined || socket !== undefined ? '' : `, port ${port}`}`;
}
