import { createHmac } from 'node:crypto';

/**
 * The cutting rules of docs/format.md, written down once more from the text alone: plain numbers, one byte at a time,
 * the hash over the whole segment from its first byte. Shares nothing with src/segments/chunker.ts.
 */

/** HKDF-SHA256 (RFC 5869) with an empty salt. */
export function referenceHkdf(secret: Uint8Array, info: string, sizeBytes: number): Buffer {
  const pseudoRandomKey = createHmac('sha256', Buffer.alloc(32)).update(secret).digest();
  const blocks: Buffer[] = [];
  let last: Buffer = Buffer.alloc(0);
  for (let i = 1; blocks.length * 32 < sizeBytes; i++) {
    last = createHmac('sha256', pseudoRandomKey)
      .update(last)
      .update(info)
      .update(Buffer.from([i]))
      .digest();
    blocks.push(last);
  }
  return Buffer.concat(blocks).subarray(0, sizeBytes);
}

export function referenceTable(secret: Uint8Array): number[] {
  const bytes = referenceHkdf(secret, 'sealift/1/chunker', 1024);
  return Array.from({ length: 256 }, (_, i) => bytes.readUInt32LE(4 * i));
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** The lengths of the segments of `bytes`, whose first byte is at `offset` of its stream and starts a segment. */
export function referenceCuts(table: readonly number[], bytes: Uint8Array, offset = 0): number[] {
  const lengths: number[] = [];
  let start = 0;
  while (start < bytes.length) {
    const fine = offset + start < 2 ** 30;
    const [min, normal, max] = fine ? [512 * KiB, MiB, 4 * MiB] : [MiB, 4 * MiB, 16 * MiB];
    const [strictBits, looseBits] = fine ? [22, 18] : [23, 21];
    const strictLimit = 2 ** (32 - strictBits); // the top bits are zero below this
    const looseLimit = 2 ** (32 - looseBits);
    let hash = 0;
    let length = 0;
    while (start + length < bytes.length) {
      hash = (hash * 2 + table[bytes[start + length]!]!) % 2 ** 32;
      length++;
      if (length >= max) break;
      if (length >= min && hash < (length < normal ? strictLimit : looseLimit)) break;
    }
    lengths.push(length);
    start += length;
  }
  return lengths;
}
