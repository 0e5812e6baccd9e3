/** Chance that is the same every time: mulberry32, https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
export interface Chance {
  /** A whole number from 0 up to, not including, `limit`. */
  below(limit: number): number;
  pick<T>(from: readonly [T, ...T[]]): T;
  /** Text that does not compress: what a key or a hash looks like. */
  base64(bytes: number): string;
}

export function createChance(seed: number): Chance {
  let state = seed;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (limit: number): number => Math.floor((next() / 2 ** 32) * limit);
  return {
    below,
    pick: (from) => from[below(from.length)] ?? from[0],
    base64: (bytes) => Buffer.from(Array.from({ length: bytes }, () => below(256))).toString('base64'),
  };
}
