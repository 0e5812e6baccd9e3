import { SealiftError } from '../errors.ts';

const pkeskTag = 1;
export const signatureTag = 2;
export const onePassTag = 4;
export const compressedTag = 8;
export const seipdTag = 18;
export const literalTag = 11;

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

/** The packet at `start` (RFC 4880, 4.2), undefined where none with a definite length begins. */
export function packetAt(bytes: Uint8Array, start: number): Packet | undefined {
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
  return { tag: tagAt(bytes, start), body: start + header, end };
}

/** The type of the packet that begins at `start`, whatever its length. */
export function tagAt(bytes: Uint8Array, start: number): number {
  const first = bytes[start] ?? 0;
  return (first & 0x40) !== 0 ? first & 0x3f : (first >> 2) & 0x0f;
}

/** Where its body begins and ends. */
interface Packet {
  readonly tag: number;
  readonly body: number;
  readonly end: number;
}
