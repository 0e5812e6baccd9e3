import { hash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { makeFolder, replaceFile, writeNew } from './durable.ts';
import { SealiftError } from './errors.ts';
import { type Guard, guardFolder, readGuarded } from './permissions.ts';

/**
 * What a host keeps between runs. The first three are worth backing up; others have files of their own beside these (locks,
 * `tries/`, the memory of audits).
 *
 *     host-secret        32 random bytes in hex; names of segments hang on it, losing it costs one full upload
 *     host-key.asc       the private half of the host key; losing it means that a new one must be pinned
 *     sequence/<job>     the last sequence number that was committed
 *     journal/           segments of runs that did not finish
 *     mounted/           directory stores that were the root of a mount when this host committed, a file for each
 *     cache/             copies of verified indexes; deleting it is always safe
 *
 * All of it is of mode 0700 or 0600: who reads the secret can test guesses, who writes the key can sign.
 */
export interface State {
  readonly dir: string;
  readonly hostSecret: Uint8Array;
  readonly hostKeyFile: string;
  readonly journalDir: string;
  readonly cacheDir: string;
  /** What `lastSequence` then says. Durable when it resolves. */
  writeSequence(job: string, sequence: number): Promise<void>;
  /** Is there if this host last committed to the store at this address when that was the root of a mount. */
  mountedFile(address: string): string;
}

/** Where the state folder `dir` keeps the private half of the host key. */
export const hostKeyFile = (dir: string): string => join(dir, 'host-key.asc');

/** Where the state folder `dir` keeps copies of verified indexes. */
export const stateCacheDir = (dir: string): string => join(dir, 'cache');

const guard = (what: string): Guard => ({
  what,
  missing: 'config-not-found',
  missingHint: 'run `sealift init` on this host; a rebuilt host restores its old state first',
  refused: 'config-invalid',
  secret: true,
});

const sequenceFile = (dir: string, job: string): string => join(dir, 'sequence', job);

/** Opens the state that `init` made, as `readState`, and makes what a run needs besides. */
export async function openState(dir: string): Promise<State> {
  const opened = readState(dir);
  await makeFolders(dir);
  return opened;
}

/** What `init` made. Throws `config-not-found` if there is none, `config-invalid` if others can get at it. Changes nothing. */
export function readState(dir: string): State {
  guardFolder(dir, guard('state folder'));
  const hostSecret = parseSecret(
    join(dir, 'host-secret'),
    readGuarded(join(dir, 'host-secret'), guard('host secret')),
  );
  return state(dir, hostSecret);
}

/** Makes what is missing of the state and opens it. Nothing that is there is changed. */
export async function createState(dir: string): Promise<State> {
  await makeFolder(dir, 0o700);
  guardFolder(dir, guard('state folder'));
  await makeFolders(dir);
  await writeNew(join(dir, 'host-secret'), `${randomBytes(32).toString('hex')}\n`, 0o600).catch(keepExisting);
  return openState(dir);
}

function state(dir: string, hostSecret: Uint8Array): State {
  return {
    dir,
    hostSecret,
    hostKeyFile: hostKeyFile(dir),
    journalDir: join(dir, 'journal'),
    cacheDir: stateCacheDir(dir),
    writeSequence: (job, sequence) => replaceFile(sequenceFile(dir, job), `${sequence}\n`, 0o600),
    mountedFile: (address) => join(dir, 'mounted', hash('sha256', address).slice(0, 16)),
  };
}

/** The last sequence number of this job that was written there, also where the state is not whole; 0 before the first. */
export function lastSequence(dir: string, job: string): number {
  const path = sequenceFile(dir, job);
  let text: string;
  try {
    text = readGuarded(path, guard('sequence file')).toString('utf8').trim();
  } catch (error) {
    if (error instanceof SealiftError && error.code === 'config-not-found') return 0;
    throw error;
  }
  const sequence = /^\d{1,15}$/.test(text) ? Number(text) : -1;
  if (sequence >= 0) return sequence;
  throw new SealiftError(
    'config-invalid',
    `sequence file ${path} holds "${text.slice(0, 20)}", not a number`,
    { hint: 'delete the file: the next run takes the number from the store' },
  );
}

function parseSecret(path: string, bytes: Buffer): Uint8Array {
  const text = bytes.toString('utf8').trim();
  if (/^[0-9a-f]{64}$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  throw new SealiftError('config-invalid', `host secret ${path} is not 64 hexadecimal digits`, {
    hint: 'restore it from a backup of this host, or delete it and run `sealift init`: that costs one full upload',
  });
}

async function makeFolders(dir: string): Promise<void> {
  for (const name of ['sequence', 'journal', 'cache']) await makeFolder(join(dir, name), 0o700);
}

function keepExisting(error: unknown): void {
  if (!(error instanceof SealiftError) || error.code !== 'target-exists') throw error;
}
