import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { type ByteName, systemPath } from './byte-name.ts';

/**
 * An open folder. Names are resolved below the handle, as openat(2) does, so that a folder that somebody replaces by
 * a symlink in the middle of a walk cannot lead the walk elsewhere, and so that depth is not bound by PATH_MAX.
 * Where there is no /proc (not Linux) names are resolved from the path again, without that protection.
 */
export interface FolderHandle {
  readonly fd: number;
  /** The prefix for system calls on what lies in it. */
  readonly at: ByteName;
}

/** Whether what is open can be named by its handle. */
export const anchored = existsSync('/proc/self/fd');

/** `O_PATH` of Linux, which Node does not name: opens anything, a symlink itself, too, and asks for no right to read. */
export const openPath = 0o10000000;

/** A folder that is only gone through, or asked for by its handle. */
export function openWay(at: ByteName): FolderHandle {
  const { O_DIRECTORY, O_NOFOLLOW } = constants;
  return folderHandle(openSync(systemPath(at), O_DIRECTORY | O_NOFOLLOW | (anchored ? openPath : 0)), at);
}

/** Throws ENOTDIR or ELOOP if it is not, or no longer, a folder. The caller closes `fd`. */
export function openFolder(at: ByteName): FolderHandle {
  const fd = openSync(systemPath(at), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  return folderHandle(fd, at);
}

/** A level of a tree on the way down. */
export interface OpenLevel {
  /** Undefined while it is closed. */
  folder: FolderHandle | undefined;
}

/** So many of the innermost folders are open, lest a deep tree take all the handles that the process may have. */
export const openLevels = 100;

/** After one more level was opened; `depth`: how many are on the way down to it. */
export const closeOuter = (levels: readonly OpenLevel[], depth = levels.length): void =>
  closeLevel(levels[depth - 1 - openLevels]);

export function closeLevel(level: OpenLevel | undefined): void {
  if (level?.folder === undefined) return;
  closeSync(level.folder.fd);
  level.folder = undefined;
}

/** Which mount it lies on, whether or not it may be looked at. Undefined where nobody tells. */
export function mountAt(at: ByteName): string | undefined {
  if (!anchored) return undefined;
  let fd: number | undefined;
  try {
    fd = openSync(systemPath(at), openPath | constants.O_NOFOLLOW);
    return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

export const folderHandle = (fd: number, at: ByteName): FolderHandle => ({
  fd,
  at: anchored ? `/proc/self/fd/${fd}` : at,
});

export const inside = (folder: FolderHandle, name: ByteName): ByteName => `${folder.at}/${name}`;
