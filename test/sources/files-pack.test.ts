import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { type FeedMessage, TreeFeed, type TreeItem } from '../../src/sources/files-feed.ts';
import { blockBytes, takeBlock } from '../../src/sources/files-memory.ts';
import { type PackOptions, packTree } from '../../src/sources/files-pack.ts';
import type { EntryRecord } from '../../src/sources/files-record.ts';
import { pseudoRandom } from '../support/bytes.ts';

const MiB = 2 ** 20;
const fileOf = (name: string, sizeBytes: number): TreeItem => ({
  kind: 'entry',
  entry: { kind: 'file', name, sizeBytes, mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n },
});
const ignoring: PackOptions = { entry: async () => {}, problem: () => {}, done: () => {} };

/** Feeds files with these contents, as the reading thread does. */
async function feedFiles(feed: TreeFeed, contents: readonly Buffer[]): Promise<void> {
  for (const [i, content] of contents.entries()) {
    const item = fileOf(`f${i}`, content.length);
    if (content.length > blockBytes) await feed.addPieces(item, pieces(content));
    else {
      content.copy(await feed.room(content.length));
      await feed.add(item, content.length);
    }
  }
  await feed.complete();
}

function* pieces(content: Buffer): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < content.length; at += blockBytes) {
    const part = content.subarray(at, at + blockBytes);
    const block = takeBlock();
    block.set(part);
    yield block.subarray(0, part.length);
  }
}

test('memory that is used again at once spoils nothing, whatever the sizes are', async () => {
  const around = [0, 1, 511, 512, 513, MiB / 2 - 1, MiB / 2, MiB / 2 + 1, MiB - 1, MiB, MiB + 1, 2 * MiB];
  const random = pseudoRandom(7, 800);
  const sizes = Array.from({ length: 200 }, (_, i) => {
    const size = random.readUInt16LE(4 * i);
    if (random[4 * i + 2]! < 32) return around[size % around.length]!;
    return random[4 * i + 2]! < 64 ? size * 40 : size % 5000;
  });
  const contents = [...around, ...sizes].map((size, i) => pseudoRandom(i, size));
  const { port1, port2 } = new MessageChannel();
  const messages = on(port2, 'message');
  const feeding = feedFiles(new TreeFeed(port1), contents);
  const records: EntryRecord[] = [];
  let given = 0;
  const tar: Buffer[] = [];
  const packed = packTree(
    (async function* () {
      for await (const [message] of messages) {
        given += 1;
        yield message as FeedMessage;
      }
    })(),
    {
      ...ignoring,
      entry: async (record) => void records.push(record),
      done: ({ block }) => {
        given -= 1;
        block?.fill(0xee);
        port2.postMessage(block?.buffer, block === undefined ? [] : [block.buffer]);
      },
    },
  );
  for await (const block of packed) {
    tar.push(Buffer.copyBytesFrom(block));
    if (tar.length % 3 === 0) await new Promise(setImmediate);
  }
  await feeding;
  port1.close();
  const bytes = Buffer.concat(tar);
  assert.equal(records.length, contents.length);
  for (const [i, { data, path }] of records.entries()) {
    assert.equal(path, `/f${i}`);
    const content = contents[i]!;
    const at = data as number;
    assert.ok(content.equals(bytes.subarray(at, at + content.length)), `${content.length} bytes`);
  }
  assert.equal(given, 1, 'all memory but that of the last word went back');
});

async function* broken(error?: Error): AsyncGenerator<FeedMessage> {
  yield { items: [fileOf('small', 3)], block: new Uint8Array([1, 2, 3]), last: false };
  yield { items: [fileOf('large', 3 * MiB)], block: new Uint8Array(MiB), last: false };
  yield { items: [], block: new Uint8Array(MiB), last: false };
  if (error) throw error;
}

const refuse = (): Promise<void> => Promise.reject(new Error('no room'));

async function drain(error: Error | undefined, options = ignoring): Promise<void> {
  for await (const _ of packTree(broken(error), options));
}

test('a thread that fails, or only ends, in the middle of a file is an error of the stream', async () => {
  await assert.rejects(drain(new Error('out of memory')), /^Error: out of memory$/);
  await assert.rejects(drain(undefined), /ended before its time/);
});

test('details that cannot be told end the stream with their error', async () => {
  await assert.rejects(drain(undefined, { ...ignoring, entry: refuse }), /no room/);
});

test('what has long names and no content crosses in small portions, not by the thousand', async () => {
  const { port1, port2 } = new MessageChannel();
  const sizes: number[] = [];
  port2.on('message', ({ items }: FeedMessage) => {
    sizes.push(items.length);
    port2.postMessage(undefined);
  });
  const feed = new TreeFeed(port1);
  const items = 300;
  const text = 'x'.repeat(16 * 1024);
  for (let i = 0; i < items; i += 1) await feed.add({ kind: 'problem', code: 'special-file', text });
  await feed.complete();
  port1.close();
  await once(port2, 'close');
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    items,
  );
  assert.ok(Math.max(...sizes) * text.length <= MiB, `${Math.max(...sizes)} at once`);
});
