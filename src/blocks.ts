import { release } from './memory.ts';

const blockBytes = 256 * 1024;

/**
 * The same bytes in blocks of 256 KiB; only the last may be shorter. A pipe gives them in pieces of a few KiB, and each
 * piece that goes through all the steps of a stream by itself costs as much as a whole block. A piece is consumed; a
 * block is good until the next is asked for.
 */
export async function* inBlocks(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  const block = Buffer.allocUnsafeSlow(blockBytes);
  let length = 0;
  for await (const piece of pieces) {
    for (let from = 0; from < piece.length;) {
      const count = piece.copy(block, length, from);
      from += count;
      length += count;
      if (length < blockBytes) continue;
      yield block;
      length = 0;
    }
    release(piece);
  }
  if (length > 0) yield block.subarray(0, length);
}
