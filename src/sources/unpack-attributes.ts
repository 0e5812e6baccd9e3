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
import { type ByteName, systemPath } from './byte-name.ts';
import { anchored, folderHandle, openPath } from './folder-handle.ts';
import type { TarEntry } from './tar-records.ts';
import type { UnpackOptions } from './unpack.ts';

/** What comes back of who may do what. */
export type Keep = Pick<UnpackOptions, 'sameOwner' | 'setuid'>;

/** Owner, mode and time of an open file or folder, in this order: a change of owner takes setuid away. */
export function setAttributes(fd: number, entry: TarEntry, keep: Keep): void {
  if (keep.sameOwner) fchownSync(fd, entry.uid, entry.gid);
  fchmodSync(fd, permittedMode(entry.mode, keep));
  const time = timeForNode(entry.mtimeNs);
  futimesSync(fd, time, time);
}

/** Of a symlink, and not of a file that whoever may write to its folder has put in its place. */
export function setSymlinkAttributes(at: ByteName, entry: TarEntry, sameOwner: boolean): void {
  const time = timeForNode(entry.mtimeNs);
  if (!anchored) {
    if (sameOwner) lchownSync(systemPath(at), entry.uid, entry.gid);
    lutimesSync(systemPath(at), time, time);
    return;
  }
  const fd = openSync(systemPath(at), openPath | constants.O_NOFOLLOW);
  try {
    if (!fstatSync(fd).isSymbolicLink()) return;
    const { at: link } = folderHandle(fd, at);
    if (sameOwner) chownSync(link, entry.uid, entry.gid);
    utimesSync(link, time, time);
  } finally {
    closeSync(fd);
  }
}

/**
 * A setuid or setgid file lends the rights of its owner to whoever runs it: of whoever restores, if the owner did not
 * come back, and else whatever rights the archive says. So both are kept only for who asked for it.
 */
export const permittedMode = (mode: number, { sameOwner, setuid }: Keep): number =>
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
