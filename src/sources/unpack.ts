import { mkdirSync } from 'node:fs';
import { SealiftError, messageOf } from '../errors.ts';
import { type ByteName, textOf } from './byte-name.ts';
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

/** What of a part can be read although bytes of it are lost, and the names of what cannot. */
export interface FoundAround extends FoundContent {
  readonly lost: readonly ByteName[];
}

/** More of what is known of a tar. */
export interface TreeAccess {
  readonly part?: TreePart | undefined;
  /** The entries with these absolute paths, a hard link with the content that it shares. */
  readonly find?: (paths: ReadonlySet<string>) => Promise<FoundContent | undefined>;
  /**
   * Where the body, of which so many entries were whole, ended in this error: what follows of them and can be read all the
   * same, and what is lost. Undefined if the error has to rise.
   */
  readonly around?:
    | ((error: unknown, part: TreePart | undefined, done: number) => Promise<FoundAround | undefined>)
    | undefined;
}

export interface Unpacked {
  /** Files and links; folders are not counted. */
  files: number;
  /** The content of the files. */
  bytes: number;
  /** What was left out, by its name in the archive. */
  skipped: { path: string; reason: string }[];
  /** What could not be read, by its name in the archive; of a folder, which has a slash at the end, what is said of it. */
  lost: string[];
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
 * can, `find` is asked for the content, which the tar holds under the first name only. Where the body ends in an error,
 * `around` is asked for what can be read all the same.
 */
export async function unpackTree(
  body: AsyncIterable<Uint8Array>,
  target: string,
  options: UnpackOptions,
  { part, find, around }: TreeAccess = {},
): Promise<Unpacked> {
  options.signal.throwIfAborted();
  using tree = openTarget(target, options);
  for (const folder of part?.parents ?? []) await tree.add(folder, textOf(folder.name), nothing());
  await addAllThatIsThere(tree, body, options.signal, { part, around });
  const links = tree.beginSecondPass();
  const found = links.size > 0 ? await find?.(links) : undefined;
  if (found !== undefined)
    await addAllThatIsThere(tree, found.body, options.signal, { part: found.part, around });
  tree.finish();
  return tree.result;
}

async function addAllThatIsThere(
  tree: TreeWriter,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  { part, around }: TreeAccess,
): Promise<void> {
  for (let next: Omit<FoundContent, 'part'> & TreeAccess = { part, body }; ;) {
    let done = 0;
    try {
      return await addAll(tree, next.body, signal, next.part, () => (done += 1));
    } catch (error) {
      const rest = await around?.(error, next.part, done);
      if (rest === undefined) throw error;
      for (const name of rest.lost) tree.lose(name);
      if (rest.part.entries.length === 0) return;
      next = rest;
    }
  }
}

async function addAll(
  tree: TreeWriter,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  part: TreePart | undefined,
  onAdded?: () => void,
): Promise<void> {
  const gate = part?.gate();
  await readTar(body, signal, async ({ entry, shownName, dataAt, content }) => {
    await tree.add(gate === undefined ? entry : gate.admit(entry, dataAt), shownName, content);
    onAdded?.();
  });
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
