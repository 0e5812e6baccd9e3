import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Budget } from '../../src/budget.ts';
import { collect, inPieces, pseudoRandom } from '../support/bytes.ts';
import { folder, freshStation } from './station.ts';

const MiB = 2 ** 20;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('streams of every size come back as they were, several at once', async (t) => {
  const { writer, reader, keysAsked } = await freshStation(t);
  const sizes = [0, 1, 4095, 512 * 1024, 512 * 1024 + 1, 5 * MiB];
  const contents = sizes.map((size, i) => pseudoRandom(i, size));
  const written = await Promise.all(contents.map((bytes) => writer.write(inPieces(bytes))));
  const read = reader();
  const back = await Promise.all(written.map(({ segments }) => collect(read.read(segments))));
  contents.forEach((content, i) => {
    assert.equal(written[i]!.bytes, content.length);
    assert.equal(written[i]!.sha256, sha256(content));
    assert.ok(back[i]!.equals(content), `${content.length} bytes`);
  });
  assert.equal(keysAsked(), 1, 'one private-key operation for the whole folder');
});

test('an empty stream has no segments', async (t) => {
  const { writer, puts } = await freshStation(t);
  const written = await writer.write(inPieces(Buffer.alloc(0)));
  assert.deepEqual(written.segments, []);
  assert.deepEqual(puts, []);
});

test('what the writer says of an object is true of the stored file', async (t) => {
  const { writer, pathOf } = await freshStation(t);
  const { segments } = await writer.write(inPieces(pseudoRandom(1, 3 * MiB)));
  assert.ok(segments.length >= 2);
  for (const segment of segments) {
    const object = readFileSync(pathOf(segment.id));
    assert.equal(segment.folder, folder);
    assert.equal(segment.storedBytes, object.length);
    assert.equal(segment.sha256, sha256(object));
  }
});

suite('each content is sealed and put once', () => {
  test('within a stream', async (t) => {
    const { writer, reader, puts } = await freshStation(t);
    const zeros = Buffer.alloc(16 * MiB);
    const { segments } = await writer.write(inPieces(zeros, MiB));
    assert.equal(segments.length, 4);
    assert.equal(puts.length, 1);
    assert.ok((await collect(reader().read(segments))).equals(zeros));
  });

  test('by streams that meet it at the same time', async (t) => {
    const { writer, puts } = await freshStation(t);
    const content = pseudoRandom(3, 6 * MiB);
    const written = await Promise.all([1, 2, 3].map(() => writer.write(inPieces(content))));
    const [first] = written;
    for (const other of written) assert.deepEqual(other, first);
    assert.equal(puts.length, new Set(puts).size);
    assert.equal(puts.length, first!.segments.length);
  });

  test('not at all where it may be named again', async (t) => {
    const before = await freshStation(t);
    const content = pseudoRandom(4, 4 * MiB);
    const { segments } = await before.writer.write(inPieces(content));
    const old = segments.map((segment) => ({ ...segment, folder: 'an older folder' }));
    const news: number[] = [];
    const after = await freshStation(t, {
      reusable: new Map(old.map((segment) => [segment.id, segment])),
      progress: (_, newStoredBytes) => news.push(newStoredBytes),
    });
    const again = await after.writer.write(inPieces(Buffer.concat([content, pseudoRandom(5, 2 * MiB)])));
    const named = again.segments.filter((segment) => segment.folder === 'an older folder');
    assert.equal(named.length, segments.length - 1, 'all but the last, which goes on');
    assert.ok(named.every(({ id }) => !after.puts.includes(id)));
    assert.equal(news.filter((bytes) => bytes === 0).length, named.length);
  });
});

async function* broken(): AsyncGenerator<Uint8Array> {
  yield pseudoRandom(6, 6 * MiB);
  throw new Error('the dump died');
}

suite('a stream that fails', () => {
  test('rejects with the error of its body, after what is under way has ended', async (t) => {
    let underWay = 0;
    const { writer } = await freshStation(t, {
      put: async () => {
        underWay++;
        await delay(100);
        underWay--;
      },
    });
    await assert.rejects(writer.write(broken()), { message: 'the dump died' });
    assert.equal(underWay, 0);
  });

  test('rejects with the error of its put, and stops reading', async (t) => {
    let putCalls = 0;
    let pieces = 0;
    let closed = false;
    const { writer } = await freshStation(t, {
      put: async () => {
        if (++putCalls === 2) throw new Error('the store is full');
      },
    });
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (; pieces < 1000; pieces++) yield pseudoRandom(1000 + pieces, MiB);
      } finally {
        closed = true;
      }
    }
    await assert.rejects(writer.write(endless()), { message: 'the store is full' });
    assert.ok(pieces < 1000, `${pieces} pieces were read`);
    assert.ok(closed);
  });

  test('rejects when its last put fails, after the body has ended', async (t) => {
    const { writer } = await freshStation(t, {
      put: async () => {
        await delay(50);
        throw new Error('the store is full');
      },
    });
    await assert.rejects(writer.write(inPieces(pseudoRandom(7, 1000))), { message: 'the store is full' });
  });

  test('gives its share of memory back, so that its siblings succeed', async (t) => {
    let fail = true;
    const { writer } = await freshStation(t, {
      budget: new Budget(4 * MiB),
      put: async () => {
        if (fail) throw new Error('once');
      },
    });
    await assert.rejects(writer.write(inPieces(pseudoRandom(8, 12 * MiB))), { message: 'once' });
    fail = false;
    const { bytes } = await writer.write(inPieces(pseudoRandom(9, 12 * MiB)));
    assert.equal(bytes, 12 * MiB);
  });
});

test('who is aborted while others have all of the budget does not wait for them', async (t) => {
  const budget = new Budget(MiB);
  const others = await budget.take(MiB);
  const { writer, puts } = await freshStation(t, { budget, signal: AbortSignal.timeout(200) });
  const written = writer.write(inPieces(pseudoRandom(1, MiB))).then(() => 'it wrote', String);
  const said = await Promise.race([written, delay(5000, 'it waits')]);
  others.giveBack();
  assert.match(said, /^AbortError/);
  assert.deepEqual(puts, []);
});

test('a slow store slows the dump: what is in flight stays within the budget', async (t) => {
  const budgetBytes = 8 * MiB;
  let acknowledged = 0;
  let read = 0;
  let mostInFlight = 0;
  const { writer } = await freshStation(t, {
    budget: new Budget(budgetBytes),
    put: () => delay(200),
    progress: (bytes) => (acknowledged += bytes),
  });
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < 40; i++) {
      const piece = pseudoRandom(2000 + i, MiB);
      read += piece.length;
      mostInFlight = Math.max(mostInFlight, read - acknowledged);
      yield piece;
    }
  }
  await writer.write(body());
  // The budget, the segment that is being filled (of at most 4 MiB), and a piece.
  assert.ok(mostInFlight <= budgetBytes + 5 * MiB, `${mostInFlight / MiB} MiB were in flight`);
  assert.ok(mostInFlight >= budgetBytes / 2, 'the budget is used');
  assert.equal(acknowledged, 40 * MiB);
});
