import { suite, test } from 'node:test';
import { checkHistories, setting, usualFrame } from './check.ts';

/**
 * Short histories for every test run, always the same: `npm run simulate` plays others, and longer ones. To see one:
 *
 *     SEALIFT_SIM_SEED=123 node test/run.ts test/simulation/simulation.test.ts
 */
const seed = setting('SEALIFT_SIM_SEED', 3);
const runs = setting('SEALIFT_SIM_RUNS', 1);

suite('five days of three hosts, with trouble', { timeout: 900_000 }, () => {
  test(`what lives can be restored and what is past is gone: seed ${seed}`, async (t) => {
    const frame = usualFrame(5, { min: 15, max: 30 });
    await checkHistories({ frame, seed, runs, shrinkMs: 45_000 }, ({ counts }) =>
      t.diagnostic(JSON.stringify(counts)),
    );
  });
});
