import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { needs } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { until } from '../support/running.ts';
import { bucketStore, every2h, makeWorld, type Listing } from '../support/world.ts';

test('a second Ctrl-C, a while after the first, does not wait for an orderly end', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const begun = join(world.dir, 'begun');
  const stubborn = `trap '' TERM; echo $$ >${begun}; while :; do sleep 0.1; done`;
  const sources = [{ name: 's', kind: 'command', shell: stubborn }];
  world.setJobs({ j: { schedule: every2h, sources } });
  const child = spawn(launcher, ['-c', world.configFile, '-q', 'backup'], {
    env: programEnv(world.dir),
    stdio: 'ignore',
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  await until(
    () => existsSync(begun) && readFileSync(begun, 'utf8').endsWith('\n'),
    () => 'the source was not begun',
  );
  const pid = Number(readFileSync(begun, 'utf8'));
  const isThere = (): boolean => existsSync(`/proc/${pid}`);
  t.after(() => isThere() && process.kill(pid, 'SIGKILL'));
  child.kill('SIGINT');
  await delay(1200);
  assert.equal(child.exitCode, null, 'it waits for its program');
  child.kill('SIGINT');
  const [status] = await Promise.race([ended, delay(2000, ['still there'])]);
  assert.equal(status, 130);
  await until(
    () => !isThere(),
    () => 'the program of the source is left behind',
  );
});

test('Ctrl-C while nobody reads what was said ends the program all the same', async (t) => {
  const main = new URL('../../src/main.ts', import.meta.url).href;
  const program = `
    process.stdout.write('x'.repeat(1_000_000)); // more than a pipe holds
    process.argv = ['node', 'sealift', '--version'];
    await import('${main}');
    process.stderr.write('ready');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program]);
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  assert.equal(String(await once(child.stderr, 'data')), 'ready');
  child.kill('SIGINT');
  assert.deepEqual(await Promise.race([ended, delay(4000, ['still there'])]), [0, null]);
});

suite('Ctrl-C while the store takes the index', needs('s3'), () => {
  const fails = { before: ['false'] };
  for (const { jobs, status } of [
    { jobs: { only: {} }, status: 0 },
    { jobs: { first: {}, second: {} }, status: 130 },
    { jobs: { failing: fails, last: {} }, status: 3 },
  ])
    test(`of ${Object.keys(jobs).join(' and ')} ends with ${status}, and that snapshot is there`, async (t) => {
      const taken = Promise.withResolvers<void>();
      const endpoint = await s3Proxy(t, async (exchange) => {
        const answer = await exchange.ask();
        if (exchange.method === 'PUT' && exchange.path.includes('index.json.gpg')) {
          taken.resolve();
          await delay(500); // until the signal is there
        }
        return exchange.answer(answer);
      });
      const { store } = await bucketStore();
      const world = await makeWorld(t, { jobs: {}, store: { ...store, endpoint } });
      writeFileSync(join(world.dir, 'file'), 'content');
      const sources = [{ name: 's', kind: 'files', paths: [join(world.dir, 'file')] }];
      world.setJobs(
        Object.fromEntries(
          Object.entries(jobs).map(([name, job]) => [name, { schedule: every2h, sources, ...job }]),
        ),
      );

      const child = spawn(launcher, ['-c', world.configFile, '--json', 'backup'], {
        env: programEnv(world.dir),
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const said = child.stdout.setEncoding('utf8').toArray();
      const ended = once(child, 'exit') as Promise<[number | null]>;
      await taken.promise;
      child.kill('SIGINT');
      assert.deepEqual(await ended, [status, null]);

      const { snapshots } = await world.json<Listing>('list');
      assert.deepEqual(
        snapshots.map(({ job }) => job),
        Object.entries(jobs)
          .filter(([, job]) => job !== fails)
          .map(([name]) => name)
          .slice(0, 1),
      );
      assert.match((await said).join(''), new RegExp(`"snapshot":"${snapshots[0]!.snapshot}"`));
    });
});
