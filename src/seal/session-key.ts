import * as openpgp from 'openpgp';
import { SealiftError, messageOf } from '../errors.ts';

/** Finds the session key of a run from the PKESK packets that its objects begin with. One private-key operation. */
export type SessionKeyFinder = (packets: Uint8Array) => Promise<Uint8Array>;

/** A finder that uses private keys which are unlocked already. Throws `key-wrong` when none of them fits. */
export function findWithPrivateKeys(privateKeys: openpgp.PrivateKey[]): SessionKeyFinder {
  return async (packets) => {
    // A PKESK alone is not a message: a dummy SEIPDv1 packet makes it one. Its content is never looked at.
    const dummy = Buffer.concat([Buffer.from([0xd2, 42, 1]), Buffer.alloc(41)]);
    const binaryMessage = Buffer.concat([packets, dummy]);
    const message = await openpgp.readMessage({ binaryMessage }).catch((error: unknown) => {
      throw new SealiftError('verify-failed', `the object's keys are damaged: ${messageOf(error)}`, {
        cause: error,
      });
    });
    const found = await openpgp
      .decryptSessionKeys({ message, decryptionKeys: privateKeys })
      .catch((error: unknown) => {
        throw new SealiftError('key-wrong', 'the given private key does not open this backup', {
          cause: error,
        });
      });
    const key = found.find(({ algorithm }) => algorithm === 'aes256');
    if (!key) throw new SealiftError('key-wrong', 'the session key of this backup is not an AES-256 key');
    return key.data;
  };
}
