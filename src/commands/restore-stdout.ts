import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { SealiftError, systemCode } from '../errors.ts';
import { release } from '../memory.ts';
import { textOf } from '../sources/byte-name.ts';
import { readTar } from '../sources/tar-reader.ts';
import type { RestoreItem } from './restore.ts';
import { explainTarget } from './target-errors.ts';

/** `--stdout`: the one stream that is meant. */
export async function streamToStdout(items: readonly RestoreItem[], signal: AbortSignal): Promise<void> {
  const [item, ...more] = items;
  if (!item || more.length > 0)
    throw new SealiftError('usage', `--stdout takes one stream, and ${items.length} are meant`, {
      hint: `Choose one: ${items.map(({ name }) => `--source ${name}`).join(', ')}`,
    });
  await write(item.open(), signal);
}

/** `--stdout --include`: the content of the one file that matches, whatever folders are around it. */
export async function fileToStdout(items: readonly RestoreItem[], signal: AbortSignal): Promise<void> {
  const found = items.flatMap((item) =>
    (item.part?.entries ?? []).filter(({ kind }) => kind !== 'directory').map((entry) => ({ item, entry })),
  );
  const [first, ...more] = found;
  const named = found.slice(0, 3).map(({ entry }) => `/${textOf(entry.as?.name ?? entry.name)}`);
  if (!first || more.length > 0)
    throw new SealiftError('usage', `--stdout takes one file, and ${found.length} match`, {
      hint: found.length === 0 ? 'Only folders do.' : `${named.join(', ')}${found.length > 3 ? ', ...' : ''}`,
    });
  const { item, entry } = first;
  if (entry.kind !== 'file')
    throw new SealiftError('usage', `--stdout takes a file, and ${named[0]} is a symlink`, {
      hint: `It points to ${textOf(entry.target ?? '')}.`,
    });
  const gate = item.part!.gate();
  await readTar(item.open(), signal, async (read) => {
    const { kind } = gate.admit(read.entry, read.dataAt);
    if (kind === 'file') await write(read.content, signal);
  });
  gate.end();
}

/** Not by `pipeline`, which waits for a reader also after an abort where it may not end the stream. */
async function write(body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  const { stdout } = process;
  try {
    for await (const chunk of released(body, stdout)) {
      if (stdout.errored) throw stdout.errored;
      if (stdout.isTTY && chunk.includes(0))
        throw new SealiftError('usage', 'this is binary data, and standard output is a terminal', {
          hint: 'Send it to a file (> FILE) or into a program (| PROGRAM).',
        });
      if (!stdout.write(chunk)) await once(stdout, 'drain', { signal });
    }
    signal.throwIfAborted();
    const flushed = new Promise<void>((resolve, reject) =>
      stdout.write('', (error) => (error ? reject(error) : resolve())),
    );
    await Promise.race([flushed, once(signal, 'abort')]);
    signal.throwIfAborted();
  } catch (error) {
    if (systemCode(error) !== 'EPIPE') throw explainTarget(error, 'standard output');
    throw new SealiftError('restore-failed', 'whoever read standard output stopped before its end');
  }
}

/** Gives the memory of each chunk back when the next one is asked for, if nothing waits to be written then. */
async function* released(body: AsyncIterable<Uint8Array>, target: Writable): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    yield chunk;
    if (target.writableLength === 0) release(chunk);
  }
}
