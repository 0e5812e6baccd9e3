import { setImmediate } from 'node:timers/promises';
import { extract, type Extract, type Header } from 'tar-stream';
import { SealiftError, messageOf } from '../errors.ts';
import { entryOf, type TarEntry } from './tar-records.ts';

export interface ReadEntry {
  /** Undefined if it is neither a file nor a folder nor a link. Names are not checked. */
  readonly entry: TarEntry | undefined;
  /** Of the entry, for people. */
  readonly shownName: string;
  /** Where in the tar its content begins. */
  readonly dataAt: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * Calls `take` with every entry of a tar, one after the other; what it leaves of the content is passed over. Throws
 * `verify-failed` for what is no tar; errors of `body` and of `take` rise as they are.
 */
export async function readTar(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  take: (found: ReadEntry) => Promise<void>,
): Promise<void> {
  const parser = extract();
  const feeding = feed(body, parser, signal);
  let taking = false;
  try {
    for await (const packed of parser) {
      signal.throwIfAborted();
      taking = true;
      const header = packed.header as Header & { readonly byteOffset: number }; // which tar-stream's types do not say
      await take({
        entry: entryOf(header),
        shownName: header.name,
        dataAt: header.byteOffset,
        content: withoutReturn(packed as unknown as AsyncIterable<Uint8Array>),
      });
      taking = false;
      packed.resume();
    }
  } catch (error) {
    parser.destroy(error instanceof Error ? error : new Error(String(error)));
    const fed = await feeding;
    if (fed.error !== undefined) throw fed.error;
    signal.throwIfAborted();
    if (taking) throw error;
    throw new SealiftError('verify-failed', `The archive is damaged: ${messageOf(error)}`, { cause: error });
  }
  await feeding;
  signal.throwIfAborted();
}

/** Who stops early leaves the rest to be passed over. By itself the entry would be destroyed, and the parser wait without end. */
const withoutReturn = <T>(content: AsyncIterable<T>): AsyncIterable<T> => ({
  [Symbol.asyncIterator]() {
    const iterator = content[Symbol.asyncIterator]();
    return { next: () => iterator.next() };
  },
});

/** Returns what the body threw, unless the parser had already failed by itself. */
async function feed(
  body: AsyncIterable<Uint8Array>,
  parser: Extract,
  signal: AbortSignal,
): Promise<{ error?: unknown }> {
  let wake: (() => void) | undefined;
  for (const event of ['drain', 'close'] as const) parser.on(event, () => wake?.());
  try {
    for await (const chunk of body) {
      // What is at hand comes without a turn of the event loop, and nobody would hear a signal meanwhile.
      await setImmediate();
      if (parser.destroying) return {};
      signal.throwIfAborted();
      if (!parser.write(chunk)) await new Promise<void>((resolve) => (wake = resolve));
    }
    parser.end(null);
    return {};
  } catch (error) {
    if (parser.destroying) return {};
    parser.destroy(error instanceof Error ? error : new Error(String(error)));
    return { error };
  }
}
