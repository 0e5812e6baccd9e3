import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

test('two that ask for ports at the same time never get the same one', async () => {
  const ask = `
    const { freePorts } = await import(${JSON.stringify(import.meta.resolve('./server-group.ts'))});
    const { parentPort } = await import('node:worker_threads');
    const ports = [...(await freePorts(3)), ...(await freePorts(2))];
    parentPort.postMessage(ports);
    parentPort.once('message', () => process.exit());
  `;
  // Threads of one process begin at the same place.
  const askers = [1, 2].map(() => new Worker(new URL(`data:text/javascript,${encodeURIComponent(ask)}`)));
  const answers = await Promise.all(
    askers.map(async (asker) => (await once(asker, 'message'))[0] as number[]),
  );
  assert.equal(new Set(answers.flat()).size, 10, answers.join(' and '));
  for (const asker of askers) await asker.terminate();
});
