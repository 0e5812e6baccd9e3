import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { takeLock } from '../src/lock.ts';
import { needsMounts } from './e2e/bad-input.ts';
import { put, temporary } from './support/temporary.ts';

const source = pathToFileURL(join(import.meta.dirname, '../src/lock.ts')).href;

/** Another process that takes the lock and keeps it until it is killed. */
async function holder(t: TestContext, file: string, then = '') {
  const code = `const { takeLock } = await import(${JSON.stringify(source)});
    const { readFileSync } = await import('node:fs');
    globalThis.lock = await takeLock(${JSON.stringify(file)}, 'job x');
    ${then};
    console.log('taken');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return {
    async kill() {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

const held = { code: 'lock-held', exitStatus: 11, message: 'another run of job x is active' };

test('a second taker in the same process is refused until the first one gives it back', async (t) => {
  const file = join(temporary(t), 'lock', 'x');
  const first = await takeLock(file, 'job x');
  await assert.rejects(takeLock(file, 'job x'), held);
  await assert.rejects(takeLock(file, 'job x'), held);
  first[Symbol.dispose]();
  (await takeLock(file, 'job x'))[Symbol.dispose]();
});

test('another process is refused, at once', async (t) => {
  const file = join(temporary(t), 'x');
  await holder(t, file);
  const startedMs = performance.now();
  await assert.rejects(takeLock(file, 'job x'), held);
  assert.ok(performance.now() - startedMs < 5000);
});

test('the lock of a process that was killed is free, with nothing to clean up', async (t) => {
  const file = join(temporary(t), 'x');
  const other = await holder(t, file);
  await assert.rejects(takeLock(file, 'job x'), held);
  await other.kill();
  using _lock = await takeLock(file, 'job x');
  assert.ok(existsSync(file));
});

test('locks of other jobs are no matter', async (t) => {
  const dir = temporary(t);
  using _a = await takeLock(join(dir, 'a'), 'job a');
  using _b = await takeLock(join(dir, 'b'), 'job b');
});

test('a failed attempt does not take the lock away from its holder', async (t) => {
  const file = join(temporary(t), 'x');
  const other = await holder(t, file);
  for (let i = 0; i < 5; i++) await assert.rejects(takeLock(file, 'job x'), held);
  await other.kill();
  using _lock = await takeLock(file, 'job x');
});

test('it holds while its own process reads the file, as a backup of the state folder does', async (t) => {
  const file = join(temporary(t), 'x');
  await holder(t, file, `readFileSync(${JSON.stringify(file)})`);
  await assert.rejects(takeLock(file, 'job x'), held);
});

test('what cannot be written is no lock', needsMounts, async (t) => {
  const dir = temporary(t);
  put(join(dir, 'x'), '');
  const taking = `import(${JSON.stringify(source)}).then(({ takeLock }) => takeLock(${JSON.stringify(join(dir, 'x'))}, 'job x'))`;
  const script = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" --eval "$3"`;
  const args = ['--mount', 'sh', '-c', script, 'sh', dir, process.execPath, taking];
  const { status, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /the lock .*\/x cannot be taken: EROFS/);
});

test('the folder of the lock is made, for its owner alone', async (t) => {
  const dir = join(temporary(t), 'state', 'lock');
  using _lock = await takeLock(join(dir, 'x'), 'job x');
  assert.equal(statSync(dir).mode & 0o777, 0o700);
});
