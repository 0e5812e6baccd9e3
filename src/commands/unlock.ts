import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { PrivateKey } from 'openpgp';
import { messageOf, SealiftError } from '../errors.ts';
import { takeLastLine } from '../last-line.ts';
import { printable } from '../output.ts';
import { askHidden, readPassphraseFile } from '../prompt.ts';
import { findWithGpg } from '../seal/gpg.ts';
import { findWithPrivateKeys, type SessionKeyFinder } from '../seal/session-key.ts';
import { unlockPrivateKeys } from '../seal/private-key.ts';
import type { Context } from './context.ts';

export interface UnlockOptions {
  readonly key?: string;
  readonly passphraseFile?: string;
}

/** What opens sealed data: the private key file that was given, else the system's gpg with its agent. */
export async function sessionKeyFinder(context: Context, options: UnlockOptions): Promise<SessionKeyFinder> {
  const { environment, signal } = context;
  if (options.key === undefined) {
    if (options.passphraseFile !== undefined)
      throw new SealiftError('usage', '--passphrase-file goes with --key', {
        hint: 'Without --key, gpg and its agent are used, and the agent asks.',
      });
    const find = findWithGpg(environment.forGpg(), signal);
    return (packets) => takeLastLine(() => find(packets)); // its agent may ask on the terminal
  }
  return findWithPrivateKeys(await unlockKeyFile(context, options.key, options.passphraseFile));
}

/** The private keys of a file; a passphrase comes from its file or a hidden prompt. */
export async function unlockKeyFile(
  { environment, signal }: Context,
  keyFile: string,
  passphraseFile: string | undefined,
): Promise<PrivateKey[]> {
  const file = resolve(environment.cwd, keyFile);
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new SealiftError('key-missing', `the private key ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  });
  return unlockPrivateKeys(bytes, file, async (userId) =>
    passphraseFile === undefined
      ? askHidden(`Passphrase of ${printable(userId)}: `, signal)
      : readPassphraseFile(resolve(environment.cwd, passphraseFile)),
  );
}
