import * as openpgp from 'openpgp';
import { messageOf, SealiftError } from '../errors.ts';

/** Detached armored signatures, which `gpg --verify FILE.asc FILE` checks. */

/** The first of these private keys that can sign. Throws `key-unusable` if none can. */
export async function findSigningKey(
  keys: readonly openpgp.PrivateKey[],
  file: string,
  now: Date,
): Promise<openpgp.PrivateKey> {
  let reason = 'it holds no private key';
  for (const key of keys) {
    try {
      await key.getSigningKey(undefined, now);
      return key;
    } catch (error) {
      reason = messageOf(error);
    }
  }
  throw new SealiftError('key-unusable', `${file} holds no key that can sign: ${reason}`);
}

export async function signDetached(
  content: Uint8Array,
  signingKey: openpgp.PrivateKey,
  date: Date,
): Promise<string> {
  const message = await openpgp.createMessage({ binary: content });
  const armored = await openpgp.sign({
    message,
    signingKeys: signingKey,
    detached: true,
    date,
    format: 'armored',
  });
  return armored.replaceAll('\r\n', '\n');
}

export interface DetachedSignature {
  /** Upper-case hex. */
  readonly signer: string;
  readonly userId: string | undefined;
  readonly signedAt: Date | undefined;
}

/**
 * Who of these signed the content. Throws `key-untrusted` when somebody else did, `verify-failed` when it was changed
 * after it was signed, or this is no signature.
 */
export async function verifyDetached(
  content: Uint8Array,
  armoredSignature: string,
  signers: readonly openpgp.PublicKey[],
  what: string,
): Promise<DetachedSignature> {
  const failed = (error: unknown): SealiftError =>
    new SealiftError('verify-failed', `${what} is not what was signed: ${messageOf(error)}`, {
      cause: error,
    });
  try {
    const signature = await openpgp.readSignature({ armoredSignature });
    const message = await openpgp.createMessage({ binary: content });
    const { signatures } = await openpgp.verify({
      message,
      signature,
      verificationKeys: [...signers],
      // A report is read for years: what counts is the key when it was signed.
      date: null,
    });
    for (const { keyID, verified, signature: packets } of signatures) {
      const key = signers.find((signer) => signer.getKeys(keyID).length > 0);
      if (!key) continue;
      await verified;
      return {
        signer: key.getFingerprint().toUpperCase(),
        userId: key.getUserIDs()[0],
        signedAt: (await packets).packets[0]?.created ?? undefined,
      };
    }
    const ids = signatures.map(({ keyID }) => keyID.toHex().toUpperCase());
    throw new SealiftError('key-untrusted', `${what} is signed by another key: ${ids.join(', ')}`, {
      hint: 'Give the public key of the auditor with --signer, and be sure whose it is.',
    });
  } catch (error) {
    throw error instanceof SealiftError ? error : failed(error);
  }
}
