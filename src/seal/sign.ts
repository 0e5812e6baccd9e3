import * as openpgp from 'openpgp';
import { SealiftError, messageOf } from '../errors.ts';
import { compressedTag, literalTag, onePassTag, packetAt, signatureTag, tagAt } from './packets.ts';

/**
 * Inline-signed binary OpenPGP messages, literal and uncompressed, so that
 * `gpgv --keyring host.gpg --output content message` gives back the exact bytes.
 */

/** The time in a signature: one before the key existed would make it invalid. */
function notBefore(signingKey: openpgp.PrivateKey, date: Date): Date {
  const created = signingKey.getCreationTime();
  return date < created ? created : date;
}

/** Signs with a host key. */
export async function signBytes(
  content: Uint8Array,
  signingKey: openpgp.PrivateKey,
  date: Date,
): Promise<Uint8Array> {
  const message = await openpgp.createMessage({
    binary: content,
    filename: '',
    date: new Date(0),
    format: 'binary',
  });
  return openpgp.sign({
    message,
    signingKeys: signingKey,
    date: notBefore(signingKey, date),
    format: 'binary',
    config: { preferredCompressionAlgorithm: openpgp.enums.compression.uncompressed },
  });
}

/** A cleartext signature, for a text that people read. Nothing of ours relies on it. */
export async function signText(text: string, signingKey: openpgp.PrivateKey, date: Date): Promise<string> {
  const message = await openpgp.createCleartextMessage({ text });
  const signed = await openpgp.sign({ message, signingKeys: signingKey, date: notBefore(signingKey, date) });
  // OpenPGP.js ends lines as mail does. The signature does not cover line ends, and a shell needs plain ones.
  return signed.replaceAll('\r\n', '\n');
}

export interface SignedContent {
  readonly content: Uint8Array;
  /** The trusted key that signed it. */
  readonly signer: openpgp.PublicKey;
}

/**
 * The content of a signed message, if one of the trusted keys made the signature. Throws `key-untrusted` when another
 * key signed it, `verify-failed` when it is no signed message or was changed.
 */
export async function openSigned(
  message: Uint8Array,
  trusted: readonly openpgp.PublicKey[],
  what: string,
): Promise<SignedContent> {
  const damaged = (reason: string, cause?: unknown): SealiftError =>
    new SealiftError('verify-failed', `${what} is damaged or forged: ${reason}`, { cause });
  let result: openpgp.VerifyMessageResult<Uint8Array>;
  let issuers: string[];
  try {
    refuseOtherForms(message);
    const parsed = await openpgp.readMessage({ binaryMessage: message });
    result = await openpgp.verify({
      message: parsed,
      verificationKeys: [...trusted],
      format: 'binary',
      // Clocks differ between machines; when it was signed is judged by the store's time, not here.
      date: null,
    });
    issuers = await Promise.all(
      result.signatures.map(async ({ keyID, signature }) => issuerOf(await signature, keyID)),
    );
  } catch (error) {
    throw damaged(messageOf(error), error);
  }
  for (const { keyID, verified } of result.signatures) {
    const signer = trusted.find((key) => key.getKeys(keyID).length > 0);
    if (!signer) continue;
    await verified.catch((error: unknown) => {
      throw damaged(messageOf(error), error);
    });
    return { content: result.data, signer };
  }
  if (issuers.length === 0) throw damaged('it carries no signature');
  throw new SealiftError(
    'key-untrusted',
    `${what} is signed by a key that is not trusted here: ${issuers.join(', ')}`,
    {
      hint: 'If the fingerprint is the one that `sealift init` printed on the host: sealift keys trust FINGERPRINT',
    },
  );
}

const mostSignatures = 16;

/**
 * Anybody who can write to the store chooses these bytes, and nothing is known of them yet: what would be unpacked to any
 * size, or verified any number of times, is refused by its packet headers. Throws an Error that says why.
 */
function refuseOtherForms(message: Uint8Array): void {
  let signatures = 0;
  let at = 0;
  for (;;) {
    const packet = packetAt(message, at);
    if (packet?.tag !== onePassTag && packet?.tag !== signatureTag) break;
    signatures += 1;
    at = packet.end;
  }
  if (signatures > mostSignatures) throw new Error(`it carries ${signatures} signatures`);
  // The literal packet may have partial lengths.
  const tag = tagAt(message, at);
  if (tag === compressedTag) throw new Error('it is compressed, and no index is');
  if (tag !== literalTag) throw new Error('it is not a signed message');
}

function issuerOf(signature: openpgp.Signature, keyId: openpgp.KeyID): string {
  const { issuerFingerprint } = signature.packets[0] ?? {};
  return issuerFingerprint
    ? Buffer.from(issuerFingerprint).toString('hex').toUpperCase()
    : keyId.toHex().toUpperCase();
}
