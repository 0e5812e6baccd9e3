import type { Config } from '../config/config.ts';

/** Retention in seconds: maxAge (A), the re-use window (W), and what follows from them (docs/format.md, "Words"). */
export interface Limits {
  readonly maxAge: number;
  readonly reuseWindow: number;
}

export const limitsOf = ({
  maxAgeSeconds,
  reuseWindowSeconds,
}: Pick<Config, 'maxAgeSeconds' | 'reuseWindowSeconds'>): Limits => ({
  maxAge: maxAgeSeconds,
  reuseWindow: reuseWindowSeconds,
});

const hourSeconds = 3600;

/** A run that takes longer than this is aborted: (A - W)/2 - 1 h. */
export const runLimitSeconds = ({ maxAge, reuseWindow }: Limits): number =>
  (maxAge - reuseWindow) / 2 - hourSeconds;

/** An object that no live index names is kept this long after it was written: (A + W)/2. */
export const graceSeconds = ({ maxAge, reuseWindow }: Limits): number => (maxAge + reuseWindow) / 2;

/** No object lives longer, whatever names it (rule R5): A + W. */
export const ceilingSeconds = ({ maxAge, reuseWindow }: Limits): number => maxAge + reuseWindow;

export interface LimitsMs {
  readonly maxAgeMs: number;
  readonly graceMs: number;
  readonly ceilingMs: number;
}

/** The largest of each. */
export function largestOf(all: readonly Limits[]): LimitsMs {
  const largest = (of: (limits: Limits) => number): number =>
    1000 * all.reduce((most, limits) => Math.max(most, of(limits)), 0);
  return {
    maxAgeMs: largest(({ maxAge }) => maxAge),
    graceMs: largest(graceSeconds),
    ceilingMs: largest(ceilingSeconds),
  };
}
