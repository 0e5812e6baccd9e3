import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, readlinkSync } from 'node:fs';
import { messageOf, systemCode } from '../errors.ts';
import { type ByteName, systemPath } from './byte-name.ts';
import { blockBytes, takeBlock } from './files-memory.ts';
import { type Trouble, becameOther, failure, problem } from './files-walk.ts';

/** Larger files are read piece by piece, never whole. */
const wholeBytes = blockBytes;

export interface OpenFile {
  readonly fd: number;
  readonly path: ByteName;
  readonly stats: BigIntStats;
  readonly sizeBytes: number;
}

/**
 * Opens what was found as a file. It may have become something else since: a symlink is refused, a pipe or device
 * does not block and is closed again unread.
 */
export function openFile(path: ByteName, at: ByteName): OpenFile | Trouble {
  let fd: number;
  try {
    fd = openReadOnly(at);
  } catch (error) {
    if (systemCode(error) === 'EAGAIN')
      return problem('unreadable', path, 'cannot be read: another program has a lease on it, and keeps it');
    // What open(2) says of a socket or a device without a driver.
    if (systemCode(error) === 'ENXIO' || systemCode(error) === 'ENODEV') return becameSpecial(path);
    return failure(path, error);
  }
  try {
    const stats = fstatSync(fd, { bigint: true });
    if (stats.isFile()) return { fd, path, stats, sizeBytes: Number(stats.size) };
    closeSync(fd);
    return becameSpecial(path);
  } catch (error) {
    closeSync(fd);
    return failure(path, error);
  }
}

/**
 * Who has a lease on a file (a server of files, for a client that writes) is told of it by the first attempt, and gives it up
 * then. Whoever owns a file can take one and keep it, so only so much time is given to a tree.
 */
let leasesMs = 60_000;
const leaseStepMs = 10;
const never = new Int32Array(new SharedArrayBuffer(4));

function openReadOnly(at: ByteName): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
  for (;;) {
    try {
      return openSync(systemPath(at), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN' || leasesMs <= 0) throw error;
      Atomics.wait(never, 0, 0, leaseStepMs);
      leasesMs -= leaseStepMs;
    }
  }
}

const becameSpecial = (path: ByteName): Trouble =>
  problem('special-file', path, 'became a special file before it was read and was left out');

/** What a symlink holds. */
export function readTarget(path: ByteName, at: ByteName): ByteName | Trouble {
  try {
    return readlinkSync(systemPath(at), { encoding: 'latin1' });
  } catch (error) {
    // What readlink(2) says of anything that is not a symlink.
    return systemCode(error) === 'EINVAL' ? becameOther(path) : failure(path, error);
  }
}

export const isSmall = (file: OpenFile): boolean => file.sizeBytes <= wholeBytes;

/**
 * Fills `body`, which is as long as the file was when it was opened. Returns whether it was read at all, and what is to be
 * said about it.
 */
export function readWhole(file: OpenFile, body: Buffer): { read: boolean; trouble: Trouble | undefined } {
  try {
    const filled = fill(file, body, 0);
    body.fill(0, filled);
    return { read: true, trouble: changed(file, filled) };
  } catch (error) {
    return { read: false, trouble: failure(file.path, error) };
  }
}

/** The same for a large file. Its size is announced by then, so what cannot be read is zeros and said so. */
export function* readPieces(
  file: OpenFile,
  report: (trouble: Trouble) => void,
): Generator<Buffer<ArrayBuffer>> {
  let broken: Trouble | undefined;
  let ended = false;
  for (let at = 0; at < file.sizeBytes; at += blockBytes) {
    const { buffer, byteOffset } = takeBlock();
    const piece = Buffer.from(buffer, byteOffset, Math.min(blockBytes, file.sizeBytes - at));
    let filled = 0;
    try {
      if (broken === undefined && !ended) filled = fill(file, piece, at);
    } catch (error) {
      const why = systemCode(error) ?? messageOf(error);
      broken = problem(
        'unreadable',
        file.path,
        `cannot be read from byte ${at} on: ${why}; the rest is saved as zeros`,
      );
    }
    ended ||= filled < piece.length;
    piece.fill(0, filled);
    yield piece; // and its memory, which is gone then
  }
  const trouble = broken ?? changed(file, ended ? undefined : file.sizeBytes);
  if (trouble !== undefined) report(trouble);
}

/** Reads until the buffer is full or the file ends. */
function fill(file: OpenFile, buffer: Buffer, position: number): number {
  let filled = 0;
  while (filled < buffer.length) {
    const read = readSync(file.fd, buffer, filled, buffer.length - filled, position + filled);
    if (read === 0) break;
    filled += read;
  }
  return filled;
}

function changed(file: OpenFile, readBytes: number | undefined): Trouble | undefined {
  if (readBytes !== file.sizeBytes) {
    return problem(
      'file-changed',
      file.path,
      `shrank while it was read; it is padded with zeros to ${file.sizeBytes} bytes`,
    );
  }
  const now = fstatSync(file.fd, { bigint: true });
  if (now.size > file.stats.size) {
    return problem(
      'file-changed',
      file.path,
      `grew while it was read; its first ${file.sizeBytes} bytes are saved`,
    );
  }
  if (now.size === file.stats.size && now.mtimeNs === file.stats.mtimeNs) return undefined;
  return problem('file-changed', file.path, 'changed while it was read');
}
