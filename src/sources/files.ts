import { on } from 'node:events';
import { closeSync, constants, lstatSync, openSync, realpathSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { FilesConfig } from '../config/config.ts';
import { endThread } from '../end-thread.ts';
import { SealiftError, messageOf, systemCode } from '../errors.ts';
import { sibling } from '../sibling.ts';
import { excluder } from './files-exclude.ts';
import type { FeedMessage } from './files-feed.ts';
import type { FilesTask } from './files-tree.ts';
import { onlyTheLink } from './files-walk.ts';
import { inodeOf } from './inode.ts';
import type { Source, SourceContext } from './source.ts';
import { isWithin } from './within.ts';

/**
 * Trees of files as one tar, `files.tar` unless said otherwise: owners, modes, times, symlinks, hard links and names as they are. Two runs
 * over an unchanged tree give the same bytes. Not kept: access control lists and other
 * extended attributes (system-attributes.ts); holes, which come back wherever there are long runs of zeros.
 *
 * What cannot be read, vanishes or changes meanwhile is a problem, not the end.
 */
export function filesSource(config: FilesConfig, file = 'files.tar'): Source {
  const asked = [...new Set(config.paths.map((path) => resolve(path)))];
  const { name, kind, oneFileSystem } = config;
  return {
    name,
    kind,
    async streams() {
      const followed = asked.filter((path) => isSavedToo(path, asked));
      const paths = asked.filter((path) => !followed.includes(path));
      const store = config.storePath === undefined ? undefined : inodeAt(config.storePath);
      for (const path of paths) if (store !== undefined && inodeAt(path) === store) throw isStore(path);
      const task: FilesTask = {
        paths,
        links: [...(config.links ?? []), ...followed],
        exclude: config.exclude,
        leftOut: store,
        oneFileSystem,
      };
      excluder(task.exclude);
      const lacks = lackingIn(name, paths);
      return [{ file, lacks, open: (context) => readTree(name, task, context) }];
    },
  };
}

const isStore = (path: string): SealiftError =>
  new SealiftError('config-invalid', `"${path}" is the store itself, which is left out of every tree`, {
    hint: 'Name a folder within it, if something else lies there.',
  });

/** Of what a link leads to. */
function inodeAt(path: string): string | undefined {
  try {
    return inodeOf(statSync(path, { bigint: true }));
  } catch {
    return undefined; // the walk, or the store, says what is wrong with it
  }
}

function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Of a symlink: what it leads to is asked for as well. */
function isSavedToo(link: string, paths: readonly string[]): boolean {
  const end = resolved(link);
  return isLink(link) && paths.some((path) => !isLink(path) && isWithin(end, resolved(path)));
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false; // the walk says what is wrong with it
  }
}

/** What the walk will say of the paths themselves. Throws if none of them is there. */
function lackingIn(name: string, paths: readonly string[]): string[] {
  const lacks: string[] = [];
  const errors: unknown[] = [];
  for (const path of paths) {
    try {
      const stats = lstatSync(path);
      if (stats.isSymbolicLink()) lacks.push(`"${path}" ${onlyTheLink}`);
      if (stats.isFile() || stats.isDirectory()) lacks.push(...deniedAt(path));
    } catch (error) {
      errors.push(error);
      lacks.push(`"${path}" cannot be read: ${messageOf(error)}`);
    }
  }
  if (errors.length < paths.length) return lacks;
  const denied = errors.some((error) => systemCode(error) === 'EACCES');
  const list = paths.map((path) => `"${path}"`).join(', ');
  throw new SealiftError(
    denied ? 'source-denied' : 'source-unavailable',
    `The files of "${name}" are not there: ${list}`,
    {
      hint: denied
        ? 'Run sealift as a user who may read them'
        : 'Correct the paths of the source in the configuration',
      cause: errors[0],
    },
  );
}

/** That it is there does not say that it may be read. */
function deniedAt(path: string): string[] {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return [];
  } catch (error) {
    return [`"${path}" cannot be read: ${messageOf(error)}`];
  }
}

async function* readTree(name: string, task: FilesTask, context: SourceContext): AsyncGenerator<Uint8Array> {
  const { signal } = context;
  signal.throwIfAborted();
  const worker = new Worker(sibling(import.meta.url, 'files-worker'), {
    name: `files ${name}`,
    workerData: task,
  });
  worker.on('error', () => undefined); // is heard below, but nobody listens there any more after an abort
  const feed = feedOf(worker, signal);
  let entries = 0;
  try {
    // Loaded while the thread starts.
    const { packTree } = await import('./files-pack.ts');
    yield* packTree(feed, {
      entry: (record) => {
        entries += 1;
        return context.detail({ ...record, source: name });
      },
      problem: ({ code, text }) => context.problem(code, text),
      done: ({ block }) => worker.postMessage(block?.buffer, block === undefined ? [] : [block.buffer]),
    });
    signal.throwIfAborted();
    if (entries === 0)
      throw new SealiftError('source-empty', `Nothing of the files of "${name}" could be read`);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SealiftError) throw error;
    throw new SealiftError(
      'source-unavailable',
      `The files of "${name}" could not be read: ${messageOf(error)}`,
      { cause: error },
    );
  } finally {
    await endThread(worker);
  }
}

/** Listens at once, so that nothing is missed. */
function feedOf(worker: Worker, signal: AbortSignal): AsyncIterator<FeedMessage> {
  const events = on(worker, 'message', { signal, close: ['exit'] });
  return (async function* () {
    for await (const [message] of events) yield message as FeedMessage;
  })();
}
