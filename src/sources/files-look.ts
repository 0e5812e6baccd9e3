import { closeSync, constants, lstatSync, openSync, realpathSync, statSync } from 'node:fs';
import { type ErrorCode, SealiftError, messageOf, systemCode } from '../errors.ts';
import { onlyTheLink } from './files-walk.ts';
import { inodeOf } from './inode.ts';
import { isWithin } from './within.ts';

/** What is asked of the paths of a tree before it is walked. */
export interface FilesQuestion {
  readonly name: string;
  readonly asked: readonly string[];
  readonly storePath: string | undefined;
}

export interface FilesAnswer {
  readonly paths: readonly string[];
  /** Symlinks to what is asked for as well. */
  readonly followed: readonly string[];
  /** The folder of the store. */
  readonly leftOut: string | undefined;
  /** What is known to be missing, a sentence each. */
  readonly lacks: readonly string[];
}

/** An error, as far as it crosses to another thread. */
export interface FilesRefusal {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}

export function answerTo(question: FilesQuestion): FilesAnswer | FilesRefusal {
  try {
    return look(question);
  } catch (error) {
    if (!(error instanceof SealiftError)) throw error;
    const { code, message, hint } = error;
    return { code, message, hint };
  }
}

function look({ name, asked, storePath }: FilesQuestion): FilesAnswer {
  const followed = asked.filter((path) => isSavedToo(path, asked));
  const paths = asked.filter((path) => !followed.includes(path));
  const leftOut = storePath === undefined ? undefined : inodeAt(storePath);
  for (const path of paths) if (leftOut !== undefined && inodeAt(path) === leftOut) throw isStore(path);
  return { paths, followed, leftOut, lacks: lackingIn(name, paths) };
}

const isStore = (path: string): SealiftError =>
  new SealiftError('config-invalid', `"${path}" is the store itself, which is left out of every tree`, {
    hint: 'Name a folder within it, if something else lies there.',
  });

/** Of what a link leads to. */
function inodeAt(path: string): string | undefined {
  try {
    return inodeOf(statSync(path, { bigint: true }));
  } catch {
    return undefined; // the walk, or the store, says what is wrong with it
  }
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Of a symlink: what it leads to is asked for as well. */
function isSavedToo(link: string, paths: readonly string[]): boolean {
  const end = resolved(link);
  return isLink(link) && paths.some((path) => !isLink(path) && isWithin(end, resolved(path)));
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false; // the walk says what is wrong with it
  }
}

/** What the walk will say of the paths themselves. Throws if none of them is there. */
function lackingIn(name: string, paths: readonly string[]): string[] {
  const lacks: string[] = [];
  const errors: unknown[] = [];
  for (const path of paths) {
    try {
      const stats = lstatSync(path);
      if (stats.isSymbolicLink()) lacks.push(`"${path}" ${onlyTheLink}`);
      if (stats.isFile() || stats.isDirectory()) lacks.push(...deniedAt(path));
    } catch (error) {
      errors.push(error);
      lacks.push(`"${path}" cannot be read: ${messageOf(error)}`);
    }
  }
  if (errors.length < paths.length) return lacks;
  const denied = errors.some((error) => systemCode(error) === 'EACCES');
  const list = paths.map((path) => `"${path}"`).join(', ');
  throw new SealiftError(
    denied ? 'source-denied' : 'source-unavailable',
    `The files of "${name}" are not there: ${list}`,
    {
      hint: denied
        ? 'Run sealift as a user who may read them'
        : 'Correct the paths of the source in the configuration',
      cause: errors[0],
    },
  );
}

/** That it is there does not say that it may be read. */
function deniedAt(path: string): string[] {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return [];
  } catch (error) {
    return [`"${path}" cannot be read: ${messageOf(error)}`];
  }
}
