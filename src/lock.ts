import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SealiftError, messageOf } from './errors.ts';
import { findProgram, searchPath } from './process.ts';

/**
 * An exclusive lock that ends with its process, however that ends. It belongs to the open file, not to who took it: the
 * program flock, as Node has no such call, takes it for ours and ends. (The lock that SQLite would take belongs to the
 * process and its file, and goes as soon as the process closes that file anywhere, as after a backup of the state folder.)
 * Throws `lock-held` when somebody else has it.
 */
export async function takeLock(file: string, what: string): Promise<Disposable> {
  const flock = await findProgram('flock', [...searchPath(), '/usr/bin', '/bin']);
  if (flock === undefined)
    throw new SealiftError('tool-missing', 'flock is not installed', { hint: 'apt-get install util-linux' });
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  let fd: number | undefined;
  try {
    fd = openSync(file, 'a', 0o600);
    const taking = spawn(flock, ['-n', '3'], { env: {}, stdio: ['ignore', 'ignore', 'ignore', fd] });
    const [status, signal] = (await once(taking, 'exit')) as [number | null, NodeJS.Signals | null];
    if (status === 0) {
      const held = fd;
      return { [Symbol.dispose]: () => closeSync(held) };
    }
    if (status !== 1) throw new Error(`flock ended with ${signal ?? `status ${status}`}`);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw new SealiftError('failed', `the lock ${file} cannot be taken: ${messageOf(error)}`, {
      hint: 'Is the disk of the state folder full, or the file not writable?',
      cause: error,
    });
  }
  closeSync(fd);
  throw new SealiftError('lock-held', `another run of ${what} is active`, {
    hint: 'Wait for it to end. The lock goes with its process; there is nothing to clean up.',
  });
}
