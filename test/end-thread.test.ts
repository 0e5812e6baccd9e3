import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporary } from './support/temporary.ts';

test('a thread that waits in a system call keeps neither its run nor the end of the process', (t) => {
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const program = `
    import { once } from 'node:events';
    import { setTimeout as delay } from 'node:timers/promises';
    import { Worker } from 'node:worker_threads';
    import { endThread } from ${JSON.stringify(new URL('../src/end-thread.ts', import.meta.url).href)};
    const waits = "require('worker_threads').parentPort.postMessage(''); require('fs').openSync(process.argv[2])";
    const worker = new Worker(waits, { eval: true, argv: [process.argv[1]], execArgv: [] });
    await once(worker, 'message');
    await delay(500); // until it waits
    await endThread(worker);
    console.log('goes on');
    process.exitCode = 3;
    process.once('beforeExit', () => process.exit());`;
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program, pipe], {
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  assert.deepEqual([status, stdout], [3, 'goes on\n']);
});
