import { createCipheriv } from 'node:crypto';

/** Bytes that look random and are the same in every run: the AES-128-CTR key stream of a small number. */
export function pseudoRandom(seed: number, sizeBytes: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

/** The bytes as a stream of pieces of this size. */
export async function* inPieces(bytes: Uint8Array, pieceBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += pieceBytes) yield bytes.subarray(i, i + pieceBytes);
}

/** All that a stream yields, in one piece. A chunk is good until the next is asked for. */
export const collect = async (stream: AsyncIterable<Uint8Array>): Promise<Buffer> =>
  Buffer.concat(await Array.fromAsync(stream, (chunk) => Buffer.from(chunk)));
