import * as openpgp from 'openpgp';
import { messageOf, SealiftError } from '../errors.ts';
import { parseKeys } from './key-files.ts';

/**
 * Unlocks the private keys of a file: armored, in one block or several, also beside public ones, or binary.
 * `askPassphrase` is called once, and only when one of them is protected; a key that has another passphrase is left out if
 * there is one that opens. Throws `key-unusable` for a file that holds none, `passphrase-wrong`.
 */
export async function unlockPrivateKeys(
  bytes: Buffer,
  file: string,
  askPassphrase: (userId: string) => Promise<string>,
): Promise<openpgp.PrivateKey[]> {
  const none = (reason: string, cause?: unknown): SealiftError =>
    new SealiftError('key-unusable', `${file} holds no private key: ${reason}`, {
      hint: 'Backups open with the private half, which `sealift keys generate` wrote as NAME.key.asc.',
      cause,
    });
  const keys = await parseKeys(bytes).catch((error: unknown) => {
    throw none(messageOf(error), error);
  });
  const privateKeys = keys.filter((key) => key.isPrivate());
  if (privateKeys.length === 0) throw none('what it holds is public');
  let passphrase: string | undefined;
  let wrong: SealiftError | undefined;
  const unlocked: openpgp.PrivateKey[] = [];
  for (const key of privateKeys) {
    if (key.isDecrypted()) {
      unlocked.push(key);
      continue;
    }
    passphrase ??= await askPassphrase(key.getUserIDs()[0] ?? key.getFingerprint().toUpperCase());
    try {
      unlocked.push(await unlock(key, passphrase, file));
    } catch (error) {
      if (!(error instanceof SealiftError)) throw error;
      wrong ??= error;
    }
  }
  if (wrong && unlocked.length === 0) throw wrong;
  return unlocked;
}

async function unlock(
  privateKey: openpgp.PrivateKey,
  passphrase: string,
  file: string,
): Promise<openpgp.PrivateKey> {
  try {
    return await openpgp.decryptKey({ privateKey, passphrase });
  } catch (error) {
    if (!/incorrect key passphrase/i.test(messageOf(error)))
      throw new SealiftError('key-unusable', `${file} cannot be unlocked: ${messageOf(error)}`, {
        hint: 'Is the key on a smartcard, of which the file only tells? Then leave --key out: gpg and its agent use the card.',
        cause: error,
      });
    throw new SealiftError('passphrase-wrong', `the passphrase for ${file} is wrong`, { cause: error });
  }
}
