import {
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  futimesSync,
  lchownSync,
  lutimesSync,
  openSync,
  utimesSync,
} from 'node:fs';
import { systemCode } from '../errors.ts';
import { type ByteName, systemPath } from './byte-name.ts';
import { anchored, folderHandle, openPath } from './folder-handle.ts';
import type { TarEntry } from './tar-records.ts';
import type { UnpackOptions } from './unpack.ts';

/** What comes back of who may do what. */
export type Keep = Pick<UnpackOptions, 'sameOwner' | 'setuid'>;

/** What an entry has got of its attributes. */
export interface Given {
  /** Owner, mode (without what was not asked for) and time. */
  readonly all: boolean;
  /** setuid and setgid, where it had them. */
  readonly setuid: boolean;
}

/**
 * Owner, mode and time of an open file or folder, in this order: a change of owner takes setuid away. What the target
 * keeps none of shall not keep the rest from coming back.
 */
export function setAttributes(fd: number, entry: TarEntry, keep: Keep): Given {
  const sameOwner = keep.sameOwner && giveOwner(fd, entry, () => fchownSync(fd, entry.uid, entry.gid));
  const mode = permittedMode(entry.mode, { ...keep, sameOwner });
  isTaken(() => fchmodSync(fd, mode));
  const hasMode = (fstatSync(fd).mode & 0o7777) === mode;
  const time = timeForNode(entry.mtimeNs);
  const hasTime = isTaken(() => futimesSync(fd, time, time));
  return {
    all: sameOwner === keep.sameOwner && hasMode && hasTime,
    setuid: (entry.mode & 0o6000) === 0 || (mode === entry.mode && hasMode),
  };
}

/**
 * Of a symlink, and not of a file that whoever may write to its folder has put in its place. Returns whether it has got
 * all of them.
 */
export function setSymlinkAttributes(at: ByteName, entry: TarEntry, sameOwner: boolean): boolean {
  const time = timeForNode(entry.mtimeNs);
  if (!anchored) {
    const path = systemPath(at);
    const hasOwner = !sameOwner || isTaken(() => lchownSync(path, entry.uid, entry.gid));
    return isTaken(() => lutimesSync(path, time, time)) && hasOwner;
  }
  const fd = openSync(systemPath(at), openPath | constants.O_NOFOLLOW);
  try {
    if (!fstatSync(fd).isSymbolicLink()) return false;
    const { at: link } = folderHandle(fd, at);
    const hasOwner = !sameOwner || giveOwner(fd, entry, () => chownSync(link, entry.uid, entry.gid));
    return isTaken(() => utimesSync(link, time, time)) && hasOwner;
  } finally {
    closeSync(fd);
  }
}

/**
 * Looks at what became of it, as of the mode: some file systems pass over a change in silence, others refuse one that
 * changes nothing.
 */
function giveOwner(fd: number, { uid, gid }: TarEntry, give: () => void): boolean {
  isTaken(give);
  const now = fstatSync(fd);
  return now.uid === uid && now.gid === gid;
}

/**
 * False where the file system keeps no such attribute (FAT, FUSE), a server does not let root give it (NFS), or the
 * container has no such owner.
 */
function isTaken(give: () => void): boolean {
  try {
    give();
    return true;
  } catch (error) {
    if (['EPERM', 'EINVAL', 'EOVERFLOW', 'ENOTSUP', 'ENOSYS'].includes(systemCode(error) ?? '')) return false;
    throw error;
  }
}

/**
 * A setuid or setgid file lends the rights of its owner to whoever runs it: of whoever restores, if the owner did not
 * come back, and else whatever rights the archive says. So both are kept only for who asked for it.
 */
const permittedMode = (mode: number, { sameOwner, setuid }: Keep): number =>
  sameOwner && setuid && process.geteuid?.() === 0 ? mode : mode & 0o1777;

/**
 * Node takes times as floating seconds, which lie 0.24 µs apart in this century: nanoseconds cannot be set, but the
 * microsecond always comes out right. Times before 1970 must be a Date, in whole milliseconds.
 */
export function timeForNode(timeNs: bigint): number | Date {
  if (timeNs < 0n) return new Date(Math.max(Math.floor(Number(timeNs) / 1e6), -8.64e15));
  const whole = Number(timeNs / 1_000_000_000n);
  const microseconds = Number((timeNs / 1000n) % 1_000_000n);
  let seconds = whole + Number(timeNs % 1_000_000_000n) / 1e9;
  const step = 2 ** (Math.floor(Math.log2(Math.max(seconds, 1))) - 52);
  // How libuv splits it again, truncating.
  const got = (): number => Math.floor(Math.trunc((seconds - whole) * 1e9) / 1000);
  if (step > 5e-7) return seconds;
  while (got() < microseconds) seconds += step;
  while (got() > microseconds) seconds -= step;
  return seconds;
}
