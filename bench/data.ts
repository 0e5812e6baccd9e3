import { createCipheriv } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const MiB = 2 ** 20;

/** Bytes that look random, different for every seed. */
function noise(seed: number, sizeBytes: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

/** A chat server's log: compressible, and no two stretches of it the same. */
function log(seed: number, sizeBytes: number): Buffer {
  const lines: string[] = [];
  let length = 0;
  for (let i = 0; length < sizeBytes; i++) {
    const x = Math.imul(seed * 7919 + i, 2654435761) >>> 0;
    const line = `2026-11-22T12:${String(i % 60).padStart(2, '0')}:${String(x % 60).padStart(2, '0')}Z [info] <0.${x % 9000}.0> c2s user${x % 5000}@example.org/${x.toString(36)} message to room${x % 97} of ${x % 4096} bytes accepted\n`;
    lines.push(line);
    length += line.length;
  }
  return Buffer.from(lines.join('')).subarray(0, sizeBytes);
}

/** Programs and sources as they lie about on this machine: the Node binary and the installed packages. */
function binaries(root: string): Buffer {
  const parts = [readFileSync(process.execPath)];
  for (const name of readdirSync(join(root, 'node_modules'), {
    recursive: true,
    encoding: 'utf8',
  }).toSorted()) {
    const path = join(root, 'node_modules', name);
    const info = statSync(path, { throwIfNoEntry: false });
    if (info?.isFile() && info.size < MiB) parts.push(readFileSync(path));
  }
  return Buffer.concat(parts);
}

/**
 * Writes a mixed file, the same on every call: per 64 MiB, 24 of logs, 24 of programs (blurred by the position, so that
 * nothing repeats), 12 that cannot be compressed, 4 of zeros.
 */
export function writeMixed(path: string, sizeBytes: number, root: string): void {
  const programs = binaries(root);
  const file = openSync(path, 'w');
  for (let block = 0, written = 0; written < sizeBytes; block++) {
    const start = (block * 24 * MiB) % Math.max(1, programs.length - 24 * MiB);
    const program = Buffer.from(programs.subarray(start, start + 24 * MiB));
    for (let i = 0; i < program.length; i += 4096) program.writeUInt32LE(block, i);
    for (const part of [log(block, 24 * MiB), program, noise(block, 12 * MiB), Buffer.alloc(4 * MiB)]) {
      const rest = part.subarray(0, sizeBytes - written);
      writeSync(file, rest);
      written += rest.length;
    }
  }
  closeSync(file);
}

/** Overwrites 1 % of the file in one place. */
export function changeOnePercent(path: string, seed: number): void {
  const { size } = statSync(path);
  const file = openSync(path, 'r+');
  const length = Math.floor(size / 100);
  writeSync(file, noise(100_000 + seed, length), 0, length, Math.floor(size * 0.4));
  closeSync(file);
}

/** A tree of small files, of 1 to 3 KB, 100 to a folder. */
export function writeSmallFiles(root: string, count: number): void {
  for (let i = 0; i < count; i++) {
    const folder = join(root, `d${Math.floor(i / 100)}`);
    if (i % 100 === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `f${i}`), log(i, 1000 + ((i * 97) % 2000)));
  }
}

const mailFolder = (i: number): string => `mail/user${i % 300}/cur`;

/**
 * A tree as a small server has it, of about 5 GiB in 77,000 files: logs, a mail store, programs, and what people
 * uploaded, which cannot be compressed. Returns files of 10 KB from different places of it.
 */
export function writeServerTree(root: string, programsFrom: string): string[] {
  const programs = binaries(programsFrom);
  let serial = 0;
  const write = (folder: string, name: string, bytes: Buffer): string => {
    mkdirSync(join(root, folder), { recursive: true });
    const path = join(root, folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  /** Between the two sizes, small ones more often than large ones. */
  const size = (from: number, to: number): number => {
    const x = (Math.imul(++serial, 2654435761) >>> 0) / 2 ** 32;
    return Math.floor(from * (to / from) ** x);
  };
  for (let i = 0; i < 100; i++) write(`log/app${i % 10}`, `app.log.${i}`, log(i, size(2 * MiB, 20 * MiB)));
  for (let i = 0; i < 65_000; i++)
    write(mailFolder(i), `${1_700_000_000 + i}.M${i}.mail:2,S`, log(i, size(1500, 40_000)));
  for (let i = 0; i < 8000; i++) {
    const start = (i * 104_729) % (programs.length - MiB);
    const bytes = Buffer.from(programs.subarray(start, start + size(4096, MiB)));
    for (let at = 0; at + 4 <= bytes.length; at += 4096) bytes.writeUInt32LE(i, at);
    write(`programs/package${i % 200}`, `part-${i}`, bytes);
  }
  for (let i = 0; i < 4000; i++) write(`upload/${i % 50}`, `${i}.jpg`, noise(i, size(100_000, 2 * MiB)));
  return [
    write('log/app3', 'small', log(1, 10_000)),
    write(mailFolder(150), 'small', log(2, 10_000)),
    write('programs/package50', 'small', Buffer.from(programs.subarray(0, 10_000))),
    write('upload/7', 'small', noise(4, 10_000)),
  ];
}
