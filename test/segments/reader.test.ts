import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { suite, test, type TestContext } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { sealBytes } from '../../src/seal/message.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { paddingFor } from '../../src/segments/padding.ts';
import { createSegmentReader } from '../../src/segments/reader.ts';
import type { StoredSegment } from '../../src/segments/writer.ts';
import { collect, inPieces, pseudoRandom } from '../support/bytes.ts';
import { makeKey } from '../support/keys.ts';
import { freshPool, freshStation } from './station.ts';

/** A frame and what follows it in an object. */
const padFrame = (frame: Uint8Array): Buffer => Buffer.concat([frame, paddingFor(frame.length)]);

const MiB = 2 ** 20;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function written(t: TestContext) {
  const station = await freshStation(t);
  const content = pseudoRandom(1, 3 * MiB);
  const { segments } = await station.writer.write(inPieces(content));
  const [first, second] = segments;
  assert.ok(first && second);
  return { ...station, content, segments, first, second };
}

suite('a damaged store is noticed before anything is decrypted', () => {
  const damages: Record<string, (paths: { first: string; second: string }) => void> = {
    'a flipped bit at the start': ({ first }) => flip(first, 0),
    'a flipped bit in the middle': ({ first }) => flip(first, 100_000),
    'a flipped bit at the end': ({ first }) => flip(first, -1),
    'a truncated object': ({ first }) => truncateSync(first, 1000),
    'an object with a byte more': ({ first }) =>
      writeFileSync(first, Buffer.concat([readFileSync(first), Buffer.alloc(1)])),
    'an empty object': ({ first }) => truncateSync(first, 0),
    'a missing object': ({ first }) => rmSync(first),
    'the object of another segment': ({ first, second }) => writeFileSync(first, readFileSync(second)),
  };
  for (const [what, damage] of Object.entries(damages))
    test(what, async (t) => {
      const { reader, segments, first, second, pathOf, keysAsked } = await written(t);
      damage({ first: pathOf(first.id), second: pathOf(second.id) });
      await assert.rejects(collect(reader().read(segments)), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'verify-failed');
        assert.ok(error.message.includes(first.id));
        return true;
      });
      assert.ok(keysAsked() <= 1);
    });
});

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  const i = at < 0 ? bytes.length + at : at;
  bytes[i]! ^= 1;
  writeFileSync(path, bytes);
}

test('segments in another order are other bytes, so nothing but the signed order gives the stream', async (t) => {
  const { reader, segments, content } = await written(t);
  const swapped = await collect(reader().read(segments.toReversed()));
  assert.equal(swapped.length, content.length);
  assert.ok(!swapped.equals(content));
});

test('among several versions the one with the signed hash is taken, wherever it stands', async (t) => {
  const { reader, segments, content, pathOf } = await written(t);
  const withVersions = reader(async function* ({ id }) {
    const good = readFileSync(pathOf(id));
    const sameSize = Buffer.from(good);
    sameSize[sameSize.length - 1]! ^= 1;
    yield Buffer.from('a later, wrong version');
    yield sameSize;
    yield good;
  });
  assert.ok((await collect(withVersions.read(segments))).equals(content));
});

test('an object that comes in part or changed is asked for once more, as its way may have been at fault', async (t) => {
  const { reader, segments, content, pathOf } = await written(t);
  const asked = new Map<string, number>();
  const onceDamaged = reader(async function* ({ id }) {
    const times = (asked.get(id) ?? 0) + 1;
    asked.set(id, times);
    const whole = readFileSync(pathOf(id));
    yield times === 1 ? whole.subarray(0, 1000) : whole;
  });
  assert.ok((await collect(onceDamaged.read(segments))).equals(content));
  assert.deepEqual(new Set(asked.values()), new Set([2]));
});

test('a store that cannot be asked is not a store without the object', async (t) => {
  const { reader, segments } = await written(t);
  // oxlint-disable-next-line require-yield
  const broken = reader(async function* () {
    throw Object.assign(new Error('no route'), { code: 'store-unavailable' });
  });
  await assert.rejects(collect(broken.read(segments)), { code: 'store-unavailable' });
});

test('a reader that is given up waits for what is under way', async (t) => {
  const { reader, segments, pathOf } = await written(t);
  let underWay = 0;
  const slow = reader(async function* ({ id }) {
    underWay++;
    await new Promise((resolve) => setTimeout(resolve, 50));
    underWay--;
    yield readFileSync(pathOf(id));
  });
  for await (const _ of slow.read(segments)) break;
  assert.equal(underWay, 0);
});

suite('ranges', () => {
  test('are the bytes that a whole read has there, from the objects that hold them alone', async (t) => {
    const { reader, segments, content, pathOf } = await written(t);
    const asked: string[] = [];
    const watching = reader(async function* ({ id }) {
      asked.push(id);
      yield readFileSync(pathOf(id));
    });
    assert.ok(segments.length >= 3, `${segments.length} segments`);
    const starts = segments.map((_, i) => segments.slice(0, i).reduce((sum, { bytes }) => sum + bytes, 0));
    const edge = fc
      .tuple(fc.constantFrom(...starts, content.length), fc.integer({ min: -2, max: 2 }))
      .map(([at, by]) => Math.min(Math.max(at + by, 0), content.length));
    const anywhere = fc.integer({ min: 0, max: content.length });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(edge, anywhere), { maxLength: 8 }), async (places) => {
        const bounds = places.toSorted((a, b) => a - b);
        const ranges = Array.from({ length: bounds.length >> 1 }, (_, i) => ({
          from: bounds[2 * i]!,
          to: bounds[2 * i + 1]!,
        }));
        asked.length = 0;
        const got = await collect(watching.readRanges(segments, ranges));
        assert.ok(got.equals(Buffer.concat(ranges.map(({ from, to }) => content.subarray(from, to)))));
        const holding = segments.filter(({ bytes }, i) =>
          ranges.some(({ from, to }) => Math.max(from, starts[i]!) < Math.min(to, starts[i]! + bytes)),
        );
        assert.deepEqual(
          asked,
          holding.map(({ id }) => id),
        );
      }),
      { numRuns: 25 },
    );
  });

  test('of a segment that is in the stream twice are read in both places', async (t) => {
    const { reader, first, second } = await written(t);
    const twice = [first, second, first];
    const whole = await collect(reader().read(twice));
    const [from, to] = [first.bytes - 5, first.bytes + second.bytes + 5];
    const ranges = [
      { from: 0, to: 5 },
      { from, to },
    ];
    const expected = Buffer.concat([whole.subarray(0, 5), whole.subarray(from, to)]);
    assert.ok((await collect(reader().readRanges(twice, ranges))).equals(expected));
  });

  test('of a segment with another length than is said of it are refused', async (t) => {
    const { reader, segments, first } = await written(t);
    for (const by of [-1, 1]) {
      const wrong = segments.with(0, { ...first, bytes: first.bytes + by });
      const read = collect(reader().readRanges(wrong, [{ from: 10, to: 20 }]));
      await assert.rejects(read, { code: 'verify-failed', message: new RegExp(first.id) });
    }
  });
});

/** Seals a content as if it were a segment, and reads it. */
async function sealed(t: TestContext, content: Uint8Array): Promise<Buffer> {
  const { publicKey } = await makeKey();
  const seal = await createSeal([publicKey], new Date());
  const object = sealBytes(seal, content);
  const segment: StoredSegment = { id: 'a', folder: 'b', storedBytes: object.length, sha256: sha256(object) };
  const pool = freshPool(t, 1);
  const reader = createSegmentReader({
    pool,
    fetch: async function* () {
      yield Buffer.from(object);
    },
    findSessionKey: async () => seal.sessionKey,
  });
  return collect(reader.read([segment]));
}

suite('a signed object that is no segment of ours', () => {
  test('one that expands to 16 MiB is opened', async (t) => {
    const content = Buffer.alloc(16 * MiB);
    assert.ok((await sealed(t, padFrame(zstdCompressSync(content)))).equals(content));
  });

  test('one that expands to more is refused', async (t) => {
    const bomb = padFrame(zstdCompressSync(Buffer.alloc(16 * MiB + 1)));
    await assert.rejects(sealed(t, bomb), { code: 'verify-failed' });
  });

  test('one whose frame is cut short is refused', async (t) => {
    const frame = zstdCompressSync(pseudoRandom(1, 10_000));
    await assert.rejects(sealed(t, frame.subarray(0, 5000)), { code: 'verify-failed' });
  });

  test('one that is empty, or no zstd frame, is refused', async (t) => {
    await assert.rejects(sealed(t, Buffer.alloc(0)), { code: 'verify-failed' });
    await assert.rejects(sealed(t, Buffer.from('x')), { code: 'verify-failed' });
    await assert.rejects(sealed(t, pseudoRandom(2, 5000)), { code: 'verify-failed' });
  });
});
