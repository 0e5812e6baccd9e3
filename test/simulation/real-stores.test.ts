import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { needs } from '../services/services.ts';
import { temporary } from '../support/temporary.ts';
import { checkHistories, setting } from './check.ts';
import { directoryGround } from './directory-ground.ts';
import { shortLimits, type Frame } from './history.ts';
import type { Ground } from './real-bucket.ts';
import { s3Ground } from './s3-ground.ts';

const seed = setting('SEALIFT_SIM_SEED', 71);
const frame: Frame = {
  days: 4,
  hosts: 1,
  events: { min: 12, max: 16 },
  limits: shortLimits,
  pruneHours: [6],
};

async function check(t: TestContext, frame: Frame, ground: () => Promise<Ground>): Promise<void> {
  const runs = setting('SEALIFT_SIM_RUNS', 1);
  t.diagnostic(`seed ${seed}`);
  await checkHistories({ frame, seed, runs, shrinkMs: 0, ground }, ({ counts }) =>
    t.diagnostic(JSON.stringify(counts)),
  );
}

suite('four days on a real store, with trouble', { timeout: 900_000, concurrency: true }, () => {
  test('in a directory, of two hosts', async (t) => {
    await check(t, { ...frame, hosts: 2 }, async () => directoryGround(join(temporary(t), 'store')));
  });

  suite('in a bucket', { ...needs('s3'), concurrency: true }, () => {
    test('without versions', (t) => check(t, frame, () => s3Ground(t, false)));
    test('with versions', (t) => check(t, frame, () => s3Ground(t, true)));
  });
});
