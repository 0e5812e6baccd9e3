import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { needs } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { launcher } from '../support/cli.ts';
import { bucketStore, every2h, makeWorld, type BackupSummary } from '../support/world.ts';

suite('a store that falls silent', needs('s3'), () => {
  test('at the commit does not hold up whoever wants to stop, and nothing is lost', async (t) => {
    const asked = Promise.withResolvers<void>();
    let silent = true;
    const endpoint = await s3Proxy(t, async (exchange) => {
      if (!silent || exchange.method !== 'PUT' || !exchange.path.includes('index.json.gpg'))
        return exchange.answer(await exchange.ask());
      asked.resolve();
    });
    const { store } = await bucketStore();
    const world = await makeWorld(t, { jobs: {}, store: { ...store, endpoint } });
    writeFileSync(join(world.dir, 'file'), 'x'.repeat(100_000));
    const sources = [{ name: 's', kind: 'files', paths: [join(world.dir, 'file')] }];
    world.setJobs({ j: { schedule: every2h, sources } });

    const child = spawn(launcher, ['-c', world.configFile, 'backup'], { stdio: 'ignore' });
    const ended = once(child, 'exit') as Promise<[number | null]>;
    await asked.promise;
    const stoppedAt = performance.now();
    child.kill('SIGTERM');
    const [status] = await ended;
    const seconds = (performance.now() - stoppedAt) / 1000;
    assert.equal(status, 130);
    assert.ok(seconds > 9 && seconds < 25, `${seconds} s`);

    silent = false;
    const { snapshots } = await world.json<BackupSummary>('backup');
    assert.equal(snapshots[0]?.status, 'complete');
    assert.equal(snapshots[0].newSegments, 0, 'all is adopted');
  });
});
