import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { Duty } from '../../src/commands/duty.ts';
import { silentLog } from '../../src/log.ts';
import { createOutput } from '../../src/output.ts';
import { programEnv } from '../support/cli.ts';
import { makeWorld } from '../support/world.ts';

test('a configuration that is taken over while a store is opened anew stays', async (t) => {
  const world = await makeWorld(t, {
    jobs: {
      tree: { schedule: '0 3 1 1 *', sources: [{ name: 'tree', kind: 'files', paths: ['/nowhere'] }] },
    },
  });
  const surroundings = environment(programEnv(world.dir), world.dir);
  const config = loadConfig(world.configFile, surroundings);
  const context = {
    // So many pins that the store is opened slowly.
    config: async () => ({ ...config, hosts: Array.from({ length: 200 }, () => config.hosts[0]!) }),
    configPath: world.configFile,
    environment: surroundings,
    log: silentLog(),
    output: createOutput({ write: () => {}, colour: false }),
    json: false,
    quiet: true,
    signal: new AbortController().signal,
    clock: systemClock,
  };
  const store = join(world.dir, 'store');
  let reload: Promise<void> | undefined;
  await using duty = await Duty.open(context, (event) => {
    assert.deepEqual([event.type, 'code' in event && event.code], ['failed', 'store-not-found']);
    mkdirSync(store);
    reload = duty.reload(() => ({ ...config, maxAgeSeconds: config.maxAgeSeconds + 1 }));
  });
  rmSync(store, { recursive: true });
  duty.startJobs();
  await duty.settled();
  assert.ok(reload);
  await reload;
  assert.equal(duty.config.maxAgeSeconds, config.maxAgeSeconds + 1);
});
