import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { inBlocks } from '../src/blocks.ts';

const blockBytes = 256 * 1024;

suite('the output of a program in blocks', () => {
  test('is the same bytes however they come, and all blocks but the last are full', async () => {
    const sizes = fc.array(
      fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 3 * blockBytes })),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(sizes, async (lengths) => {
        const pieces = lengths.map((length, i) => Buffer.alloc(length, i + 1));
        const whole = Buffer.concat(pieces);
        for (const output of [cat(pieces), Readable.from(pieces.map((piece) => Buffer.from(piece)))]) {
          // A block is good only until the next one is asked for.
          const blocks: Buffer[] = [];
          for await (const block of inBlocks(output).blocks) blocks.push(Buffer.from(block));
          assert.ok(Buffer.concat(blocks).equals(whole));
          assert.deepEqual(
            blocks.map(({ length }) => length),
            lengthsOf(whole.length),
          );
        }
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

  test('is read by the system into the block, with no stream of Node between', async () => {
    const output = cat([Buffer.from('some')]);
    const { pipe, blocks } = inBlocks(output);
    assert.notEqual(pipe, output);
    assert.ok(output.destroyed);
    assert.equal(String((await Array.fromAsync(blocks))[0]), 'some');
  });

  test('waits for a reader that takes its time', async () => {
    const pieces = Array.from({ length: 9 }, (_, i) => Buffer.alloc(blockBytes, i));
    const seen: number[] = [];
    for await (const block of inBlocks(cat(pieces)).blocks) {
      const first = block[0]!;
      await delay(20); // what comes meanwhile stays in the pipe
      assert.ok(block.every((byte) => byte === first));
      seen.push(first);
    }
    assert.deepEqual(
      seen,
      pieces.map((_, i) => i),
    );
  });

  test('is whole also where it is asked for late', async () => {
    const whole = Buffer.concat(Array.from({ length: 9 }, (_, i) => Buffer.alloc(blockBytes, i)));
    const { blocks } = inBlocks(cat([whole]));
    await delay(100);
    const seen: Buffer[] = [];
    for await (const block of blocks) {
      await delay(20);
      seen.push(Buffer.from(block));
    }
    assert.ok(Buffer.concat(seen).equals(whole));
  });

  test('is not at its end when the pipe was given up, while it is waited for or not', async () => {
    const silent = spawn('sleep', ['9'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const waiting = inBlocks(silent.stdout);
    const first = Array.fromAsync(waiting.blocks);
    await delay(20);
    waiting.pipe.destroy();
    await assert.rejects(first, /closed before its end/);
    silent.kill();

    const full = inBlocks(cat([Buffer.alloc(3 * blockBytes)]));
    const read = async (): Promise<void> => {
      for await (const _ of full.blocks) {
        full.pipe.destroy();
        await once(full.pipe, 'close');
      }
    };
    await assert.rejects(read(), /closed before its end/);
  });

  test('stops with what the pipe stops with', async () => {
    for (const output of [cat([]), new PassThrough()]) {
      const { pipe, blocks } = inBlocks(output);
      const reading = Array.fromAsync(blocks);
      pipe.destroy(new Error('the pipe broke'));
      await assert.rejects(reading, /the pipe broke/);
    }
  });
});

/** What `cat` writes, when it is given these. */
function cat(pieces: readonly Buffer[]): Readable {
  const child = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => {}); // of one that is given up
  void Readable.from(pieces).pipe(child.stdin);
  return child.stdout;
}

function lengthsOf(total: number): number[] {
  const rest = total % blockBytes;
  return [...Array<number>(Math.floor(total / blockBytes)).fill(blockBytes), ...(rest > 0 ? [rest] : [])];
}
