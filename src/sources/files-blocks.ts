import { Writable } from 'node:stream';
import { callbackify } from 'node:util';
import type { MessagePort } from 'node:worker_threads';
import type { ProblemCode } from '../problems.ts';
import { blockBytes, fillsMemory, giveBlock, takeBlock } from './files-memory.ts';

/**
 * How the bytes of the tar, and what is to be said about it, cross from the worker to the main thread: in blocks that
 * are transferred. The worker may be `aheadBlocks` ahead; the main thread sends the memory of each block that it took
 * back, which grants one more.
 */
export const aheadBlocks = 4;
/** Records without bytes to go with (a folder of a million sockets) are sent from this number on. */
const crowdRecords = 1000;

export interface EntryRecord {
  readonly type: 'entry';
  readonly [key: string]: unknown;
}

export interface ProblemRecord {
  readonly type: 'problem';
  readonly code: ProblemCode;
  readonly text: string;
}

export interface BlockMessage {
  readonly block: Uint8Array<ArrayBuffer> | undefined;
  /** In the order in which they arose; about entries that may have ended in an earlier block. */
  readonly records: readonly (EntryRecord | ProblemRecord)[];
  readonly last: boolean;
}

export class BlockWriter extends Writable {
  bytesWritten = 0;
  readonly #port: MessagePort;
  #block = takeBlock();
  #used = 0;
  #records: (EntryRecord | ProblemRecord)[] = [];
  #credit = aheadBlocks;
  #waiting: (() => void)[] = [];

  constructor(port: MessagePort) {
    super({ highWaterMark: blockBytes });
    this.#port = port;
    port.on('message', (memory: ArrayBuffer | undefined) => {
      if (memory !== undefined) giveBlock(memory);
      this.#credit += 1;
      for (const go of this.#waiting.splice(0)) go();
    });
  }

  /** After the end of the stream: the word that all is well. */
  async complete(): Promise<void> {
    await this.#send(undefined, true);
  }

  /** Resolves when there is room for more. */
  async record(record: EntryRecord | ProblemRecord): Promise<void> {
    this.#records.push(record);
    if (this.#records.length >= crowdRecords) await this.#send(undefined, false);
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.bytesWritten += chunk.length;
    if (this.#used + chunk.length < blockBytes) {
      this.#block.set(chunk, this.#used);
      this.#used += chunk.length;
      done();
    } else this.#writeLarge(chunk, done);
  }

  override _final(done: (error?: Error) => void): void {
    callbackify(() => this.#sendBlock())(done);
  }

  readonly #writeLarge = callbackify(async (chunk: Buffer): Promise<void> => {
    // A piece of a large file fills its memory and goes over as it is; what would be copied is not.
    if (chunk.length >= blockBytes / 2 && fillsMemory(chunk)) {
      await this.#sendBlock();
      await this.#send(new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset, chunk.length), false);
      return;
    }
    for (let at = 0; at < chunk.length;) {
      const take = Math.min(chunk.length - at, blockBytes - this.#used);
      this.#block.set(chunk.subarray(at, at + take), this.#used);
      this.#used += take;
      at += take;
      if (this.#used === blockBytes) await this.#sendBlock();
    }
  });

  async #sendBlock(): Promise<void> {
    if (this.#used === 0) return;
    const block = this.#block.subarray(0, this.#used);
    this.#block = takeBlock();
    this.#used = 0;
    await this.#send(block, false);
  }

  async #send(block: Uint8Array<ArrayBuffer> | undefined, last: boolean): Promise<void> {
    while (this.#credit === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#credit -= 1;
    const message: BlockMessage = { block, records: this.#records, last };
    this.#records = [];
    this.#port.postMessage(message, block === undefined ? [] : [block.buffer]);
  }
}
