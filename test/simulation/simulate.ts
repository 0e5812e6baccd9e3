/**
 * npm run simulate: the long form. Ten seeds, by default, of 21 days each; SEALIFT_SIM_SEED plays one alone,
 * SEALIFT_SIM_RUNS so many histories of each, SEALIFT_SIM_DAYS so many days.
 */
import { randomInt } from 'node:crypto';
import { messageOf } from '../../src/errors.ts';
import { checkHistories, setting, usualFrame } from './check.ts';

const given = setting('SEALIFT_SIM_SEED', NaN);
const seeds = Number.isNaN(given) ? Array.from({ length: 10 }, () => randomInt(2 ** 31)) : [given];
const days = setting('SEALIFT_SIM_DAYS', 21);
const columns = [
  'runs',
  'commits',
  'overtime',
  'gone',
  'kills',
  'prunes',
  'failClosed',
  'removals',
  'duties',
  'stranded',
  'audits',
  'opened',
  'excused',
] as const;

const line = (cells: readonly (string | number)[]): void =>
  void process.stdout.write(`${cells.map((cell) => String(cell).padStart(10)).join(' ')}\n`);

line(['seed', 'days', ...columns, 'seconds']);
for (const seed of seeds) {
  let startedMs = performance.now();
  const options = {
    seed,
    frame: usualFrame(days, { min: 2 * days, max: 5 * days }),
    runs: setting('SEALIFT_SIM_RUNS', 1),
    shrinkMs: 10 * 60_000,
  };
  try {
    await checkHistories(options, ({ counts }) => {
      const seconds = Math.round((performance.now() - startedMs) / 1000);
      line([seed, days, ...columns.map((column) => counts[column] ?? 0), seconds]);
      startedMs = performance.now();
    });
  } catch (error) {
    const complaints = messageOf((error as Error).cause ?? '');
    process.stdout.write(`seed ${seed} failed:\n${messageOf(error)}\n${complaints}\n`);
    process.exitCode = 1;
  }
}
