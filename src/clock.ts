/** Where time comes from. Handed in as an argument, so that a test can hand in another. */
export type Clock = () => Date;

export const systemClock: Clock = () => new Date();

/**
 * A store's time from its one answer on, by what passes here: an answer is held against the local clock, and a second
 * one that is wrong would not be. Answers are in whole seconds, so it is up to a second later.
 */
export function runningFrom(answer: Date, clock: Clock): Clock {
  const askedMs = clock().getTime();
  return () => new Date(answer.getTime() + 1000 + Math.max(0, clock().getTime() - askedMs));
}

/** RFC 3339 in UTC with whole seconds: `2026-11-22T12:00:00Z`, of a Date or of milliseconds since 1970. A fraction is cut off. */
export function rfc3339(time: Date | number): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`;
}

/** The day alone, for people: `2026-11-22`. */
export function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

/** Whole days that are left; negative once it is past. */
export const daysUntil = (date: Date, now: Date): number =>
  Math.floor((date.getTime() - now.getTime()) / 86_400_000);

const units = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** For people, in the two largest units: `7d`, `2d 4h`, `1h 5m`, `12s`, `0s`. Negative durations get a minus sign. */
export function formatDuration(seconds: number): string {
  const parts: string[] = [];
  let rest = Math.floor(Math.abs(seconds));
  const first = units.findIndex(([, size]) => rest >= size);
  if (first === -1) return '0s';
  for (const [unit, size] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return (seconds < 0 ? '-' : '') + parts.join(' ');
}

/** Seconds of a duration as the configuration writes it (`90s`, `30m`, `26h`, `7d`, 0), or undefined. */
export function parseDuration(text: unknown): number | undefined {
  if (text === 0) return 0;
  const match = typeof text === 'string' ? /^(\d{1,9})([smhd])$/.exec(text) : null;
  const size = units.find(([unit]) => unit === match?.[2])?.[1];
  return match && size !== undefined ? Number(match[1]) * size : undefined;
}

/**
 * Of a run and the one that it follows: whether the clock was set back in between, by more than clocks differ. The older one
 * then bears a date that was never true, and no time until which it had to be there.
 */
export const wasSetBack = (previousMs: number, startedMs: number): boolean =>
  previousMs > startedMs + 5 * 60_000;
