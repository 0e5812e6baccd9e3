import { on, once } from 'node:events';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { FilesConfig } from '../config/config.ts';
import { SealiftError, messageOf } from '../errors.ts';
import { endThread, refuseLeftBehind } from '../left-behind.ts';
import { sibling } from '../sibling.ts';
import { excluder } from './files-exclude.ts';
import type { FeedMessage } from './files-feed.ts';
import type { FilesAnswer, FilesQuestion, FilesRefusal } from './files-look.ts';
import type { FilesTask } from './files-tree.ts';
import type { Source, SourceContext } from './source.ts';

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
    async streams({ signal }) {
      excluder(config.exclude);
      const { storePath } = config;
      const what = asked.join(' and ');
      refuseLeftBehind(what);
      const { paths, followed, leftOut, lacks } = await lookAt({ name, asked, storePath }, what, signal);
      const task: FilesTask = {
        paths,
        links: [...(config.links ?? []), ...followed],
        exclude: config.exclude,
        leftOut,
        oneFileSystem,
      };
      return [{ file, lacks, open: (context) => readTree(name, task, what, context) }];
    },
  };
}

function startThread(name: string, workerData: FilesTask | FilesQuestion): Worker {
  const worker = new Worker(sibling(import.meta.url, 'files-worker'), { name: `files ${name}`, workerData });
  worker.on('error', () => undefined); // is heard by others, but they do not listen any more after an abort
  return worker;
}

/** In a thread as well: a disk that hangs, as of a server that is away, holds up whoever asks it for a path. */
async function lookAt(question: FilesQuestion, what: string, signal: AbortSignal): Promise<FilesAnswer> {
  signal.throwIfAborted();
  const worker = startThread(question.name, question);
  try {
    const [answer] = (await once(worker, 'message', { signal })) as [FilesAnswer | FilesRefusal];
    if (!('code' in answer)) return answer;
    throw new SealiftError(answer.code, answer.message, { hint: answer.hint });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    await endThread(worker, what);
  }
}

async function* readTree(
  name: string,
  task: FilesTask,
  what: string,
  context: SourceContext,
): AsyncGenerator<Uint8Array> {
  const { signal } = context;
  signal.throwIfAborted();
  const worker = startThread(name, task);
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
    await endThread(worker, what);
  }
}

/** Listens at once, so that nothing is missed. */
function feedOf(worker: Worker, signal: AbortSignal): AsyncIterator<FeedMessage> {
  const events = on(worker, 'message', { signal, close: ['exit'] });
  return (async function* () {
    for await (const [message] of events) yield message as FeedMessage;
  })();
}
