import { createHmac, hkdfSync } from 'node:crypto';

/** The host's key for segment ids, 32 bytes: HKDF-SHA256 of the host secret. */
export const segmentIdKey = (hostSecret: Uint8Array): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', hostSecret, '', 'sealift/1/segment-id', 32));

/** The first 32 hex digits of HMAC-SHA256: whoever sees the store cannot test it for content that he knows. */
export const segmentId = (idKey: Uint8Array, plaintext: Uint8Array): string =>
  createHmac('sha256', idKey).update(plaintext).digest('hex').slice(0, 32);
