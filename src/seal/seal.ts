import { randomBytes } from 'node:crypto';
import * as openpgp from 'openpgp';

/**
 * What seals the segments of one run: a random session key, held only in memory, and the PKESK packets that carry it
 * to every recipient, computed once. Plain data, so that it can be handed to worker threads.
 */
export interface Seal {
  /** 32 bytes, AES-256. */
  readonly sessionKey: Uint8Array;
  readonly packets: Uint8Array;
}

/** Makes the seal of a run for these recipients, which were checked before (seal/recipients.ts). */
export async function createSeal(recipients: openpgp.PublicKey[]): Promise<Seal> {
  const sessionKey = new Uint8Array(randomBytes(32));
  const packets = await openpgp.encryptSessionKey({
    data: sessionKey,
    algorithm: 'aes256',
    encryptionKeys: recipients,
    format: 'binary',
  });
  return { sessionKey, packets };
}

/**
 * One complete OpenPGP message: the PKESK packets, then one SEIPDv1 packet (RFC 4880, 5.13) that stock GnuPG 2.2 opens.
 * Always with the given session key: left to itself OpenPGP.js would take AES-128 or SEIPDv2 by the recipients' wishes.
 */
export async function sealBytes(seal: Seal, content: Uint8Array): Promise<Buffer> {
  const message = await openpgp.createMessage({
    binary: content,
    filename: '',
    date: new Date(0),
    format: 'binary',
  });
  const encrypted = await openpgp.encrypt({
    message,
    sessionKey: { data: seal.sessionKey, algorithm: 'aes256' },
    format: 'binary',
    config: { aeadProtect: false, preferredCompressionAlgorithm: openpgp.enums.compression.uncompressed },
  });
  const object = Buffer.allocUnsafeSlow(seal.packets.length + encrypted.length);
  object.set(seal.packets);
  object.set(encrypted, seal.packets.length);
  return object;
}
