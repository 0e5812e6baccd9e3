import * as z from '../zod.ts';
import { duration, magic, name, path, secret } from './fields.ts';

/** The kinds of sources, and what each of them can be told. */

const text = z.string().min(1);
const port = z.int().min(1).max(65_535);

/** A program and its arguments, started without a shell. */
export const argv = z.array(text).min(1).describe('A program and its arguments, without a shell');

const limitOf = (time: '6h' | 0) =>
  duration
    .default(time)
    .describe('How long its tools may take in all, not counting what the store takes; 0 for no limit');

const timeLimit = limitOf('6h');

const tls = z
  .strictObject({ ca: path.describe('Certificates of authorities, PEM') })
  .optional()
  .describe('Encrypted, and the certificate of the server is checked; else as the tools do by themselves');

const runAs = text.optional().describe('Start the tools of this source as this system user');

const databases = (of: string) =>
  z
    .union([z.literal('all'), z.array(text).min(1)], { error: 'must be all or a list of database names' })
    .default('all')
    .describe(`All databases of the ${of} at each run, or these`);

/** https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS */
const tablePatterns = z.array(
  z
    .string()
    .regex(
      /^(("([^"]|"")*"|[^".])+\.){0,2}("([^"]|"")*"|[^".])+$/s,
      'must be a pattern of table names as in psql: log_*, schema.table or database.schema.table; capitals in double quotes',
    ),
);

const postgresServer = {
  databases: databases('server'),
  exclude: z.array(text).default([]).describe('Databases that are left out'),
  excludeTables: tablePatterns.default([]).describe('Tables that are left out, as in psql: log_*, schema.*'),
  excludeTableData: tablePatterns.default([]).describe('Tables of which the structure is saved, but no row'),
  parallel: z.int().min(1).max(8).default(1).describe('How many databases are dumped at once'),
  globals: z.boolean().default(true).describe('Roles and tablespaces too'),
  cluster: z
    .string()
    .regex(/^\d+(\.\d+)?\/\w[\w.-]*$/, 'must be VERSION/NAME, as pg_lsclusters shows them: 15/main')
    .optional()
    .describe("A cluster of Debian's, in place of host and port: 15/main"),
  host: text.optional().describe('Host name, or the directory of the socket'),
  port: port.optional(),
  user: text.optional(),
  password: secret.optional(),
  tls,
  runAs,
};

const mysqlServer = {
  databases: databases('server'),
  exclude: z.array(text).default([]).describe('Databases that are left out'),
  users: z.boolean().default(true).describe('Users and grants too'),
  host: text.optional().describe('Host name, or the path of the socket'),
  port: port.optional(),
  user: text.optional(),
  password: secret.optional(),
  tls,
  runAs,
};

/** The SQL database behind a chat server. */
const database = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('postgres'), ...postgresServer }),
    z.strictObject({ kind: z.literal('mysql'), ...mysqlServer }),
    z.strictObject({ kind: z.literal('sqlite'), path }),
  ])
  .optional()
  .describe('The SQL database that it keeps its data in, with the settings of a source of that kind');

const postgres = z.strictObject({ name, kind: z.literal('postgres'), ...postgresServer, timeLimit });

const mysql = z.strictObject({ name, kind: z.literal('mysql'), ...mysqlServer, timeLimit });

const sqlite = z.strictObject({ name, kind: z.literal('sqlite'), path, timeLimit });

const redis = z.strictObject({
  name,
  kind: z.literal('redis'),
  host: text.optional().describe('Host name, or the path of the socket'),
  port: port.optional(),
  user: text.optional(),
  password: secret.optional(),
  tls,
  timeLimit,
});

const ldap = z.strictObject({
  name,
  kind: z.literal('ldap'),
  config: path.default('/etc/ldap/slapd.d').describe('The folder slapd.d, or slapd.conf'),
  exclude: z.array(text).default([]).describe('Suffixes of databases that are left out'),
  runAs,
  timeLimit,
});

const ejabberd = z.strictObject({
  name,
  kind: z.literal('ejabberd'),
  ejabberdctl: path.optional().describe('Default: the one on the PATH'),
  node: text.optional().describe("The Erlang node; default: ejabberdctl's own"),
  config: path.default('/etc/ejabberd').describe('The folder of its configuration and certificates'),
  data: path.default('/var/lib/ejabberd').describe('The folder of its Mnesia database, uploads and the like'),
  database,
  runAs: text.optional().describe('The system user that the server runs as; default: the owner of `data`'),
  timeLimit,
});

const prosody = z.strictObject({
  name,
  kind: z.literal('prosody'),
  config: path.default('/etc/prosody').describe('The folder of its configuration and certificates'),
  data: path.default('/var/lib/prosody').describe('The folder of its internal storage and uploads'),
  database,
  timeLimit,
});

const command = z.strictObject({
  name,
  kind: z.literal('command'),
  argv: argv.optional(),
  shell: text
    .optional()
    .describe('A line for bash instead of argv, in which every part of a pipe must succeed'),
  file: z
    .string()
    .regex(/^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$/, 'must be a file name of letters, digits and _ . -')
    .default('output')
    .describe('The name of the file that its output becomes'),
  magic: magic.optional(),
  minBytes: z.int().min(1).default(1).describe('Less output than this is a failure'),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not the name of a variable'), secret)
    .default({})
    .describe('Variables for this program alone; each is a secret'),
  cwd: path.optional().describe('The folder that it starts in; default: /'),
  runAs,
  timeLimit,
});

const system = z.strictObject({
  name,
  kind: z.literal('system'),
  paths: z.array(path).min(1).default(['/etc']).describe('Trees that belong to the machine'),
  exclude: z.array(text).default([]).describe('Globs; ** crosses folders'),
  timeLimit,
});

const files = z.strictObject({
  name,
  kind: z.literal('files'),
  paths: z.array(path).min(1),
  exclude: z.array(text).default([]).describe('Globs; ** crosses folders'),
  oneFileSystem: z.boolean().default(true).describe('Do not descend into other mounted file systems'),
  timeLimit: limitOf(0),
});

export const source = z.discriminatedUnion('kind', [
  postgres,
  mysql,
  sqlite,
  redis,
  ldap,
  ejabberd,
  prosody,
  command,
  system,
  files,
]);
