import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { systemCode } from '../errors.ts';
import { type ByteName, systemPath } from './byte-name.ts';
import type { TarEntry } from './tar-records.ts';
import { type Given, type Keep, setAttributes } from './unpack-attributes.ts';

const pieceBytes = 64 * 1024;
const zeros = Buffer.alloc(pieceBytes);

/**
 * Writes one new file; what is not complete with its attributes, as far as the target keeps them, is removed again. Long
 * runs of zeros become holes, so that a sparse file of a terabyte fits where it came from. Returns which file it is.
 */
export async function writeFile(
  at: ByteName,
  entry: TarEntry,
  body: AsyncIterable<Uint8Array>,
  keep: Keep,
): Promise<{ inode: BigIntStats; given: Given }> {
  const fd = openNew(at);
  let complete = false;
  try {
    let position = 0;
    if (entry.sizeBytes > 0) {
      for await (const chunk of body) {
        writeChunk(fd, chunk, position);
        position += chunk.length;
      }
    }
    if (position !== entry.sizeBytes) throw new Error(`${position} of ${entry.sizeBytes} bytes arrived`);
    ftruncateSync(fd, position);
    const given = setAttributes(fd, entry, keep);
    const inode = fstatSync(fd, { bigint: true });
    complete = true;
    return { inode, given };
  } finally {
    closeSync(fd);
    if (!complete) discard(at);
  }
}

/** Throws if a file cannot have this name; what has it stays. */
export function tryName(at: ByteName): void {
  try {
    closeSync(openNew(at));
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return;
    throw error;
  }
  discard(at);
}

function openNew(at: ByteName): number {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return openSync(systemPath(at), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
}

/** What cannot be removed either stays: what went wrong before says more. */
export function discard(at: ByteName): void {
  try {
    unlinkSync(systemPath(at));
  } catch {
    // Nothing is lost by it.
  }
}

function writeChunk(fd: number, chunk: Uint8Array, position: number): void {
  let start = 0;
  for (let at = 0; at < chunk.length; at += pieceBytes) {
    const end = Math.min(at + pieceBytes, chunk.length);
    if (zeros.compare(chunk, at, end, 0, end - at) !== 0) continue;
    writeAll(fd, chunk, start, at, position);
    start = end;
  }
  writeAll(fd, chunk, start, chunk.length, position);
}

function writeAll(fd: number, chunk: Uint8Array, from: number, to: number, position: number): void {
  for (let at = from; at < to;) at += writeSync(fd, chunk, at, to - at, position + at);
}
