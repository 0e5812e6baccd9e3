import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { eachOrLeave, isAnythingLeft, orLeave, refuseLeftBehind } from '../src/left-behind.ts';
import { temporary } from './support/temporary.ts';

const from = (file: string): string => JSON.stringify(new URL(`../src/${file}`, import.meta.url).href);

/** Runs a program that is given the path of a pipe which nobody writes to: to open it takes for ever. */
function run(t: TestContext, program: string): { status: number | null; stdout: string } {
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  return spawnSync(process.execPath, ['--input-type=module', '-e', program, pipe], {
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
}

suite('what waits in a system call keeps neither its run nor the end of the process', () => {
  test('a thread', (t) => {
    const { status, stdout } = run(
      t,
      `
      import { once } from 'node:events';
      import { setTimeout as delay } from 'node:timers/promises';
      import { Worker } from 'node:worker_threads';
      import { endThread } from ${from('left-behind.ts')};
      const waits = "require('worker_threads').parentPort.postMessage(''); require('fs').openSync(process.argv[2])";
      const worker = new Worker(waits, { eval: true, argv: [process.argv[1]], execArgv: [] });
      await once(worker, 'message');
      await delay(500); // until it waits
      await endThread(worker, 'it');
      console.log('goes on');
      process.exitCode = 3;
      process.once('beforeExit', () => process.exit());`,
    );
    assert.deepEqual([status, stdout], [3, 'goes on\n']);
  });

  test('a promise, and a stream', (t) => {
    const { status, stdout } = run(
      t,
      `
      import { open } from 'node:fs/promises';
      import { eachOrLeave, exitNow, isAnythingLeft, orLeave, refuseLeftBehind } from ${from('left-behind.ts')};
      const path = process.argv[1];
      const stop = () => AbortSignal.abort(new Error('enough'));
      await orLeave(open(path), 'a', stop(), 50).catch(({ message }) => console.log(message));
      async function* waits() { yield 1; await open(path); }
      const read = async () => { for await (const one of eachOrLeave(waits(), 'b', stop(), 50)) console.log(one); };
      await read().catch(({ message }) => console.log(message));
      const isLeft = (what) => { try { refuseLeftBehind(what); } catch ({ code }) { return code; } };
      console.log(isAnythingLeft(), isLeft('a'), isLeft('b'), isLeft('c'));
      process.exitCode = 3;
      exitNow();`,
    );
    assert.deepEqual(
      [status, stdout],
      [3, 'enough\n1\nenough\ntrue source-timeout source-timeout undefined\n'],
    );
  });

  test('for who asks twice', (t) => {
    const { status, stdout } = run(
      t,
      `
      import { open } from 'node:fs/promises';
      import { setTimeout as delay } from 'node:timers/promises';
      import { listenForSignals } from ${from('signals.ts')};
      const signal = listenForSignals();
      void open(process.argv[1]);
      process.kill(process.pid, 'SIGTERM');
      await delay(1100);
      console.log(signal.aborted, signal.reason.message);
      process.kill(process.pid, 'SIGTERM');
      await delay(60_000);`,
    );
    assert.deepEqual([status, stdout], [130, 'true interrupted by SIGTERM\n']);
  });

  test('yet whoever reads the rest late has all of it', (t) => {
    const pipe = join(temporary(t), 'pipe');
    execFileSync('mkfifo', [pipe]);
    const program = `
      import { open } from 'node:fs/promises';
      import { orLeave } from ${from('left-behind.ts')};
      await orLeave(open(process.argv[1]), 'it', AbortSignal.abort(), 1).catch(() => {});
      process.stdout.write('x'.repeat(1_000_000)); // more than a pipe holds
      process.argv = ['node', 'sealift', '--version'];
      await import(${from('main.ts')});`;
    const argv = [process.execPath, '--input-type=module', '-e', program, pipe];
    const read = execFileSync('sh', ['-c', '"$@" | (sleep 3; cat)', 'sh', ...argv], { encoding: 'utf8' });
    assert.deepEqual([read.lastIndexOf('x'), read.at(-1)], [999_999, '\n']);
  });
});

suite('what ends', () => {
  test('gives what it gives, and leaves nothing behind', async () => {
    const { signal } = new AbortController();
    assert.equal(await orLeave(Promise.resolve(7), 'a', signal), 7);
    await assert.rejects(orLeave(Promise.reject(new Error('no')), 'a', signal), /no/);
    assert.deepEqual(await Array.fromAsync(eachOrLeave(three(), 'a', signal)), [1, 2, 3]);
    // Also where it takes a while after it was told to stop.
    assert.equal(await orLeave(delay(50, 8), 'a', AbortSignal.abort(), 5000), 8);
    assert.equal(isAnythingLeft(), false);
  });

  test('a stream whose consumer stops is ended', async () => {
    let ended = false;
    async function* body(): AsyncGenerator<number> {
      try {
        yield* three();
      } finally {
        ended = true;
      }
    }
    for await (const _ of eachOrLeave(body(), 'a', new AbortController().signal)) break;
    assert.ok(ended);
  });

  test('a stream that ends soon is not left behind, however long after the signal its consumer goes on', async () => {
    let ended = false;
    const stop = new AbortController();
    async function* body(): AsyncGenerator<number> {
      try {
        yield* three();
      } finally {
        await delay(20);
        ended = true;
      }
    }
    for await (const _ of eachOrLeave(body(), 'a', stop.signal, 100)) {
      stop.abort(new Error('enough'));
      await delay(200);
      break;
    }
    assert.ok(ended);
    assert.equal(isAnythingLeft(), false);
  });

  test('what was left behind and ends after all is forgotten', async () => {
    const work = Promise.withResolvers<void>();
    await assert.rejects(orLeave(work.promise, 'late', AbortSignal.abort(new Error('enough')), 10), /enough/);
    assert.throws(() => refuseLeftBehind('late'), {
      message: 'an earlier question to late has no answer yet',
    });
    work.reject(new Error('nobody hears this'));
    await delay(10);
    assert.equal(isAnythingLeft(), false);
  });
});

async function* three(): AsyncGenerator<number> {
  yield* [1, 2, 3];
}
