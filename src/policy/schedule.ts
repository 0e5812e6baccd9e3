import { rfc3339 } from '../clock.ts';
import { scheduleOf, type Schedule } from './cron.ts';

/** What is due, from the schedule, what the store has and what was tried, at a given time. All times in ms since 1970. */

/** The last time that this machine tried to run the job, by its own clock. */
export interface LastTry {
  readonly startedMs: number;
  readonly endedMs: number;
  /** Failures in a row; 0 after a success. */
  readonly failures: number;
}

export interface RunQuestion {
  readonly schedule: Schedule;
  /** Start of the newest snapshot in the store; undefined if there is none. */
  readonly newestMs: number | undefined;
  readonly lastTry: LastTry | undefined;
  /** So long a snapshot stays in the store. */
  readonly maxAgeMs: number;
  readonly nowMs: number;
}

export interface RunDecision {
  readonly due: boolean;
  /** Continues "job NAME: ". */
  readonly reason: string;
  /** When to decide again: the next scheduled instant, or an earlier retry. Undefined if no day ever matches. */
  readonly nextMs: number | undefined;
  /** Tries in vain since the last scheduled instant. */
  readonly failures: number;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

/**
 * A run is due when the newest one began before the last scheduled instant, however many were missed. A run that was
 * under way at an instant covers it. What is dated in the future counts only until the next instant, so that a clock
 * that was wrong for a while suppresses one run at most.
 */
export function decideRun({ schedule, newestMs, lastTry, maxAgeMs, nowMs }: RunQuestion): RunDecision {
  const { latest, next } = schedule.around(nowMs);
  const wait = (reason: string, nextMs = next, failures = 0): RunDecision => ({
    due: false,
    reason,
    nextMs,
    failures,
  });
  if (latest === undefined) return wait('its schedule names no day that ever was');
  const end = next ?? Infinity;
  if (newestMs !== undefined && newestMs >= latest && newestMs < end)
    return wait(`backed up since ${rfc3339(latest)}`);
  if (lastTry && lastTry.endedMs >= latest && lastTry.startedMs < end) {
    const { endedMs, failures } = lastTry;
    // A success counts for what it left: in an empty store for nothing, unless what it left has ended since.
    if (failures === 0 && newestMs === undefined && nowMs < lastTry.startedMs + maxAgeMs)
      return { due: true, reason: 'there is no snapshot any more', nextMs: next, failures };
    if (failures === 0) return wait(`a run was under way at ${rfc3339(latest)} or later`);
    const reason = `tried ${times(failures)} in vain since ${rfc3339(latest)}`;
    const retryMs = endedMs + retryDelayMs(failures, end - latest);
    // A try that ended in the future was made before the clock was set back.
    if (nowMs < retryMs && nowMs >= endedMs) return wait(reason, Math.min(retryMs, end), failures);
    return { due: true, reason, nextMs: next, failures };
  }
  const reason =
    newestMs === undefined ? 'there is no snapshot yet' : `the run of ${rfc3339(latest)} is to be made`;
  return { due: true, reason, nextMs: next, failures: 0 };
}

const times = (count: number): string => (count === 1 ? 'once' : `${count} times`);

/** 1, 2, 4, ... minutes up to an hour; in step with the interval where that is shorter than an hour. */
export function retryDelayMs(failures: number, intervalMs: number): number {
  const first = Math.max(1000, Math.min(minuteMs, intervalMs / 60));
  return Math.min(first * 2 ** (failures - 1), hourMs);
}

/** So long a run that was missed may be made up for by retries before it is late. */
const patienceMs = 6 * hourMs;

/**
 * Since when the job is late: the first instant after its newest snapshot passed an interval ago, or six hours where
 * that is longer. Undefined if it is not.
 */
export function lateSince(schedule: Schedule, newestMs: number, nowMs: number): number | undefined {
  const { next: missed } = schedule.around(newestMs);
  if (missed === undefined) return undefined;
  const interval = (schedule.around(missed).next ?? Infinity) - missed;
  // A run takes a moment, also where the schedule is of seconds.
  const late = missed + Math.max(minuteMs, Math.min(interval, patienceMs));
  return nowMs > late ? late : undefined;
}

/** The longest that prune waits. */
const longestPauseMs = hourMs;

/** A time that lies further ahead than prune ever waits was set by a clock that was ahead. */
export const pruneIsDue = (nowMs: number, dueMs: number): boolean =>
  nowMs >= dueMs || dueMs - nowMs > longestPauseMs;

/** When to prune again: when the next snapshot ends, and after an hour at the latest; soon after a failure. */
export function nextPruneMs(nowMs: number, nextExpiryMs: number | undefined, failed: boolean): number {
  if (failed) return nowMs + 5 * minuteMs;
  // What ought to have gone and is still there must not keep the pruner busy all the time.
  return Math.min(nowMs + longestPauseMs, Math.max(nextExpiryMs ?? Infinity, nowMs + minuteMs));
}

const rangeMs = 9 * 24 * hourMs;
const strideMs = 15 * minuteMs;

/**
 * The longest time between two scheduled instants, of those that lie, at least in part, within nine days before or
 * after `aroundMs`. Infinity for a schedule that never fires.
 */
export function longestGapSeconds(line: string, timezone: string, aroundMs: number): number {
  const schedule = scheduleOf(line, timezone);
  // No stride steps over a gap that is longer; shorter ones are those of every day.
  let longest = schedule.longestGapWithinDayMs;
  for (let at = aroundMs - rangeMs; at <= aroundMs + rangeMs;) {
    const { latest, next } = schedule.around(at);
    if (latest === undefined || next === undefined) return Infinity;
    longest = Math.max(longest, next - latest);
    at = Math.max(next, at + strideMs);
  }
  return longest / 1000;
}
