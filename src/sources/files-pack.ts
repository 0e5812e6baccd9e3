import { Writable } from 'node:stream';
import { callbackify } from 'node:util';
import type { FeedMessage } from './files-feed.ts';
import { blockBytes } from './files-memory.ts';
import { type EntryRecord, recordOf } from './files-record.ts';
import { TarWriter } from './files-tar.ts';
import type { Trouble } from './files-walk.ts';
import { padded } from './tar-records.ts';

export interface PackOptions {
  /** Resolves when there is room for more. */
  readonly entry: (record: EntryRecord) => Promise<void>;
  readonly problem: (trouble: Trouble) => void;
  /** Nothing of this message is needed any more. */
  readonly done: (message: FeedMessage) => void;
}

/** What was fed as a tar, block by block. When it ends, all has been said that there is to say. */
export async function* packTree(
  feed: AsyncIterator<FeedMessage>,
  options: PackOptions,
): AsyncGenerator<Uint8Array> {
  const blocks = new TarBlocks();
  const packed = pack(feed, blocks, options);
  packed.catch((error: unknown) => blocks.fail(error));
  try {
    yield* blocks.read();
    const sizeBytes = await packed;
    if (blocks.outBytes !== sizeBytes)
      throw new Error(`the tar has ${blocks.outBytes} bytes where ${sizeBytes} were counted`);
  } finally {
    blocks.destroy();
  }
}

/** Resolves with the size of the tar. Says nothing more once `blocks` is gone, and may wait for ever then. */
async function pack(
  feed: AsyncIterator<FeedMessage>,
  blocks: TarBlocks,
  options: PackOptions,
): Promise<number> {
  const tar = new TarWriter();
  tar.pipe(blocks);
  /** Never throws, for archiver may wait for content, and it does not expect that to fail. */
  const next = async (): Promise<FeedMessage> => {
    try {
      const { value, done } = await feed.next();
      if (done !== true) return value;
      throw new Error('the thread that reads them ended before its time');
    } catch (error) {
      blocks.fail(error);
      return new Promise<never>(() => {});
    }
  };
  const doneAt = (position: number, message: FeedMessage): void =>
    blocks.whenOut(position, () => options.done(message));

  for (let message = await next(); !message.last; message = await next()) {
    const content = contentOf(message);
    let at = 0;
    let inPieces = false;
    for (const item of message.items) {
      if (blocks.destroyed) return tar.position;
      if (item.kind === 'problem') {
        options.problem(item);
        continue;
      }
      const { entry } = item;
      const end = at + entry.sizeBytes;
      inPieces = end > content.length;
      const place = await tar.add(
        entry,
        inPieces ? contentFrom(message, entry.sizeBytes) : content.subarray(at, end),
      );
      at = end;
      if (!blocks.destroyed) await options.entry(recordOf(entry, place));
    }
    if (!inPieces) doneAt(tar.position, message);
  }
  return tar.end();

  /** The content of the entry that is being added, which begins in this message and goes on in the next ones. */
  async function* contentFrom(first: FeedMessage, sizeBytes: number): AsyncGenerator<Buffer> {
    const begin = tar.position - padded(sizeBytes);
    let taken = 0;
    for (let message = first; ; message = await next()) {
      const content = contentOf(message).subarray(0, sizeBytes - taken);
      taken += content.length;
      doneAt(begin + taken, message);
      yield content;
      if (taken >= sizeBytes) return;
    }
  }
}

const contentOf = ({ block }: FeedMessage): Buffer =>
  block === undefined ? Buffer.alloc(0) : Buffer.from(block.buffer, block.byteOffset, block.length);

/** Gathers the many small pieces that a tar is written in. A block is good until the next is asked for. */
class TarBlocks extends Writable {
  /** Of the tar: what nobody looks at any more where it was written from. */
  outBytes = 0;
  readonly #block = new Uint8Array(blockBytes);
  #used = 0;
  #full: { readonly block: Uint8Array; readonly taken: () => void } | undefined;
  #wake = (): void => undefined;
  readonly #waiting: { readonly position: number; readonly call: () => void }[] = [];

  constructor() {
    super({ highWaterMark: blockBytes });
    for (const event of ['finish', 'error', 'close']) this.on(event, () => this.#wake());
  }

  async *read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#full !== undefined) {
        const { block, taken } = this.#full;
        this.#full = undefined;
        yield block;
        taken();
      } else if (this.errored) throw this.errored;
      else if (this.writableFinished) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Calls back when the tar is out up to this position. Positions must not go back. */
  whenOut(position: number, call: () => void): void {
    this.#waiting.push({ position, call });
    this.#out(0);
  }

  fail(error: unknown): void {
    this.destroy(error instanceof Error ? error : new Error(String(error)));
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    if (this.#used + chunk.length < blockBytes) {
      this.#block.set(chunk, this.#used);
      this.#used += chunk.length;
      this.#out(chunk.length);
      done();
    } else this.#writeLarge(chunk, done);
  }

  override _final(done: (error?: Error) => void): void {
    callbackify(() => this.#handBlock())(done);
  }

  readonly #writeLarge = callbackify(async (chunk: Buffer): Promise<void> => {
    // A piece of a large file goes over as it is.
    if (chunk.length >= blockBytes / 2) {
      await this.#handBlock();
      await this.#hand(chunk);
      this.#out(chunk.length);
      return;
    }
    const fits = blockBytes - this.#used;
    this.#block.set(chunk.subarray(0, fits), this.#used);
    this.#used = blockBytes;
    await this.#handBlock();
    this.#block.set(chunk.subarray(fits));
    this.#used = chunk.length - fits;
    this.#out(chunk.length);
  });

  async #handBlock(): Promise<void> {
    if (this.#used === 0) return;
    await this.#hand(this.#block.subarray(0, this.#used));
    this.#used = 0;
  }

  /** Resolves when the block has been used. */
  #hand(block: Uint8Array): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#full = { block, taken: resolve };
    this.#wake();
    return promise;
  }

  #out(bytes: number): void {
    this.outBytes += bytes;
    while (this.#waiting[0] && this.#waiting[0].position <= this.outBytes) this.#waiting.shift()?.call();
  }
}
