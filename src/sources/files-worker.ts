import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { TreeFeed } from './files-feed.ts';
import { answerTo, type FilesQuestion } from './files-look.ts';
import { type FilesTask, feedTree } from './files-tree.ts';

/** A thread of its own, because the fast way through thousands of small files is synchronous. */
if (parentPort !== null) await run(parentPort, workerData as FilesTask | FilesQuestion);

async function run(port: MessagePort, task: FilesTask | FilesQuestion): Promise<void> {
  if ('asked' in task) port.postMessage(answerTo(task));
  else {
    const feed = new TreeFeed(port);
    await feedTree(feed, task);
    await feed.complete();
  }
  port.close();
}
