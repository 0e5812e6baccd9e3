import { SealiftError } from '../errors.ts';
import { ToolFailure } from '../process.ts';
import type { Damaged, Loaded, LoadStream } from './source.ts';

/**
 * For what a load throws: tells what was being loaded, if the error does not, what else was damaged, and what had been done
 * before, a line each.
 */
export const failedLoad =
  (what: string, done: readonly string[] = [], damaged: readonly Damaged[] = []) =>
  (error: unknown): never => {
    if (!(error instanceof SealiftError)) throw error;
    const saysWhat = !(error.cause instanceof ToolFailure) || error.code.startsWith('source-');
    const message = saysWhat ? error.message : `loading ${what} failed: ${error.message}`;
    const before = done.length === 0 ? [] : [`done before: ${done.join('; ')}`];
    const said = [message, ...damaged.map((one) => one.error.message), ...before];
    throw new SealiftError(saysWhat ? error.code : 'restore-failed', said.join('; '), {
      hint: error.hint,
      cause: error.cause,
    });
  };

/** For what the load of one of several streams throws: that the store does not have it whole keeps no other from its place. */
export const noteDamage =
  (damaged: Damaged[], { file }: LoadStream) =>
  (error: unknown): [] => {
    if (!(error instanceof SealiftError && error.code === 'verify-failed')) throw error;
    damaged.push({ file, error });
    return [];
  };

/** For what is thrown where users or roles are read: if the store does not have them whole, the dumps can do without. */
export function offerDumps(error: unknown): never {
  if (!(error instanceof SealiftError && error.code === 'verify-failed')) throw error;
  throw new SealiftError(error.code, error.message, {
    hint: 'load the dumps without it: --source SOURCE/FILE for each; roles of PostgreSQL have to be made by hand before',
    cause: error.cause,
  });
}

/** Throws if none of the streams was whole. */
export function loaded(lines: readonly string[], damaged: readonly Damaged[], streams: number): Loaded {
  const [first, ...others] = damaged;
  if (first && damaged.length === streams) failedLoad(first.file, lines, others)(first.error);
  return { lines, damaged };
}

/** What was thrown, and then what was thrown in undoing it. */
export const inOrder = (error: unknown): unknown[] =>
  error instanceof SuppressedError ? [error.suppressed, error.error].flatMap(inOrder) : [error];

/** For a URL that names a database. */
export const notOneDump = (dumps: number, database: string): SealiftError =>
  new SealiftError(
    'usage',
    `${dumps} dumps cannot be loaded into the one database ${JSON.stringify(database)}`,
    {
      hint: 'choose one with --source SOURCE/FILE, or leave the database out of the URL to load each into its own',
    },
  );

export const notEmpty = (database: string, server: string): SealiftError =>
  new SealiftError('target-exists', `database ${JSON.stringify(database)} of ${server} is not empty`, {
    hint: 'give another name, drop it first, or use --force: what the dump holds is then dropped there and loaded anew',
  });
