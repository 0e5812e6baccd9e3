/** The limits that follow from maxAge (A) and the re-use window (W), in seconds (docs/format.md, "Words"). */

const hourSeconds = 3600;

/** A run that takes longer than this is aborted: (A - W)/2 - 1 h. */
export const runLimitSeconds = (maxAge: number, reuseWindow: number): number =>
  (maxAge - reuseWindow) / 2 - hourSeconds;

/** An object that no live index names is kept this long after it was written: (A + W)/2. */
export const graceSeconds = (maxAge: number, reuseWindow: number): number => (maxAge + reuseWindow) / 2;
