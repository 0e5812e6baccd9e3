import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { countOf } from '../count-of.ts';
import { makeFolder } from '../durable.ts';
import { SealiftError, sentenceOf, sentencesOf, systemCode } from '../errors.ts';
import { release } from '../memory.ts';
import { formatSize } from '../output.ts';
import { output, ToolFailure } from '../process.ts';
import { DamagedSegment } from '../segments/reader.ts';
import { bytesOf, textOf } from '../sources/byte-name.ts';
import { draftName, removeAbandoned } from '../sources/drafts.ts';
import { nextSteps, type RestoredStream } from '../sources/next-steps.ts';
import { UnpackFolders } from '../sources/unpack-folders.ts';
import { unpackTree } from '../sources/unpack.ts';
import type { ChosenStreams } from './choose-files.ts';
import type { Context } from './context.ts';
import type { RestoreItem, RestoreReport } from './restore.ts';
import { explainTarget, failedAt } from './target-errors.ts';

/**
 * `--to DIR`: every stream as a file `SOURCE/FILE`, trees unpacked below `SOURCE/`; below `JOB/` where several jobs are
 * restored. A file has its name only when it is whole. What the store has damaged or lost is told, and all else comes back.
 */
export async function restoreTo(
  context: Context,
  target: string,
  items: readonly RestoreItem[],
  {
    force,
    setuid,
    access,
    closed,
  }: Pick<ChosenStreams, 'closed'> & { force: boolean; setuid: boolean; access: readonly string[] },
): Promise<RestoreReport> {
  if (!force) await refuseFull(target);
  await makeFolder(target, 0o755).catch(failedAt(target));
  const severalJobs = new Set([...items, ...closed].map(({ job }) => job)).size > 1;
  const restored: string[] = [];
  let skipped: string[] = [];
  let withoutSetuid: string[] = [];
  let unlinked: string[] = [];
  let [files, bytes, withoutAttributes] = [0, 0, 0];
  const damaged = closed.map(({ error }) => sentencesOf(error));
  /** What did not come back as it was saved is told, and keeps nothing else from coming back. */
  const noting =
    (path: string, what = '') =>
    (error: unknown): undefined => {
      const isOfOne = error instanceof SealiftError && error.code === 'verify-failed' && items.length > 1;
      if (!isOfOne && !(error instanceof DamagedSegment)) throw explainTarget(error, path);
      damaged.push(what + sentencesOf(error));
    };
  const streams: RestoredStream[] = [];
  using places = new UnpackFolders(target, {
    overwrite: force,
    mode: 0o755,
    onUnlinked: (names) => unlinked.push(join(target, textOf(names.join('/')))),
  });
  for (const item of items) {
    const names = severalJobs ? [item.job, item.source] : [item.source];
    const folder = join(target, ...names);
    const place = enter(places, names, folder, force);
    if (item.kind === 'files') {
      streams.push({ ...item, path: folder });
      const options = {
        signal: context.signal,
        sameOwner: context.environment.isRoot,
        setuid,
        overwrite: force,
      };
      const tree = await unpackTree(item.open(), place, options, {
        ...item,
        around: async (error, part, done) => {
          if (!(error instanceof DamagedSegment)) return undefined;
          damaged.push(sentencesOf(error));
          return item.around(error.segment, part, done);
        },
      }).catch(
        noting(
          folder,
          `${folder}/ may lack files, and lacks its symlinks and the attributes of its folders: `,
        ),
      );
      if (tree === undefined) continue;
      files += tree.files;
      bytes += tree.bytes;
      withoutAttributes += tree.withoutAttributes;
      withoutSetuid = [...withoutSetuid, ...tree.withoutSetuid];
      unlinked = [...unlinked, ...tree.unlinked.map((name) => join(folder, name))];
      const from = items.some((other) => isTreeBeside(item, other)) ? ` from ${item.name}` : '';
      restored.push(`${folder}/  (${countOf(tree.files, 'file')}, ${formatSize(tree.bytes)}${from})`);
      for (const name of tree.lost) {
        const what = name.endsWith('/') ? 'its owner, mode and time are ' : '';
        damaged.push(`${join(folder, name)}: ${what}not whole in the store`);
      }
      skipped = [...skipped, ...tree.skipped.map(({ path, reason }) => `${path}: ${reason}`)];
    } else {
      const file = join(folder, item.file);
      const size = await writeFile(join(place, item.file), item.open()).catch(noting(file));
      if (size === undefined) continue;
      streams.push({ ...item, path: file });
      files += 1;
      bytes += size;
      restored.push(`${file}  (${formatSize(size)})`);
    }
  }
  await settle(context, target);
  return {
    restored,
    skipped,
    damaged,
    bytes,
    files,
    withoutSetuid,
    withoutAttributes,
    unlinked,
    nextSteps: nextSteps(streams, access),
  };
}

/**
 * What is said to be restored is on its disk. Once for its whole file system (syncfs): for 20,000 files that takes 0.4 s,
 * and one after the other 3 to 18. A `sync` that knows no such thing, or is not there, leaves it to the system.
 */
async function settle({ signal, log }: Context, target: string): Promise<void> {
  try {
    await output({ argv: ['sync', '-f', target] }, signal);
  } catch (error) {
    if (error instanceof SealiftError && error.cause instanceof ToolFailure && isLost(error.cause))
      throw new SealiftError(
        'restore-failed',
        `the file system of ${target} lost what was written: ${sentenceOf(error)}`,
        { hint: 'Look at its disk (dmesg), and restore again.', cause: error },
      );
    signal.throwIfAborted();
    log.debug({ err: error }, `${target} was not synced`);
  }
}

/** Whether its disk failed or is full, or the target is not there any more. */
const isLost = ({ stderr }: ToolFailure): boolean =>
  new RegExp(
    'input/output error|no space left|quota exceeded|no such (file|device)|not a directory|stale file handle|' +
      'transport endpoint|needs cleaning|read-only file system',
    'i',
  ).test(stderr.slice(stderr.lastIndexOf(':')));

/** Another tree that goes into the same folder. */
const isTreeBeside = (item: RestoreItem, other: RestoreItem): boolean =>
  other !== item && other.kind === 'files' && other.job === item.job && other.source === item.source;

async function refuseFull(target: string): Promise<void> {
  const entries = await readdir(target).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    if (systemCode(error) !== 'ENOTDIR') throw explainTarget(error, target);
    throw new SealiftError('target-exists', `${target} is there already and is no folder`, { cause: error });
  });
  if (entries.length > 0)
    throw new SealiftError('target-exists', `${target} is not empty`, {
      hint: 'Restore into a new folder, or overwrite what is there with --force.',
    });
}

/** The folder for system calls, until the next is entered. As in a tree, a link is no way down. */
function enter(places: UnpackFolders, names: readonly string[], folder: string, force: boolean): string {
  try {
    const entered = places.enter(names.map(bytesOf));
    if (force) removeAbandoned(entered);
    return entered.at;
  } catch (error) {
    throw explainTarget(error, folder);
  }
}

async function writeFile(file: string, body: AsyncIterable<Uint8Array>): Promise<number> {
  // Not by its own: the names of databases are as long as names of files may be.
  const draft = join(dirname(file), draftName());
  let bytes = 0;
  try {
    const handle = await open(draft, 'wx', 0o600);
    try {
      for await (const chunk of body) {
        await handle.writeFile(chunk);
        bytes += chunk.length;
        release(chunk);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
  return bytes;
}
