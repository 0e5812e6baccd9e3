import { mkdirSync } from 'node:fs';
import { type Extract, extract } from 'tar-stream';
import { SealiftError, messageOf } from '../errors.ts';
import { entryOf } from './tar-records.ts';
import { TreeWriter } from './unpack-tree.ts';

export interface UnpackOptions {
  readonly signal: AbortSignal;
  /** Owners by number, and setuid and setgid, as they were: for root. */
  readonly sameOwner: boolean;
  /** Replace files and links that are there, and what stands where a folder goes; never the content of a folder. */
  readonly overwrite: boolean;
}

export interface Unpacked {
  /** Files and links; folders are not counted. */
  files: number;
  /** The content of the files. */
  bytes: number;
  /** What was left out, by its name in the archive. */
  skipped: { path: string; reason: string }[];
}

/**
 * Unpacks a tar below `target`, also a hostile one: nothing is written outside, whatever its names and links say.
 * Every file is complete or the call throws a SealiftError `restore-failed` that names it; an error of `body` rises as
 * it is. Symlinks come after all files, the attributes of folders at the very end, until when they are closed to
 * others. The target's own attributes stay.
 */
export async function unpackTree(
  body: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  options.signal.throwIfAborted();
  using tree = openTarget(target, options);
  const parser = extract();
  const feeding = feed(body, parser, options.signal);
  try {
    for await (const packed of parser) {
      options.signal.throwIfAborted();
      const content = packed as unknown as AsyncIterable<Uint8Array>; // which tar-stream's types do not say
      await tree.add(entryOf(packed.header), packed.header.name, content);
      packed.resume();
    }
  } catch (error) {
    parser.destroy(error instanceof Error ? error : new Error(String(error)));
    const fed = await feeding;
    if (fed.error !== undefined) throw fed.error;
    options.signal.throwIfAborted();
    if (error instanceof SealiftError) throw error;
    throw new SealiftError('restore-failed', `The archive is damaged: ${messageOf(error)}`, { cause: error });
  }
  await feeding;
  options.signal.throwIfAborted();
  tree.finish();
  return tree.result;
}

function openTarget(target: string, options: UnpackOptions): TreeWriter {
  try {
    mkdirSync(target, { recursive: true, mode: 0o700 });
    return new TreeWriter(target, options);
  } catch (cause) {
    throw new SealiftError('restore-failed', `Cannot restore to "${target}": ${messageOf(cause)}`, { cause });
  }
}

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
