import { finished } from 'node:stream/promises';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { BlockWriter } from './files-blocks.ts';
import { TarWriter } from './files-tar.ts';
import { type FilesTask, writeTree } from './files-tree.ts';

/** A thread of its own, because the fast way through thousands of small files is synchronous. */
if (parentPort !== null) await run(parentPort, workerData as FilesTask);

async function run(port: MessagePort, task: FilesTask): Promise<void> {
  const blocks = new BlockWriter(port);
  const tar = new TarWriter();
  tar.pipe(blocks);
  const done = finished(blocks);
  await Promise.race([writeTree(tar, blocks, task), done]);
  const sizeBytes = await tar.end();
  await done;
  if (blocks.bytesWritten !== sizeBytes) {
    throw new Error(`the tar has ${blocks.bytesWritten} bytes where ${sizeBytes} were counted`);
  }
  await blocks.complete();
  port.close();
}
