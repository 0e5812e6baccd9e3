import * as openpgp from 'openpgp';
import { messageOf, SealiftError } from '../errors.ts';

/**
 * Unlocks the private keys of an armored or binary file. `askPassphrase` is called once, and only when one of them is
 * protected. Throws `key-unusable` for a file that holds none, `passphrase-wrong`.
 */
export async function unlockPrivateKeys(
  bytes: Buffer,
  file: string,
  askPassphrase: (userId: string) => Promise<string>,
): Promise<openpgp.PrivateKey[]> {
  const armored = bytes.subarray(0, 64).toString('latin1').includes('-----BEGIN');
  const keys = await (
    armored
      ? openpgp.readPrivateKeys({ armoredKeys: bytes.toString('utf8') })
      : openpgp.readPrivateKeys({ binaryKeys: bytes })
  ).catch((error: unknown) => {
    throw new SealiftError('key-unusable', `${file} holds no private key: ${messageOf(error)}`, {
      hint: 'Backups open with the private half, which `sealift keys generate` wrote as NAME.key.asc.',
      cause: error,
    });
  });
  let passphrase: string | undefined;
  const unlocked: openpgp.PrivateKey[] = [];
  for (const key of keys) {
    if (key.isDecrypted()) {
      unlocked.push(key);
      continue;
    }
    passphrase ??= await askPassphrase(key.getUserIDs()[0] ?? key.getFingerprint().toUpperCase());
    unlocked.push(await unlock(key, passphrase, file));
  }
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
        cause: error,
      });
    throw new SealiftError('passphrase-wrong', `the passphrase for ${file} is wrong`, { cause: error });
  }
}
