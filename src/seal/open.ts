import * as openpgp from 'openpgp';
import { SealiftError, messageOf } from '../errors.ts';

const pkeskTag = 1;
const seipdTag = 18;

/** The PKESK packets that an object begins with, as raw bytes. Throws `verify-failed` if there are none. */
export function sealPackets(object: Uint8Array): Uint8Array {
  let end = 0;
  for (;;) {
    const packet = packetAt(object, end);
    if (packet?.tag !== pkeskTag) break;
    end = packet.end;
  }
  if (end === 0)
    throw new SealiftError('verify-failed', 'the object is not an OpenPGP message to public keys');
  return object.subarray(0, end);
}

/**
 * The ids (upper-case hex) of the keys that a sealed object is for, from its packet headers alone. Throws `verify-failed`
 * for what is not public-key packets followed by one encrypted packet with integrity protection, to the last byte.
 */
export function sealedFor(object: Uint8Array): string[] {
  const ids: string[] = [];
  let start = 0;
  for (;;) {
    const packet = packetAt(object, start);
    if (!packet) throw notSealed(start === 0 ? 'it does not begin with a packet' : 'a packet is cut off');
    const body = object.subarray(packet.body, packet.end);
    if (packet.tag === seipdTag) {
      if (ids.length === 0) throw notSealed('it is for no public key');
      if (body[0] !== 1) throw notSealed('its encryption is of an unknown version');
      if (packet.end !== object.length) throw notSealed('something follows the encrypted packet');
      return ids;
    }
    if (packet.tag !== pkeskTag || body[0] !== 3) throw notSealed(`it holds a packet of type ${packet.tag}`);
    ids.push(Buffer.from(body.subarray(1, 9)).toString('hex').toUpperCase());
    start = packet.end;
  }
}

const notSealed = (reason: string): SealiftError =>
  new SealiftError('verify-failed', `the object is not an OpenPGP message to public keys: ${reason}`);

/** The id by which a sealed object names a key: the low end of a fingerprint, of a version 6 key the high one. */
export const keyIdOf = (fingerprint: string): string =>
  fingerprint.length === 40 ? fingerprint.slice(-16) : fingerprint.slice(0, 16);

/** Tag, body and end of the packet at `start` (RFC 4880, 4.2), undefined where none with a definite length begins. */
function packetAt(bytes: Uint8Array, start: number): Packet | undefined {
  const first = bytes[start] ?? 0;
  if ((first & 0x80) === 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const has = (count: number): boolean => start + count <= bytes.length;
  let header: number;
  let length: number;
  if ((first & 0x40) !== 0) {
    const l = bytes[start + 1] ?? 0xff;
    if (l < 192) [header, length] = [2, l];
    else if (l < 224 && has(3)) [header, length] = [3, ((l - 192) << 8) + bytes[start + 2]! + 192];
    else if (l === 255 && has(6)) [header, length] = [6, view.getUint32(start + 2)];
    else return undefined;
  } else {
    const kind = first & 3;
    if (kind === 0 && has(2)) [header, length] = [2, bytes[start + 1]!];
    else if (kind === 1 && has(3)) [header, length] = [3, view.getUint16(start + 1)];
    else if (kind === 2 && has(5)) [header, length] = [5, view.getUint32(start + 1)];
    else return undefined;
  }
  const end = start + header + length;
  if (end > bytes.length) return undefined;
  const tag = (first & 0x40) !== 0 ? first & 0x3f : (first >> 2) & 0x0f;
  return { tag, body: start + header, end };
}

interface Packet {
  readonly tag: number;
  readonly body: number;
  readonly end: number;
}

/** Opens the content of a sealed object, given its session key (32 bytes). Throws `verify-failed` when it was changed. */
export async function openBytes(object: Uint8Array, sessionKey: Uint8Array): Promise<Uint8Array> {
  try {
    const message = await openpgp.readMessage({ binaryMessage: object });
    const { data } = await openpgp.decrypt({
      message,
      sessionKeys: [{ data: sessionKey, algorithm: 'aes256' }],
      format: 'binary',
    });
    return data;
  } catch (error) {
    throw new SealiftError('verify-failed', `the object cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

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
        const ids = message.getEncryptionKeyIDs().map((id) => id.toHex().toUpperCase());
        throw new SealiftError('key-wrong', `the given private key does not open this backup`, {
          hint: `It is sealed to the key ids ${ids.join(', ')}.`,
          cause: error,
        });
      });
    const key = found.find(({ algorithm }) => algorithm === 'aes256');
    if (!key) throw new SealiftError('key-wrong', 'the session key of this backup is not an AES-256 key');
    return key.data;
  };
}
