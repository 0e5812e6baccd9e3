import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { inBlocks } from '../src/blocks.ts';

const blockBytes = 256 * 1024;

suite('bytes in blocks', () => {
  test('are the same bytes however they are cut, and all blocks but the last are full', async () => {
    const sizes = fc.array(
      fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 3 * blockBytes })),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(sizes, async (lengths) => {
        const pieces = lengths.map((length, i) => Buffer.alloc(length, i + 1));
        const whole = Buffer.concat(pieces);
        // A block is good only until the next one is asked for.
        const blocks: Buffer[] = [];
        for await (const block of inBlocks(given(pieces))) blocks.push(Buffer.from(block));
        assert.ok(Buffer.concat(blocks).equals(whole));
        assert.deepEqual(
          blocks.map(({ length }) => length),
          lengthsOf(whole.length),
        );
      }),
      {
        numRuns: 60,
        examples: [
          [[]],
          [[1]],
          [[blockBytes]],
          [[blockBytes + 1]],
          [[blockBytes - 1, 2]],
          [[1, 2 * blockBytes]],
        ],
      },
    );
  });

  test('stop with what the pieces stop with', async () => {
    await assert.rejects(Array.fromAsync(inBlocks(broken())), /the pipe broke/);
  });
});

async function* broken(): AsyncGenerator<Buffer, void, void> {
  yield Buffer.alloc(10);
  throw new Error('the pipe broke');
}

async function* given(pieces: readonly Buffer[]): AsyncGenerator<Buffer, void, void> {
  for (const piece of pieces) yield Buffer.from(piece);
}

function lengthsOf(total: number): number[] {
  const rest = total % blockBytes;
  return [...Array<number>(Math.floor(total / blockBytes)).fill(blockBytes), ...(rest > 0 ? [rest] : [])];
}
