import type { MessagePort } from 'node:worker_threads';
import { blockBytes, giveBlock, takeBlock } from './files-memory.ts';
import type { Trouble } from './files-walk.ts';
import type { TarEntry } from './tar-records.ts';

/**
 * How a tree crosses from the thread that reads it to the main thread, which packs it: what was found, and the content of
 * the files one after the other, in blocks that are transferred. The reader may be `aheadBlocks` ahead; the memory of each
 * message, or the word that it had none, is sent back when it is done with, which grants one more.
 */
const aheadBlocks = 4;
/** Items without content (a folder of a million sockets) are sent from this number on, or when their names are so long. */
const crowdItems = 1000;
const crowdLength = 1024 * 1024;

export type TreeItem = { readonly kind: 'entry'; readonly entry: TarEntry } | Trouble;

export interface FeedMessage {
  /** In the order in which they were found. */
  readonly items: readonly TreeItem[];
  /** The content of these entries. Of a single file it may be the first piece, which the next messages go on with. */
  readonly block: Uint8Array<ArrayBuffer> | undefined;
  readonly last: boolean;
}

/** The reading end. Its promises resolve when there is room for more. */
export class TreeFeed {
  readonly #port: MessagePort;
  #block = takeBlock();
  #used = 0;
  #items: TreeItem[] = [];
  #length = 0;
  #credit = aheadBlocks;
  #waiting: (() => void)[] = [];

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (memory: ArrayBuffer | undefined) => {
      if (memory !== undefined) giveBlock(memory);
      this.#credit += 1;
      for (const go of this.#waiting.splice(0)) go();
    });
  }

  /** Memory for so many bytes of content, a block at most: what it holds is left over. They count when they are added. */
  async room(sizeBytes: number): Promise<Buffer> {
    if (this.#used + sizeBytes > blockBytes) await this.#flush();
    return Buffer.from(this.#block.buffer, this.#block.byteOffset + this.#used, sizeBytes);
  }

  /** `contentBytes`: of what was written to the room last taken. */
  async add(item: TreeItem, contentBytes = 0): Promise<void> {
    this.#items.push(item);
    this.#used += contentBytes;
    this.#length += item.kind === 'entry' ? item.entry.name.length : item.text.length;
    if (this.#items.length >= crowdItems || this.#length >= crowdLength) await this.#flush();
  }

  /** The pieces are blocks of their own, and together as long as the entry says. */
  async addPieces(item: TreeItem, pieces: Iterable<Uint8Array<ArrayBuffer>>): Promise<void> {
    await this.#flush();
    let items = [item];
    for (const block of pieces) {
      await this.#send({ items, block, last: false });
      items = [];
    }
  }

  /** The word that all is well. */
  async complete(): Promise<void> {
    await this.#flush();
    await this.#send({ items: [], block: undefined, last: true });
  }

  async #flush(): Promise<void> {
    if (this.#items.length === 0) return;
    const items = this.#items;
    this.#items = [];
    this.#length = 0;
    if (this.#used === 0) return this.#send({ items, block: undefined, last: false });
    const block = this.#block.subarray(0, this.#used);
    this.#block = takeBlock();
    this.#used = 0;
    return this.#send({ items, block, last: false });
  }

  async #send(message: FeedMessage): Promise<void> {
    while (this.#credit === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#credit -= 1;
    this.#port.postMessage(message, message.block === undefined ? [] : [message.block.buffer]);
  }
}
