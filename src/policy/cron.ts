import { createTask, parse } from 'node-cron';

/**
 * When a cron line fires in a time zone, as a pure function of time: a missed instant can be found long after it passed.
 * node-cron reads the line and says which days match; it cannot look back, and where clocks change it skips runs.
 *
 * - A local time that clocks jump over fires at the first instant after the gap.
 * - A local time that comes twice fires once, the first time.
 * - Unless the hours are `*` or `*` with a step: such a line means an interval. While the hour comes twice, it goes by
 *   the clock that was not set back, so that no gap is longer than it would be on any other day.
 *
 * As node-cron has it, a line with both a day of the month and a weekday means the days on which both hold.
 */
export interface Schedule {
  /** The last scheduled instant that is not after `atMs`, and the first one that is (milliseconds since 1970). */
  around(atMs: number): Instants;
  /** The longest time between two instants of one ordinary day. */
  readonly longestGapWithinDayMs: number;
}

export interface Instants {
  /** Both are undefined for a day that never comes, such as 31 February. */
  readonly latest: number | undefined;
  readonly next: number | undefined;
}

const dayMs = 86_400_000;

/** Throws for a line that the configuration would not have let pass. */
export function scheduleOf(line: string, timezone: string): Schedule {
  const wall = wallTimes(line);
  const zone = zoneClock(timezone);
  const instantOf = (wallMs: number | undefined): number | undefined =>
    wallMs === undefined ? undefined : zone.instantOf(wallMs);
  const fields = line.trim().split(/\s+/);
  const isInterval = fields[fields.length - 4]?.startsWith('*') === true;
  return {
    longestGapWithinDayMs: wall.longestGapMs,
    around(atMs) {
      const reached = zone.reached(atMs);
      const latest = instantOf(wall.atOrBefore(reached));
      const next = instantOf(wall.after(reached));
      if (!isInterval || latest === undefined || next === undefined || next - latest >= dayMs)
        return { latest, next };
      const offset = zone.offset(latest);
      if (offset <= zone.offset(next)) return { latest, next };
      return {
        latest: Math.max(latest, wall.atOrBefore(atMs + offset)! - offset),
        next: Math.min(next, wall.after(atMs + offset)! - offset),
      };
    },
  };
}

/** Times as a clock on the wall shows them, in milliseconds as if it were in UTC. */
interface WallTimes {
  atOrBefore(wallMs: number): number | undefined;
  after(wallMs: number): number | undefined;
  readonly longestGapMs: number;
}

/** The longest wait that a cron line can ask for: 29 February on a given weekday, across a century without it. */
const horizonDays = 41 * 366;

function wallTimes(line: string): WallTimes {
  const { second, minute, hour, month } = parse(line);
  // Whoever signed the line may have named each value many times.
  const [minutes, seconds] = [new Set(minute), new Set(second)];
  const times = [...new Set(hour)]
    .flatMap((h) => [...minutes].flatMap((m) => [...seconds].map((s) => ((h * 60 + m) * 60 + s) * 1000)))
    .toSorted((a, b) => a - b);
  const task = createTask(line, () => undefined, { timezone: 'UTC' });
  void task.destroy(); // it never runs; it is only asked which days match
  const months = new Set(month);
  const matches = (day: number): boolean =>
    months.has(new Date(day).getUTCMonth() + 1) && task.match(new Date(day + times[0]!));
  const find = (
    wallMs: number,
    step: 1 | -1,
    choose: (timeOfDay: number) => number | undefined,
    whole: number | undefined,
  ): number | undefined => {
    const today = Math.floor(wallMs / dayMs) * dayMs;
    const chosen = choose(wallMs - today);
    if (chosen !== undefined && matches(today)) return today + chosen;
    for (let days = 1; days < horizonDays; days++) {
      const day = today + step * days * dayMs;
      if (matches(day)) return day + whole!;
    }
    return undefined;
  };
  return {
    longestGapMs: times.reduce((longest, time, n) => Math.max(longest, time - (times[n - 1] ?? time)), 0),
    atOrBefore: (wallMs) => find(wallMs, -1, (now) => times.findLast((time) => time <= now), times.at(-1)),
    after: (wallMs) => find(wallMs, 1, (now) => times.find((time) => time > now), times[0]),
  };
}

/** Between real time and the clock on the wall of a time zone. */
interface ZoneClock {
  /** Wall minus UTC. */
  offset(atMs: number): number;
  /** The furthest time that the wall has shown by then. */
  reached(atMs: number): number;
  /** When the wall first shows this time or a later one. */
  instantOf(wallMs: number): number;
}

/** Longer than any change of a clock, and than the difference between a zone and UTC. */
const aroundMs = 26 * 3_600_000;

function zoneClock(timeZone: string): ZoneClock {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  const offset = (atMs: number): number => {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(atMs)) part[type] = Number(value);
    const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(atMs / 1000) * 1000;
  };
  /** The first instant after `low`, up to `high`, at which the offset is another than at `low`. */
  const change = (low: number, high: number): number => {
    const before = offset(low);
    let [same, other] = [low, high];
    while (other - same > 1) {
      const middle = Math.floor((same + other) / 2);
      if (offset(middle) === before) same = middle;
      else other = middle;
    }
    return other;
  };
  return {
    offset,
    reached(atMs) {
      const before = offset(atMs - aroundMs);
      const now = offset(atMs);
      return before <= now ? atMs + now : Math.max(atMs + now, change(atMs - aroundMs, atMs) + before - 1);
    },
    instantOf(wallMs) {
      const before = offset(wallMs - aroundMs);
      const after = offset(wallMs + aroundMs);
      const match = [before, after].find((candidate) => offset(wallMs - candidate) === candidate);
      return match === undefined ? change(wallMs - after, wallMs - before) : wallMs - match;
    },
  };
}
