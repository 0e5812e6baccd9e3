import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { histories, usualLimits, type Frame, type History } from './history.ts';
import type { Ground } from './real-bucket.ts';
import { play, type Played } from './world.ts';

export interface CheckOptions {
  readonly frame: Frame;
  readonly seed: number;
  /** Histories that are played. */
  readonly runs: number;
  /** When to stop looking for a shorter history that fails too; 0: not to look for any. */
  readonly shrinkMs: number;
  /** A new store for each history; in memory without. */
  readonly ground?: () => Promise<Ground>;
}

/** Three hosts as they are in life. */
export const usualFrame = (days: number, events: Frame['events']): Frame => ({
  days,
  events,
  hosts: 3,
  limits: usualLimits,
  pruneHours: [1, 6, 24],
});

/**
 * Plays random histories and throws when the oracle complains in one of them: with the seed, the complaints and the
 * shortest such history that was found in time.
 */
export async function checkHistories(options: CheckOptions, tell: (played: Played) => void): Promise<void> {
  // What is played after the first failure only looks for a shorter history. The time for that must not count before:
  // on a busy machine one history may take longer.
  let failed = false;
  let patienceEndsMs = Infinity;
  const property = fc.asyncProperty(histories(options.frame), async (history: History) => {
    if (performance.now() > patienceEndsMs) return;
    const played = await play(history, await options.ground?.());
    if (played.complaints.length > 0 && !failed) {
      failed = true;
      patienceEndsMs = performance.now() + options.shrinkMs;
    }
    assert.deepEqual(played.complaints, [], `to see it again: SEALIFT_SIM_SEED=${options.seed}`);
    if (!failed) tell(played);
  });
  await fc.assert(property, {
    seed: options.seed,
    numRuns: options.runs,
    endOnFailure: options.shrinkMs === 0,
  });
}

/** A number from the environment, or what is used without. */
export function setting(name: string, usual: number): number {
  const text = process.env[name];
  if (text === undefined) return usual;
  assert.match(text, /^-?\d+$/, `${name} is a number`);
  return Number(text);
}
