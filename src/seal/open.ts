import { createCipheriv, createHash } from 'node:crypto';
import { SealiftError, messageOf } from '../errors.ts';
import { release } from '../memory.ts';
import { literalHeader, mdcBytes, mdcHeader, prefixBytes } from './message.ts';
import { literalTag, packetAt, sealPackets, seipdTag } from './packets.ts';

/**
 * The content of a sealed object, given its session key (32 bytes). Throws `verify-failed` when it was changed.
 *
 * What `sealBytes` wrote is opened here, because this is the hot path of a restore: OpenPGP.js needs more than twice the
 * time. It opens every other form that there may be, and says what is wrong with an object that was changed.
 */
export async function openBytes(object: Uint8Array, sessionKey: Uint8Array): Promise<Uint8Array> {
  return openOurForm(object, sessionKey) ?? (await openAnyForm(object, sessionKey));
}

/** Undefined unless the object is, to the last byte, of the form that `sealBytes` gives it. */
export function openOurForm(object: Uint8Array, sessionKey: Uint8Array): Uint8Array | undefined {
  const packet = packetAt(object, sealPackets(object).length);
  if (packet?.tag !== seipdTag || packet.end !== object.length || object[packet.body] !== 1) return undefined;
  const data = decrypt(sessionKey, object.subarray(packet.body + 1));
  const mdc = data.subarray(-mdcBytes);
  const hash = createHash('sha1').update(data.subarray(0, -mdcBytes)).update(mdcHeader).digest();
  if (!Buffer.concat([mdcHeader, hash]).equals(mdc)) return undefined;
  const literal = packetAt(data, prefixBytes);
  const isLast = literal?.tag === literalTag && literal.end === data.length - mdcBytes;
  if (!isLast || !data.subarray(literal.body).subarray(0, literalHeader.length).equals(literalHeader))
    return undefined;
  return data.subarray(literal.body + literalHeader.length, literal.end);
}

const blockBytes = 16;
/** Whole blocks, and few enough bytes to stay in the processor's cache. */
const pieceBytes = 64 * 1024;

/**
 * AES-256 in CFB mode with a zero initialisation vector, backwards (RFC 4880, 13.9): the plaintext of a block is its
 * ciphertext XOR what the cipher makes of the block of ciphertext before it. Those are all known, so the cipher takes many
 * at a time (ECB); in its CFB mode OpenSSL takes one after the other, and 1.6 times as long for the whole.
 */
function decrypt(sessionKey: Uint8Array, ciphertext: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-ecb', sessionKey, null).setAutoPadding(false);
  const plaintext = Buffer.allocUnsafeSlow(wholeBlocks(ciphertext.length));
  // A piece, and before it the last block of the one before.
  const window = Buffer.alloc(blockBytes + pieceBytes);
  for (let at = 0; at < ciphertext.length; at += pieceBytes) {
    const piece = ciphertext.subarray(at, at + pieceBytes);
    window.set(piece, blockBytes);
    const length = wholeBlocks(piece.length);
    const mask = cipher.update(window.subarray(0, length));
    xor(words(mask), words(window, blockBytes), words(plaintext, at), length / 4);
    release(mask);
    window.copyWithin(0, pieceBytes);
  }
  return plaintext.subarray(0, ciphertext.length);
}

const wholeBlocks = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes;

const words = ({ buffer, byteOffset, byteLength }: Buffer, at = 0): Int32Array =>
  new Int32Array(buffer, byteOffset + at, (byteLength - at) >>> 2);

/** `count` words, a multiple of four. Four at a time are four times as fast as one. */
function xor(a: Int32Array, b: Int32Array, result: Int32Array, count: number): void {
  for (let i = 0; i < count; i += 4) {
    result[i] = a[i]! ^ b[i]!;
    result[i + 1] = a[i + 1]! ^ b[i + 1]!;
    result[i + 2] = a[i + 2]! ^ b[i + 2]!;
    result[i + 3] = a[i + 3]! ^ b[i + 3]!;
  }
}

/** Several times what a segment compresses to at the worst: a few bytes that were packed often could become any number. */
const config = { maxDecompressedMessageSize: 2 ** 26 };

async function openAnyForm(object: Uint8Array, sessionKey: Uint8Array): Promise<Uint8Array> {
  // It is large, and hardly ever needed here.
  const openpgp = await import('openpgp');
  try {
    const message = await openpgp.readMessage({ binaryMessage: object, config });
    const { data } = await openpgp.decrypt({
      message,
      sessionKeys: [{ data: sessionKey, algorithm: 'aes256' }],
      format: 'binary',
      config,
    });
    return data;
  } catch (error) {
    throw new SealiftError('verify-failed', `the object cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
