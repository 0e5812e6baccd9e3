import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SealiftError, messageOf } from './errors.ts';

/**
 * An exclusive lock that ends with its process, however that ends: Node has no flock, but an exclusive SQLite
 * transaction holds a POSIX lock on the file, which the kernel releases. Throws `lock-held` when somebody else has it.
 */
export async function takeLock(file: string, what: string): Promise<Disposable> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: 0 });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (!/locked|busy/i.test(messageOf(error)))
      throw new SealiftError('failed', `the lock ${file} cannot be taken: ${messageOf(error)}`, {
        hint: 'Is the disk of the state folder full, or the file not writable?',
        cause: error,
      });
    throw new SealiftError('lock-held', `another run of ${what} is active`, {
      hint: 'Wait for it to end. The lock goes with its process; there is nothing to clean up.',
      cause: error,
    });
  }
  const held = database;
  return {
    [Symbol.dispose]() {
      held.close();
    },
  };
}
