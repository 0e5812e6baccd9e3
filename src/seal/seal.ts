import { randomBytes } from 'node:crypto';
import * as openpgp from 'openpgp';
import type { Seal } from './message.ts';

/**
 * Makes the seal of a run for these recipients, which were checked before (seal/recipients.ts), as of the same time: which
 * of their subkeys is sealed to depends on it, and the store's is not this machine's.
 */
export async function createSeal(recipients: openpgp.PublicKey[], date: Date): Promise<Seal> {
  const sessionKey = new Uint8Array(randomBytes(32));
  const packets = await openpgp.encryptSessionKey({
    data: sessionKey,
    algorithm: 'aes256',
    encryptionKeys: recipients,
    date,
    format: 'binary',
  });
  return { sessionKey, packets };
}
