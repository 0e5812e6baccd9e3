import { createReadStream } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SqliteConfig } from '../config/config.ts';
import { type ErrorCode, SealiftError, systemCode } from '../errors.ts';
import { output } from '../process.ts';
import { sibling } from '../sibling.ts';
import { fileName, type Source, type SourceContext } from './source.ts';
import type { Facts, Failure, Outcome, Task } from './sqlite-copy.ts';
import { real } from './within.ts';

/**
 * One SQLite database, saved as a compact copy made by `VACUUM INTO`: consistent while others write, free of deleted
 * rows, byte for byte the same as long as nothing changes. The source is opened for reading only and never created.
 *
 * The copy is plaintext on disk, as SQLite can write nothing but files: in `context.temporary`, and gone before the
 * stream ends. It needs as much room there as the database is large. The copy's journal mode is `delete`, whatever the
 * source's was; programs that want WAL ask for it when they start.
 */
export function sqliteSource(config: SqliteConfig): Source {
  const file = fileName(basename(config.path).replace(/\.(sqlite3?|db3?)$/i, '') || 'database', '.sqlite');
  return {
    name: config.name,
    kind: 'sqlite',
    streams: async () => {
      await fingerprint(config.path);
      await demandSqlite(config.path);
      const { size: temporaryBytes } = await stat(config.path);
      return [{ file, temporaryBytes, open: (context) => save(config, context) }];
    },
  };
}

async function* save(
  { name, path }: SqliteConfig,
  context: SourceContext,
): AsyncGenerator<Uint8Array, void, void> {
  const { signal } = context;
  const directory = await context.temporary();
  try {
    const copy = join(directory, 'copy.sqlite');
    // The log lies beside the file itself, and not beside a link to it.
    const file = await real(path);
    const facts = await copyTo(file, copy, directory, signal);
    const { nlink } = await stat(file).catch(() => ({ nlink: 1 }));
    if (nlink > 1 && (await isWal(file)))
      context.problem(
        'not-consistent',
        `${path} has ${nlink} names (hard links): what a program has in its log under another one is not saved`,
      );
    await sqlite({ do: 'check', path: copy }, `the copy of ${path}`, directory, signal);
    await context.detail({ type: 'sqlite', source: name, path, ...facts });
    yield* createReadStream(copy, { highWaterMark: 1024 * 1024, signal }) as AsyncIterable<Buffer>;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    // Early, to give the room back. The run removes it too, so a failure here shall not hide another error.
    await rm(directory, { recursive: true, force: true }).catch(() => {});
  }
}

/**
 * A WAL database that nobody has open has no `-wal` file. Reading it in the usual way would make one, and fail where
 * the file system is read-only; so it is read as immutable, which holds only if it still is the same afterwards.
 */
async function copyTo(from: string, to: string, directory: string, signal: AbortSignal): Promise<Facts> {
  const before = await fingerprint(from);
  const idle = (await isWal(from)) && !(await hasLog(from));
  if (!idle) return sqlite({ do: 'copy', from, to, immutable: false }, from, directory, signal);

  const attempt = sqlite({ do: 'copy', from, to, immutable: true }, from, directory, signal);
  // If somebody wrote meanwhile, an error means as little as success.
  await Promise.allSettled([attempt]);
  const untouched = (await fingerprint(from)) === before && !(await hasLog(from));
  // An immutable database has no journal; what it is by nature stands in its header.
  if (untouched) return { ...(await attempt), journalMode: 'wal' };
  signal.throwIfAborted();
  await rm(to, { force: true });
  return sqlite({ do: 'copy', from, to, immutable: false }, from, directory, signal);
}

/** What changes when a file does. Throws if it is not there, or no file, or empty. */
async function fingerprint(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch((cause: unknown) => {
    const denied = systemCode(cause) === 'EACCES' || systemCode(cause) === 'EPERM';
    const missing = systemCode(cause) === 'ENOENT' || systemCode(cause) === 'ENOTDIR';
    throw new SealiftError(
      denied ? 'source-denied' : 'source-unavailable',
      missing ? `there is no ${path}` : `${path} cannot be read`,
      { cause },
    );
  });
  if (!found.isFile()) throw new SealiftError('source-unavailable', `${path} is not a file`);
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  if (size === 0n)
    throw new SealiftError('source-empty', `${path} is empty: a SQLite database has at least one page`);
  return [dev, ino, size, mtimeNs, ctimeNs].join();
}

async function demandSqlite(path: string): Promise<void> {
  const head = await headerOf(path);
  if (head.subarray(0, 16).equals(Buffer.from('SQLite format 3\0'))) return;
  throw new SealiftError('source-damaged', `${path} is not a SQLite database`, { hint: notSqlite });
}

const hasLog = (path: string): Promise<boolean> =>
  stat(`${path}-wal`).then(
    () => true,
    () => false,
  );

const isWal = async (path: string): Promise<boolean> => (await headerOf(path))[18] === 2;

/** https://www.sqlite.org/fileformat2.html#the_database_header */
async function headerOf(path: string): Promise<Buffer> {
  const file = await open(path).catch((cause: unknown) => {
    throw new SealiftError('source-denied', `${path} cannot be read`, { cause });
  });
  await using _ = file;
  return (await file.read(Buffer.alloc(20), 0, 20, 0)).buffer;
}

/** Runs one of the tasks of `sqlite-copy`; its temporary files, too, stay in `directory`. */
export async function sqlite(
  task: Task,
  what: string,
  directory: string,
  signal: AbortSignal,
): Promise<Facts> {
  const script = fileURLToPath(sibling(import.meta.url, 'sqlite-copy'));
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', script, JSON.stringify(task)];
  const { stdout } = await output({ argv, env: { SQLITE_TMPDIR: directory } }, signal);
  const outcome = JSON.parse(stdout) as Outcome;
  if ('facts' in outcome) return outcome.facts;
  const [code, hint] = meanings[outcome.code] ?? (['failed', undefined] as const);
  throw new SealiftError(code, `${what}: SQLite says: ${outcome.message}`, {
    hint,
    cause: new SqliteFailure(outcome),
  });
}

/** SQLite's own words: the cause of an error. */
export class SqliteFailure extends Error {
  readonly resultCode: Failure['code'];

  constructor({ code, message }: Failure) {
    super(message);
    this.name = 'SqliteFailure';
    this.resultCode = code;
  }
}

export const sqliteBusy = 5;

const notSqlite = 'it is encrypted, or something else than a SQLite database';

const meanings: Record<Failure['code'], [ErrorCode, string] | undefined> = {
  1: [
    'failed',
    'functions, collations and modules that only its own program has cannot be had here: save what that program exports, with a `command` source',
  ],
  'not-intact': [
    'source-damaged',
    'PRAGMA integrity_check found this; see https://www.sqlite.org/recovery.html',
  ],
  3: ['source-denied', 'sealift has to be able to read the file, its -wal and its -shm'],
  [sqliteBusy]: ['source-unavailable', 'another program has held it locked for a minute'],
  8: [
    'source-unavailable',
    'an interrupted transaction waits to be rolled back: open it once with its own program',
  ],
  11: ['source-damaged', 'see https://www.sqlite.org/recovery.html'],
  13: ['failed', 'the temporary folder needs as much free room as the database is large'],
  14: [
    'source-unavailable',
    'sealift has to be able to read the file, its folder, its -wal and its -shm; a -wal without a -shm was left by a program that ended badly: open it once with that program, or let sealift write to the folder',
  ],
  19: ['source-damaged', 'an index contradicts its table; see https://www.sqlite.org/recovery.html'],
  26: ['source-damaged', notSqlite],
};
