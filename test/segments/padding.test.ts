import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { paddingFor, padme } from '../../src/segments/padding.ts';
import { pseudoRandom } from '../support/bytes.ts';

/** A frame and what follows it in an object. */
const padFrame = (frame: Uint8Array): Buffer => Buffer.concat([frame, paddingFor(frame.length)]);

const floorLog2 = (value: bigint): bigint => BigInt(value.toString(2).length - 1);

/**
 * Padmé as Algorithm 1 of the paper writes it: E = floor(log2 L), S = floor(log2 E) + 1, and the last E - S bits
 * become zero by rounding up. In integers of any size, so that no rounding of floating-point logarithms is shared.
 */
function referencePadme(size: bigint): bigint {
  const e = floorLog2(size);
  const s = floorLog2(e) + 1n;
  const mask = (1n << (e - s)) - 1n;
  return (size + mask) & ~mask;
}

test('Padmé sizes are those of the definition around every power of two', () => {
  for (let exponent = 2; exponent <= 45; exponent++)
    for (const offset of [-2, -1, 0, 1, 2, 1000]) {
      const size = 2 ** exponent + offset;
      if (size < 4) continue;
      assert.equal(padme(size), Number(referencePadme(BigInt(size))), `of ${size}`);
    }
});

test('some Padmé sizes, as written down by hand', () => {
  const known = { 0: 0, 1: 1, 2: 2, 3: 3, 8: 8, 9: 10, 100: 104, 1000: 1024, 4097: 4352, 1048577: 1081344 };
  for (const [size, padded] of Object.entries(known)) assert.equal(padme(Number(size)), padded, `of ${size}`);
});

test('a Padmé size is never smaller, never 12 % larger, and its own Padmé size', () => {
  fc.assert(
    fc.property(fc.integer({ min: 9, max: 2 ** 40 }), (size) => {
      const padded = padme(size);
      assert.ok(padded >= size && padded <= size * 1.12);
      assert.equal(padme(padded), padded);
      assert.equal(padded, Number(referencePadme(BigInt(size))));
    }),
  );
});

const frameSizes = [0, 1, 100, 4075, 4076, 4087, 4088, 4089, 10_000, 1_000_000];

test('zstd gives the content back from a padded frame, whatever its size', () => {
  for (const size of frameSizes) {
    const content = pseudoRandom(size, size);
    const padded = padFrame(zstdCompressSync(content));
    const back = execFileSync('zstd', ['-d', '-c'], { input: padded, stdio: ['pipe', 'pipe', 'pipe'] });
    assert.ok(back.equals(content), `${size} bytes`);
  }
});

test('frame and padding have a Padmé size of at least 4 KiB and hold one skippable frame of zeros', () => {
  for (const size of frameSizes) {
    const frame = pseudoRandom(1, size);
    const padded = padFrame(frame);
    assert.equal(padded.length, Math.max(4096, Number(referencePadme(BigInt(size + 8)))));
    assert.ok(padded.subarray(0, size).equals(frame));
    assert.equal(padded.readUInt32LE(size), 0x184d2a50);
    assert.equal(padded.readUInt32LE(size + 4), padded.length - size - 8);
    assert.ok(padded.subarray(size + 8).every((byte) => byte === 0));
  }
});
