import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  realpathSync,
  statSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';
import { type ErrorCode, messageOf, SealiftError, systemCode } from './errors.ts';

/**
 * Files that decide whom sealift trusts (configuration, keys, secrets, state) must not be writable by anybody but
 * the user who runs it and root. The check is made on the open file, so nobody can swap it in between.
 */
export interface Guard {
  /** What the file is, for messages: `configuration file`. */
  readonly what: string;
  /** The code of the error when it is missing; `refused` when it may not be trusted. */
  readonly missing: ErrorCode;
  readonly missingHint?: string;
  readonly refused: ErrorCode;
  /** Others must not read it either. */
  readonly secret?: boolean;
}

/** What the shell hands over: `<(PROGRAM)`, standard input. */
const ownDescriptor = /^\/(dev\/(fd\/\d+|stdin)|proc\/self\/fd\/\d+)$/;

/** The whole file, after the check. Throws SealiftError; a missing file has the guard's `missing` code. */
export function readGuarded(path: string, guard: Guard): Buffer {
  let handle: number | undefined;
  try {
    // A named pipe that nobody writes to would be waited for, deaf to every signal.
    const own = ownDescriptor.test(path);
    handle = openSync(path, constants.O_RDONLY | (own ? 0 : constants.O_NONBLOCK));
    const stats = fstatSync(handle);
    if (stats.isDirectory())
      throw new SealiftError(guard.refused, `${guard.what} ${path} is a folder, not a file`);
    if (!stats.isFile() && !own)
      throw new SealiftError(guard.refused, `${guard.what} ${path} is a pipe or a device, not a file`, {
        hint: 'what a program writes is taken from <(PROGRAM)',
      });
    refuseStrangers(path, stats, guard);
    return readFileSync(handle);
  } catch (error) {
    throw readable(path, guard, error);
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

/** Checks a folder whose entries are trusted: who can write into it can add a key. */
export function guardFolder(path: string, guard: Guard): void {
  try {
    const stats = statSync(path);
    if (!stats.isDirectory()) throw new SealiftError(guard.refused, `${guard.what} ${path} is not a folder`);
    refuseStrangers(path, stats, guard);
  } catch (error) {
    throw readable(path, guard, error);
  }
}

/** Whether every user of the machine can read it: the file, and all folders above it, let anybody in. */
export function isOpenToAll(path: string): boolean {
  try {
    let at = realpathSync(path);
    let asked = 0o004;
    while ((statSync(at).mode & asked) !== 0) {
      if (at === '/') return true;
      [at, asked] = [dirname(at), 0o001];
    }
    return false;
  } catch {
    return false; // who reads it says what is wrong with it
  }
}

function refuseStrangers(path: string, stats: Stats, guard: Guard): void {
  const own = process.geteuid?.();
  const owner = stats.uid;
  if (own !== undefined && owner !== own && owner !== 0) {
    throw new SealiftError(
      guard.refused,
      `${guard.what} ${path} belongs to user id ${owner}, not to the user who runs sealift (${own}) or root`,
      { hint: `read it, then: chown ${own} '${path}'` },
    );
  }
  // In a folder with the sticky bit nobody can replace what is not theirs, and what is theirs is refused above.
  const sticky = stats.isDirectory() && (stats.mode & 0o1000) !== 0;
  const writers = sticky ? 0 : stats.mode & 0o022;
  const readers = guard.secret === true ? stats.mode & 0o055 : 0;
  if (writers === 0 && readers === 0) return;
  const who = ((writers | readers) & 0o007) !== 0 ? 'everybody' : 'its group';
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0');
  throw new SealiftError(
    guard.refused,
    `${guard.what} ${path} can be ${writers === 0 ? 'read' : 'written'} by ${who} (mode ${mode})`,
    { hint: `look at what is in it, then: chmod ${guard.secret === true ? 'go-rwx' : 'go-w'} '${path}'` },
  );
}

function readable(path: string, guard: Guard, error: unknown): SealiftError {
  if (error instanceof SealiftError) return error;
  const code = systemCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    const hint = guard.missingHint;
    return new SealiftError(guard.missing, `${guard.what} ${path} does not exist`, { hint, cause: error });
  }
  const isDenied = code === 'EACCES';
  const reason = isDenied ? 'permission denied' : messageOf(error);
  return new SealiftError(guard.refused, `${guard.what} ${path} cannot be read: ${reason}`, {
    hint: isDenied ? 'run sealift as its owner or as root' : undefined,
    cause: error,
  });
}
