import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { release } from './memory.ts';

const blockBytes = 256 * 1024;

/** A pipe, and its bytes in blocks of 256 KiB; only the last may be shorter. A block is good until the next is asked for. */
export interface InBlocks {
  /** For when it is to be given up: it is read through `blocks` alone. */
  readonly pipe: Readable;
  readonly blocks: AsyncIterable<Buffer>;
}

/**
 * Takes over the output of a program that has just been started. What goes through all the steps of a stream by itself
 * costs as much for a piece of a few KiB as for a whole block.
 *
 * The system fills the block itself. A stream of Node would make a buffer for every read, of at most 64 KiB, and what is
 * in it would be copied: a dump then takes a tenth more time (docs/measurements.md). Node has a way to read into memory of
 * ours (`onread`) but offers it for connections alone; hence the handle, which is no documented part of it.
 */
export function inBlocks(output: Readable): InBlocks {
  const handle = takeHandle(output);
  return handle === undefined ? { pipe: output, blocks: copied(output) } : filled(handle);
}

type Handle = object;

/** Of a pipe that nothing has come from yet, which is left without it. None where Node keeps it otherwise than it did. */
function takeHandle(output: Readable & { _handle?: Handle | null }): Handle | undefined {
  const { _handle: handle } = output;
  if (!handle || !('useUserBuffer' in handle)) return undefined;
  output._handle = null;
  output.destroy();
  return handle;
}

function filled(handle: Handle): InBlocks {
  const block = Buffer.allocUnsafeSlow(blockBytes);
  let length = 0;
  let changed = Promise.withResolvers<void>();
  const onread = {
    buffer: () => block.subarray(length === blockBytes ? 0 : length),
    callback: (count: number): boolean => {
      length += count;
      if (length < blockBytes) return true;
      changed.resolve();
      return false; // until the block has been used
    },
  };
  const pipe = new Socket({ handle, readable: true, writable: false, onread } as object);
  for (const event of ['error', 'end', 'close']) pipe.on(event, () => changed.resolve());
  return { pipe, blocks: blocks() };

  async function* blocks(): AsyncGenerator<Buffer, void, void> {
    for (;;) {
      // Node reads from the start: a block that has filled before anybody asked for it is not read into again.
      if (length < blockBytes && !pipe.readableEnded && !pipe.destroyed) {
        pipe.resume();
        await changed.promise;
      }
      if (pipe.errored) throw pipe.errored;
      if (!pipe.readableEnded && pipe.destroyed) throw new Error('the pipe was closed before its end');
      if (length > 0) yield block.subarray(0, length);
      if (pipe.readableEnded) return;
      length = 0;
      changed = Promise.withResolvers();
    }
  }
}

/** A piece is consumed. */
async function* copied(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
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
