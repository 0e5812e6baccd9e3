import { hash, randomUUID } from 'node:crypto';
import { closeSync, constants, lstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isRunning } from '../temporary.ts';
import { type ByteName, bytesOf, systemPath } from './byte-name.ts';
import { type FolderHandle, folderHandle, inside } from './folder-handle.ts';
import { discard } from './unpack-file.ts';

/** In which boot and container a number of a process means this one. */
const here = hash(
  'sha256',
  `${told(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'))} ${told(() =>
    readlinkSync('/proc/self/ns/pid'),
  )}`,
).slice(0, 12);

/** A name for what takes the place of a file once it is whole; it tells which process is at work on it. */
export const draftName = (): string => `.sealift-${here}-${process.pid}-${randomUUID()}`;

const draftPattern = /^\.sealift-(?:([0-9a-f]{12})-(\d+)-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Of another machine nobody knows which processes run, and its clock may be off. */
const abandonedAfterMs = 24 * 3600_000;

/**
 * Removes what a restore that was killed left in a folder: each may be as large as a database, and no other name leads to it.
 */
export function removeAbandoned(folder: FolderHandle, nowMs = Date.now()): void {
  for (const name of readdirSync(systemPath(inside(folder, '.')), 'latin1')) {
    const [isDraft, where, pid] = draftPattern.exec(name) ?? [];
    if (isDraft === undefined) continue;
    const at = inside(folder, name);
    if (where === here ? !isRunning(Number(pid)) : isOld(at, nowMs)) discard(at);
  }
}

/** A name for a new one in a folder, which is rid of abandoned ones where it can be looked at. */
export function draftIn(folder: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY); // a pipe would be waited for
    removeAbandoned(folderHandle(fd, bytesOf(folder)));
  } catch {
    // Whoever writes to it hears what is wrong with it.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  return join(folder, draftName());
}

/** By the time of the last change, which is written and cannot be set. */
function isOld(at: ByteName, nowMs: number): boolean {
  const found = lstatSync(systemPath(at), { throwIfNoEntry: false });
  return found !== undefined && nowMs - found.ctimeMs > abandonedAfterMs;
}

function told(ask: () => string): string {
  try {
    return ask();
  } catch {
    return randomUUID(); // Then nobody else is there.
  }
}
