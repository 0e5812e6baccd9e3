import { mkdirSync } from 'node:fs';
import { SealiftError, messageOf } from '../errors.ts';
import { textOf } from './byte-name.ts';
import { readTar } from './tar-reader.ts';
import type { TreePart } from './tree-part.ts';
import { TreeWriter } from './unpack-tree.ts';

export interface UnpackOptions {
  readonly signal: AbortSignal;
  /** Owners by number, as they were: for root. */
  readonly sameOwner: boolean;
  /** setuid and setgid too, where the owners are the same: for who trusts the archive. */
  readonly setuid: boolean;
  /** Replace files and links that are there, and what stands where a folder goes; never the content of a folder. */
  readonly overwrite: boolean;
}

/** A part of a tar. */
export interface FoundContent {
  readonly part: TreePart;
  readonly body: AsyncIterable<Uint8Array>;
}

/** More of what is known of a tar. */
export interface TreeAccess {
  readonly part?: TreePart | undefined;
  /** The entries with these absolute paths, a hard link with the content that it shares. */
  readonly find?: (paths: ReadonlySet<string>) => Promise<FoundContent | undefined>;
}

export interface Unpacked {
  /** Files and links; folders are not counted. */
  files: number;
  /** The content of the files. */
  bytes: number;
  /** What was left out, by its name in the archive. */
  skipped: { path: string; reason: string }[];
  /** What came back without its setuid or setgid. */
  withoutSetuid: string[];
  /** How many files, folders and symlinks the target has not given the owner, mode or time that they were to have. */
  withoutAttributes: number;
  /** Symlinks that gave way to folders: what was reached through them is not there any more. */
  unlinked: string[];
}

/**
 * Unpacks a tar below `target`, also a hostile one: nothing is written outside, whatever its names and links say.
 * Every file is complete or the call throws a SealiftError `restore-failed` that names it; `verify-failed` says that the
 * archive is damaged; an error of `body` rises as it is. Symlinks come after all files, the attributes of folders at the
 * very end, until when they are closed to others. The target's own attributes stay.
 *
 * With `part`, the tar is that part of a larger one. Where the first name of a file cannot be made, and a hard link to it
 * can, `find` is asked for the content, which the tar holds under the first name only.
 */
export async function unpackTree(
  body: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackOptions,
  { part, find }: TreeAccess = {},
): Promise<Unpacked> {
  options.signal.throwIfAborted();
  using tree = openTarget(target, options);
  for (const folder of part?.parents ?? []) await tree.add(folder, textOf(folder.name), nothing());
  await addAll(tree, body, options.signal, part);
  const links = tree.beginSecondPass();
  const found = links.size > 0 ? await find?.(links) : undefined;
  if (found !== undefined) await addAll(tree, found.body, options.signal, found.part);
  tree.finish();
  return tree.result;
}

async function addAll(
  tree: TreeWriter,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  part: TreePart | undefined,
): Promise<void> {
  const gate = part?.gate();
  await readTar(body, signal, ({ entry, shownName, dataAt, content }) =>
    tree.add(gate === undefined ? entry : gate.admit(entry, dataAt), shownName, content),
  );
  gate?.end();
}

// oxlint-disable-next-line require-yield
async function* nothing(): AsyncGenerator<Uint8Array> {}

function openTarget(target: string, options: UnpackOptions): TreeWriter {
  try {
    mkdirSync(target, { recursive: true, mode: 0o700 });
    return new TreeWriter(target, options);
  } catch (cause) {
    throw new SealiftError('restore-failed', `Cannot restore to "${target}": ${messageOf(cause)}`, { cause });
  }
}
