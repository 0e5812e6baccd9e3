import { existsSync } from 'node:fs';
import { readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { syncFolder } from '../durable.ts';
import { SealiftError, systemCode } from '../errors.ts';
import { draftIn } from './drafts.ts';
import { isWritten } from './processes.ts';
import type { Loader } from './source.ts';
import { sqlite, sqliteBusy, SqliteFailure } from './sqlite.ts';
import { targetPath } from './target-url.ts';
import { writeBeside } from './write-beside.ts';

export const sqliteLoader: Loader = {
  kind: 'sqlite',
  takesSeveral: false,
  load: (into, streams, context) => loadSqlite(into, streams[0]!.open(), context),
};

/**
 * Puts a saved SQLite database in place: written and checked beside the target, which is replaced in one step, or not
 * at all. `into` is `sqlite:/path` or a path.
 *
 * An existing database, or a log that one left behind, is replaced only with `force`, and only if no program has it
 * open; it hands down its owner and mode. Returns what was done, one line each.
 */
export async function loadSqlite(
  into: string,
  body: AsyncIterable<Uint8Array>,
  { force, signal }: { force: boolean; signal: AbortSignal },
): Promise<{ lines: string[] }> {
  const named = resolve(targetPath(into, 'sqlite'));
  const target = await whereItLeads(named);
  const previous = await stat(target).catch(() => undefined);
  if (previous?.isFile() === false) throw new SealiftError('target-exists', `${target} is not a file`);
  if (!force) refuseToOverwrite(target);

  const directory = dirname(target);
  const written = draftIn(directory);
  try {
    await writeBeside(written, body, database, previous, signal);
    await check(written, directory, signal);
    if (previous !== undefined) await release(target, directory, signal);
    else if (!force) refuseToOverwrite(target);
    signal.throwIfAborted();
    // Before the rename: SQLite would take an old log for a part of the new database.
    for (const leftover of leftovers(target)) await rm(leftover, { force: true });
    await rename(written, target);
    await syncFolder(directory);
  } finally {
    await rm(written, { force: true });
  }
  const mode =
    previous === undefined ? ', readable by its owner only: give it to the program that uses it' : '';
  return { lines: [`${target} ${previous === undefined ? 'made' : 'replaced'}${mode}`] };
}

/** Behind a link, programs have the file that it leads to, be it there already or not. */
async function whereItLeads(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const link = systemCode(error) === 'ENOENT' ? await readlink(path).catch(() => undefined) : undefined;
    return link === undefined ? path : whereItLeads(resolve(dirname(path), link));
  }
}

const leftovers = (target: string): string[] => ['-wal', '-shm', '-journal'].map((suffix) => target + suffix);

function refuseToOverwrite(target: string): void {
  for (const path of [target, ...leftovers(target)])
    if (existsSync(path))
      throw new SealiftError('target-exists', `${path} exists`, {
        hint: 'give another path, or use --force',
      });
}

const database = { what: 'SQLite database', begins: /^SQLite format 3\0/ };

async function check(path: string, directory: string, signal: AbortSignal): Promise<void> {
  try {
    await sqlite({ do: 'check', path }, 'the restored database', directory, signal);
  } catch (error) {
    if (!(error instanceof SealiftError && error.cause instanceof SqliteFailure)) throw error;
    throw new SealiftError('restore-failed', error.message, { hint: error.hint, cause: error.cause });
  }
}

/**
 * Throws if a program has the database open that is about to be replaced: it would go on in the old one. SQLite tells
 * of those that hold a lock, the system of the others, as far as it shows them. A damaged one is in nobody's way.
 */
async function release(target: string, directory: string, signal: AbortSignal): Promise<void> {
  if (await isWritten(target)) throw inUse(target);
  try {
    await sqlite({ do: 'release', path: target }, target, directory, signal);
  } catch (error) {
    const isBusy =
      error instanceof SealiftError &&
      error.cause instanceof SqliteFailure &&
      error.cause.resultCode === sqliteBusy;
    signal.throwIfAborted();
    if (isBusy) throw inUse(target, error);
  }
}

const inUse = (target: string, cause?: unknown): SealiftError =>
  new SealiftError('target-exists', `${target} is in use`, { hint: 'stop the program that uses it', cause });
