import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, SealiftError } from '../errors.ts';
import { feedProcess } from '../process.ts';
import { program, type Server } from './postgres-connection.ts';
import { sqlStatements, unquote } from './postgres-globals.ts';
import type { LoadStream, Surroundings } from './source.ts';

/** What the head of a dump tells of it. */
export interface Contents {
  readonly pgRestore: string;
  /** The lines about the database itself, as `pg_restore --use-list` takes them. */
  readonly databaseList: string;
  readonly dumpedByMajor: number;
}

/** Reads the table of contents, and chooses the pg_restore that fits: newer ones can upset an older server. */
export async function readContents(
  server: Server,
  dump: LoadStream,
  { signal }: { signal: AbortSignal },
): Promise<Contents> {
  const newest = await program(server, 'pg_restore', signal);
  // Without --create it leaves out what is about the database itself.
  const argv = [newest.path, '--list', '--create'];
  const { stdout } = await feedProcess({ argv }, dump.open(), signal, { mayStopReading: true });
  const dumpedByMajor = Number(/^;\s+Dumped by pg_dump version: (\d+)/m.exec(stdout)?.[1] ?? 0);
  const own = [`/usr/lib/postgresql/${dumpedByMajor}/bin`].filter((path) =>
    server.directories.includes(path),
  );
  const directories = [...own, ...server.directories];
  const pgRestore = await program({ ...server, directories }, 'pg_restore', signal);
  const about = /^\d+; \d+ \d+ (DATABASE|DATABASE PROPERTIES|(ACL|COMMENT|SECURITY LABEL) - DATABASE) /;
  const lines = stdout.split('\n').filter((line) => about.test(line));
  return { pgRestore: pgRestore.path, databaseList: lines.join('\n'), dumpedByMajor };
}

/** How a database was made, and what it had been given since. */
export interface Definition {
  /** What follows its name in CREATE DATABASE: encoding and collation decide what can be loaded, and how it sorts. */
  readonly how: string;
  readonly properties: readonly string[];
  /** What could not be found out, in words; empty if nothing. */
  readonly lost: string;
}

/** With `expected`, throws if the dump is of a database of another name. */
export async function definition(
  { pgRestore, databaseList }: Contents,
  dump: LoadStream,
  expected: string | undefined,
  around: Surroundings,
): Promise<Definition> {
  const list = join(await around.temporary(), 'list');
  await writeFile(list, databaseList);
  const argv = [pgRestore, '--create', `--use-list=${list}`, '--file=-'];
  // For a database of another name and place.
  if (expected === undefined) argv.push('--no-tablespaces');
  let sql: string;
  try {
    sql = (await feedProcess({ argv }, dump.open(), around.signal, { mayStopReading: true })).stdout;
  } catch (error) {
    // It would have to name the database in a command for psql, which cannot hold such a name.
    if (!messageOf(error).includes('contains a newline or carriage return')) throw error;
    return {
      how: plainly,
      properties: [],
      lost: 'with default encoding, owner and settings: its name holds a line break',
    };
  }
  const statements = sqlStatements(sql);
  const made = /^CREATE DATABASE ("(?:[^"]|"")+"|[^\s"]+) (WITH [^]*)$/;
  const [, name = '', how = plainly] = statements.map((one) => made.exec(one)).find((match) => match) ?? [];
  if (expected !== undefined && readable(name) && unquote(name) !== expected)
    throw new SealiftError('restore-failed', `${dump.file} is the dump of another database, ${name}`);
  const about =
    /^(ALTER DATABASE|ALTER ROLE ("(?:[^"]|"")+"|[^\s"]+) IN DATABASE|COMMENT ON DATABASE|SECURITY LABEL|GRANT|REVOKE) /;
  const properties = statements.filter((statement) => about.test(statement));
  const kept = properties.filter(readable);
  const lost =
    kept.length < properties.length ? 'without a comment, setting or grant of it that is not in UTF-8' : '';
  return { how, properties: kept, lost };
}

/** The text is in the encoding of the database; what is not UTF-8 in it has been lost on the way here. */
const readable = (text: string): boolean => !text.includes('\uFFFD');

const plainly = 'WITH TEMPLATE = template0';
