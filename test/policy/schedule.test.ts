import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { scheduleOf } from '../../src/policy/cron.ts';
import {
  decideRun,
  lateSince,
  longestGapSeconds,
  nextPruneMs,
  pruneIsDue,
  retryDelayMs,
  type LastTry,
} from '../../src/policy/schedule.ts';

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;
const at = (text: string): number => Date.parse(text);
const iso = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString().replace(':00.000Z', 'Z').replace('.000Z', 'Z');

/** All scheduled instants after `from`, up to `to`. */
function instants(line: string, timezone: string, from: number, to: number): number[] {
  const schedule = scheduleOf(line, timezone);
  const found: number[] = [];
  for (let next = schedule.around(from).next; next !== undefined && next <= to;) {
    found.push(next);
    next = schedule.around(next).next;
  }
  return found;
}

const table: readonly [
  why: string,
  line: string,
  zone: string,
  from: string,
  to: string,
  instants: string,
][] = [
  [
    'every two hours',
    '0 */2 * * *',
    'UTC',
    '2026-11-23T23:30Z',
    '2026-11-24T04:00Z',
    '2026-11-24T00:00Z 2026-11-24T02:00Z 2026-11-24T04:00Z',
  ],
  [
    'seconds',
    '*/20 30 4 * * *',
    'UTC',
    '2026-01-01T00:00Z',
    '2026-01-02T00:00Z',
    '2026-01-01T04:30Z 2026-01-01T04:30:20Z 2026-01-01T04:30:40Z',
  ],
  [
    'lists, ranges, names',
    '5,10 8-9 * jan mon',
    'UTC',
    '2026-01-01T00:00Z',
    '2026-01-11T00:00Z',
    '2026-01-05T08:05Z 2026-01-05T08:10Z 2026-01-05T09:05Z 2026-01-05T09:10Z',
  ],
  [
    'Sunday is 7 and 0',
    '0 3 * * 7',
    'UTC',
    '2026-11-20T00:00Z',
    '2026-11-30T00:00Z',
    '2026-11-22T03:00Z 2026-11-29T03:00Z',
  ],
  [
    'a day of the month and a weekday: both',
    '0 0 13 * 5',
    'UTC',
    '2026-01-01T00:00Z',
    '2026-12-31T00:00Z',
    '2026-02-13T00:00Z 2026-03-13T00:00Z 2026-11-13T00:00Z',
  ],
  [
    'the 31st',
    '0 0 31 * *',
    'UTC',
    '2026-01-01T00:00Z',
    '2026-06-30T00:00Z',
    '2026-01-31T00:00Z 2026-03-31T00:00Z 2026-05-31T00:00Z',
  ],
  [
    'the last of the month',
    '0 0 L * *',
    'UTC',
    '2026-02-01T00:00Z',
    '2026-04-30T12:00Z',
    '2026-02-28T00:00Z 2026-03-31T00:00Z 2026-04-30T00:00Z',
  ],
  [
    '29 February, across 2100',
    '0 12 29 2 *',
    'UTC',
    '2096-01-01T00:00Z',
    '2105-01-01T00:00Z',
    '2096-02-29T12:00Z 2104-02-29T12:00Z',
  ],
  [
    'the turn of the year, east of UTC',
    '0 0 1 1 *',
    'Asia/Tokyo',
    '2026-06-01T00:00Z',
    '2027-06-01T00:00Z',
    '2026-12-31T15:00Z',
  ],
  [
    'spring: 02:30 does not exist in Vienna',
    '30 2 * * *',
    'Europe/Vienna',
    '2026-03-27T12:00Z',
    '2026-03-30T12:00Z',
    '2026-03-28T01:30Z 2026-03-29T01:00Z 2026-03-30T00:30Z',
  ],
  [
    'spring: both of two that do not exist run as one',
    '10,50 2 * * *',
    'Europe/Vienna',
    '2026-03-28T12:00Z',
    '2026-03-29T12:00Z',
    '2026-03-29T01:00Z',
  ],
  [
    'autumn: 02:30 comes twice in Vienna',
    '30 2 * * *',
    'Europe/Vienna',
    '2026-10-24T12:00Z',
    '2026-10-26T12:00Z',
    '2026-10-25T00:30Z 2026-10-26T01:30Z',
  ],
  [
    'spring, every two hours',
    '0 */2 * * *',
    'Europe/Vienna',
    '2026-03-28T22:00Z',
    '2026-03-29T04:00Z',
    '2026-03-28T23:00Z 2026-03-29T01:00Z 2026-03-29T02:00Z 2026-03-29T04:00Z',
  ],
  [
    'autumn, every two hours',
    '0 */2 * * *',
    'Europe/Vienna',
    '2026-10-24T21:00Z',
    '2026-10-25T05:00Z',
    '2026-10-24T22:00Z 2026-10-25T00:00Z 2026-10-25T02:00Z 2026-10-25T03:00Z 2026-10-25T05:00Z',
  ],
  [
    'autumn, every two hours, New York',
    '0 */2 * * *',
    'America/New_York',
    '2026-11-01T03:00Z',
    '2026-11-01T09:00Z',
    '2026-11-01T04:00Z 2026-11-01T06:00Z 2026-11-01T07:00Z 2026-11-01T09:00Z',
  ],
  [
    'autumn, every half hour',
    '*/30 * * * *',
    'Europe/Vienna',
    '2026-10-25T00:15Z',
    '2026-10-25T02:30Z',
    '2026-10-25T00:30Z 2026-10-25T01:00Z 2026-10-25T01:30Z 2026-10-25T02:00Z 2026-10-25T02:30Z',
  ],
  [
    'autumn by half an hour',
    '45 1 * * *',
    'Australia/Lord_Howe',
    '2026-04-04T00:00Z',
    '2026-04-06T00:00Z',
    '2026-04-04T14:45Z 2026-04-05T15:15Z',
  ],
  [
    'spring by half an hour',
    '15 2 * * *',
    'Australia/Lord_Howe',
    '2026-10-03T00:00Z',
    '2026-10-05T00:00Z',
    '2026-10-03T15:30Z 2026-10-04T15:15Z',
  ],
  [
    'midnight does not exist',
    '0 0 * * *',
    'America/Santiago',
    '2026-09-05T00:00Z',
    '2026-09-07T12:00Z',
    '2026-09-05T04:00Z 2026-09-06T04:00Z 2026-09-07T03:00Z',
  ],
  [
    'a day that was left out',
    '0 12 * * *',
    'Pacific/Apia',
    '2011-12-29T00:00Z',
    '2012-01-01T00:00Z',
    '2011-12-29T22:00Z 2011-12-30T10:00Z 2011-12-30T22:00Z 2011-12-31T22:00Z',
  ],
];

for (const [why, line, zone, from, to, wanted] of table)
  test(`${line} in ${zone}: ${why}`, () => {
    assert.equal(instants(line, zone, at(from), at(to)).map(iso).join(' '), wanted);
  });

/**
 * The same by brute force: a wall clock that is looked at every minute, from real time alone. It shares nothing with
 * the code but the meaning: `fires` is asked of a time of day, in minutes.
 */
function reference(
  fires: (minuteOfDay: number) => boolean,
  isInterval: boolean,
  timeZone: string,
  from: number,
  to: number,
): number[] {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' });
  const wallAt = (ms: number): number => at(`${format.format(ms).replace(' ', 'T')}Z`) / minute;
  const matches = (wall: number): boolean => fires(((wall % 1440) + 1440) % 1440);
  const found: number[] = [];
  let furthest = wallAt(from - 3 * hour);
  let behind = 0; // minutes that the clock was set back, until the new clock has its first instant
  let wall = furthest;
  for (let now = from - 3 * hour + minute; now <= to; now += minute) {
    const next = wallAt(now);
    if (next < wall) behind = wall + 1 - next;
    wall = next;
    const isNew: boolean = wall > furthest;
    let hit = false;
    for (let passed = furthest + 1; passed <= wall; passed++) hit ||= matches(passed);
    furthest = Math.max(furthest, wall);
    if (isNew && hit) behind = 0;
    else if (isInterval && behind > 0 && matches(wall + behind)) hit = true;
    if (hit && now > from) found.push(now);
  }
  return found;
}

const changes: readonly [zone: string, ...changes: string[]][] = [
  ['Europe/Vienna', '2026-03-29T01:00Z', '2026-10-25T01:00Z'],
  ['America/New_York', '2026-03-08T07:00Z', '2026-11-01T06:00Z'],
  ['Australia/Lord_Howe', '2026-04-04T15:00Z', '2026-10-03T15:30Z'],
  ['Atlantic/Azores', '2026-03-29T01:00Z', '2026-10-25T01:00Z'],
  ['UTC', '2026-10-25T01:00Z'],
];
const change = fc.constantFrom(
  ...changes.flatMap(([zone, ...times]) => times.map((time) => ({ zone, time }))),
);
const minutes = fc.oneof(
  fc
    .constantFrom(1, 7, 15, 25, 30)
    .map((step) => ({ text: `*/${step}`, has: (m: number) => m % step === 0 })),
  fc
    .uniqueArray(fc.integer({ min: 0, max: 59 }), { minLength: 1, maxLength: 3 })
    .map((list) => ({ text: list.join(), has: (m: number) => list.includes(m) })),
);
const hours = fc.oneof(
  fc
    .constantFrom(1, 2, 3, 4, 6, 12)
    .map((step) => ({ text: step === 1 ? '*' : `*/${step}`, has: (h: number) => h % step === 0 })),
  fc
    .uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 5 })
    .map((list) => ({ text: list.join(), has: (h: number) => list.includes(h) })),
);

test('where clocks change, instants are those that a clock on the wall shows, minute by minute', () => {
  fc.assert(
    fc.property(change, minutes, hours, ({ zone, time }, m, h) => {
      const [from, to] = [at(time) - 26 * hour, at(time) + 26 * hour];
      const line = `${m.text} ${h.text} * * *`;
      const fires = (of: number): boolean => h.has(Math.floor(of / 60)) && m.has(of % 60);
      const wanted = reference(fires, h.text.startsWith('*'), zone, from, to);
      // What the two agree on must not be that there is nothing.
      if (h.text.startsWith('*')) assert.ok(wanted.length >= 4);
      assert.deepEqual(instants(line, zone, from, to).map(iso), wanted.map(iso), `${line} ${zone}`);
    }),
    { numRuns: 120 },
  );
});

test('an interval is never longer in real time than it is on an ordinary day, and no instant comes twice', () => {
  for (const [zone, ...times] of changes)
    for (const time of times)
      for (const [line, longest] of [
        ['*/5 * * * *', 5],
        ['0 * * * *', 60],
        ['0 */2 * * *', 120],
        ['20 */3 * * *', 180],
      ] as const) {
        const found = instants(line, zone, at(time) - 30 * hour, at(time) + 30 * hour);
        const gaps = found.slice(1).map((instant, n) => (instant - found[n]!) / minute);
        assert.ok(Math.max(...gaps) <= longest, `${line} ${zone} ${time}: ${Math.max(...gaps)}`);
        assert.ok(Math.min(...gaps) > 0);
      }
});

test('seconds by brute force, through the hour that comes twice', () => {
  const [from, to] = [at('2026-10-25T00:58Z'), at('2026-10-25T02:02Z')];
  const found = instants('*/17 * * * * *', 'Europe/Vienna', from, to);
  const wanted: number[] = [];
  for (let now = from + second; now <= to; now += second)
    if (((now / second) % 60) % 17 === 0) wanted.push(now);
  assert.deepEqual(found, wanted);
});

test('the latest instant and the next one are neighbours, wherever one looks', () => {
  const line = fc.constantFrom('30 2 * * *', '0 */2 * * *', '*/7 1-3 * * *', '0 0 1 * *', '15 4 * * 1-5');
  fc.assert(
    fc.property(change, line, fc.integer({ min: -3 * day, max: 3 * day }), ({ zone, time }, line, away) => {
      const schedule = scheduleOf(line, zone);
      const now = at(time) + away;
      const { latest, next } = schedule.around(now);
      assert.ok(latest !== undefined && next !== undefined && latest <= now && now < next);
      assert.deepEqual(schedule.around(latest), { latest, next });
      assert.deepEqual(schedule.around(next - 1), { latest, next });
      assert.equal(schedule.around(next).latest, next);
    }),
  );
});

const every2h = scheduleOf('0 */2 * * *', 'UTC');
const now = at('2026-11-24T12:10Z');
const decide = (newest: string | undefined, lastTry?: LastTry, nowMs = now) =>
  decideRun({
    schedule: every2h,
    newestMs: newest === undefined ? undefined : at(newest),
    lastTry,
    maxAgeMs: 7 * day,
    nowMs,
  });
const tried = (started: string, ended: string, failures: number): LastTry => ({
  startedMs: at(started),
  endedMs: at(ended),
  failures,
});

test('a run is due when the newest snapshot began before the last scheduled instant', () => {
  assert.equal(decide('2026-11-24T11:59:59Z').due, true);
  assert.equal(decide('2026-11-24T12:00:00Z').due, false);
  assert.equal(decide('2026-11-24T12:09Z').due, false);
  assert.equal(iso(decide('2026-11-24T12:09Z').nextMs), '2026-11-24T14:00Z');
  assert.equal(decide(undefined).due, true);
  assert.match(decide(undefined).reason, /no snapshot yet/);
  const [before, exactly] = ['2026-11-24T13:59:59.999Z', '2026-11-24T14:00Z'].map((text) =>
    decide('2026-11-24T12:00Z', undefined, at(text)),
  );
  assert.deepEqual([before!.due, exactly!.due], [false, true]);
});

test('twelve instants that were missed are one run, and after it the next is at its time', () => {
  assert.equal(decide('2026-11-23T11:00Z').due, true);
  const after = decide('2026-11-24T12:10Z', tried('2026-11-24T12:10Z', '2026-11-24T12:10Z', 0));
  assert.deepEqual([after.due, iso(after.nextMs)], [false, '2026-11-24T14:00Z']);
});

test('a snapshot from the future suppresses no run beyond the next instant', () => {
  assert.equal(decide('2026-11-24T13:59Z').due, false, 'within this interval it counts');
  assert.equal(decide('2026-11-24T14:00Z').due, true);
  assert.equal(decide('2031-01-01T00:00Z').due, true);
  // A store whose clock is ahead gives every snapshot such a date: what was done here counts.
  assert.equal(decide('2026-11-24T15:00Z', tried('2026-11-24T12:01Z', '2026-11-24T12:02Z', 0)).due, false);
  // Tries that the clock made before it was set back count no longer either.
  assert.equal(decide(undefined, tried('2026-12-01T00:00Z', '2026-12-01T00:01Z', 0)).due, true);
  assert.equal(decide(undefined, tried('2026-11-24T13:00Z', '2026-11-24T13:01Z', 3)).due, true);
});

test('a run that was under way at an instant covers it: it is not queued', () => {
  const long = tried('2026-11-24T09:59Z', '2026-11-24T12:05Z', 0);
  const decision = decide('2026-11-24T09:59Z', long);
  assert.deepEqual([decision.due, iso(decision.nextMs)], [false, '2026-11-24T14:00Z']);
  assert.equal(decide('2026-11-24T09:59Z', long, at('2026-11-24T14:00Z')).due, true);
});

test('a success since the last instant counts in a store that has lost it for nothing, unless it has ended', () => {
  const yearly = scheduleOf('0 0 1 1 *', 'UTC');
  const lastTry = tried('2026-11-01T00:00Z', '2026-11-01T00:05Z', 0);
  const decideAt = (text: string) =>
    decideRun({ schedule: yearly, newestMs: undefined, lastTry, maxAgeMs: 7 * day, nowMs: at(text) }).due;
  assert.equal(decideAt('2026-11-07T23:59Z'), true);
  assert.equal(decideAt('2026-11-08T00:00Z'), false, 'prune has deleted it');
});

const failed = (failures: number, ended: string, nowText: string) =>
  decide('2026-11-24T10:00Z', tried('2026-11-24T12:00Z', ended, failures), at(nowText));

test('a failed run is tried again after 1, 2, 4, ... minutes, and at the next instant at the latest', () => {
  const first = failed(1, '2026-11-24T12:00:10Z', '2026-11-24T12:01:09Z');
  assert.deepEqual([first.due, iso(first.nextMs), first.failures], [false, '2026-11-24T12:01:10Z', 1]);
  assert.equal(failed(1, '2026-11-24T12:00:10Z', '2026-11-24T12:01:10Z').due, true);
  assert.equal(failed(3, '2026-11-24T12:00:10Z', '2026-11-24T12:04:09Z').due, false);
  assert.equal(failed(3, '2026-11-24T12:00:10Z', '2026-11-24T12:04:10Z').due, true);
  const last = failed(7, '2026-11-24T13:30Z', '2026-11-24T13:40Z');
  assert.deepEqual(
    [last.due, iso(last.nextMs)],
    [false, '2026-11-24T14:00Z'],
    'never beyond the next instant',
  );
  const fresh = failed(7, '2026-11-24T13:59:59Z', '2026-11-24T14:00Z');
  assert.deepEqual([fresh.due, fresh.failures], [true, 0], 'a new instant starts anew');
});

test('retries are in step with the interval', () => {
  const delays = (intervalMs: number) =>
    [1, 2, 3, 9].map((failures) => retryDelayMs(failures, intervalMs) / second);
  assert.deepEqual(delays(2 * hour), [60, 120, 240, 3600]);
  assert.deepEqual(delays(10 * minute), [10, 20, 40, 2560]);
  assert.deepEqual(delays(2 * second), [1, 2, 4, 256]);
});

test('whatever happened before, a job that never succeeds is tried in every interval, and one that does once in each', () => {
  const outcomes = fc.array(
    fc.record({ fails: fc.boolean(), takes: fc.integer({ min: 0, max: 5 * hour }) }),
    { minLength: 3, maxLength: 12 },
  );
  fc.assert(
    fc.property(outcomes, (outcomes) => {
      let clock = at('2026-11-24T00:00Z');
      let newestMs: number | undefined = clock;
      let lastTry: LastTry | undefined;
      for (const { fails, takes } of outcomes) {
        const instant = every2h.around(clock).next!;
        let decision = decideRun({ schedule: every2h, newestMs, lastTry, maxAgeMs: 7 * day, nowMs: clock });
        while (!decision.due) {
          assert.ok(decision.nextMs !== undefined && decision.nextMs > clock, 'time goes on');
          assert.ok(decision.nextMs <= every2h.around(clock).next!);
          clock = decision.nextMs;
          decision = decideRun({ schedule: every2h, newestMs, lastTry, maxAgeMs: 7 * day, nowMs: clock });
        }
        assert.ok(clock <= instant, 'no instant passes without a run, but for those that a run covers');
        const succeededSince = newestMs !== undefined && newestMs >= every2h.around(clock).latest!;
        assert.ok(!succeededSince, 'one success is enough');
        lastTry = { startedMs: clock, endedMs: clock + takes, failures: fails ? decision.failures + 1 : 0 };
        if (!fails) newestMs = clock;
        clock += takes;
      }
    }),
  );
});

test('a job is late an interval after the run it missed, or after six hours', () => {
  const daily = scheduleOf('0 2 * * *', 'UTC');
  const seconds = scheduleOf('*/2 * * * * *', 'UTC');
  const newest = at('2026-11-24T02:00Z');
  const late = (schedule: typeof daily, nowText: string) => iso(lateSince(schedule, newest, at(nowText)));
  assert.equal(late(every2h, '2026-11-24T06:00:00Z'), undefined);
  assert.equal(late(every2h, '2026-11-24T06:00:01Z'), '2026-11-24T06:00Z');
  assert.equal(late(daily, '2026-11-25T08:00:00Z'), undefined);
  assert.equal(late(daily, '2026-11-25T08:00:01Z'), '2026-11-25T08:00Z');
  assert.equal(late(seconds, '2026-11-24T02:01:00Z'), undefined);
  assert.equal(late(seconds, '2026-11-24T02:01:03Z'), '2026-11-24T02:01:02Z');
});

test('prune wakes when the next snapshot ends, hourly at the latest, and soon after a failure', () => {
  assert.equal(nextPruneMs(now, undefined, false) - now, hour);
  assert.equal(nextPruneMs(now, now + 20 * minute, false) - now, 20 * minute);
  assert.equal(nextPruneMs(now, now + day, false) - now, hour);
  assert.equal(nextPruneMs(now, now - day, false) - now, minute, 'what cannot go does not keep it busy');
  assert.equal(nextPruneMs(now, undefined, true) - now, 5 * minute);
});

test('prune is due at its time, and when that lies further ahead than it ever waits: the clock was ahead', () => {
  const cases: [dueMs: number, due: boolean][] = [
    [-Infinity, true],
    [now - 30 * day, true],
    [now, true],
    [now + 1, false],
    [now + hour, false],
    [now + hour + 1, true],
    [now + 30 * day, true],
  ];
  for (const [dueMs, due] of cases)
    assert.equal(pruneIsDue(now, dueMs), due, `${(dueMs - now) / minute} min`);
});

const gap = (line: string, zone: string, around: string) => longestGapSeconds(line, zone, at(around)) / 3600;

test('a field that names its values again and again names them once', () => {
  const minutes = Array<string>(20).fill('0-59').join(',');
  const often = `${minutes} ${minutes} 0-23 * * *`;
  const before = process.resourceUsage().maxRSS;
  assert.equal(longestGapSeconds(often, 'UTC', at('2026-11-22T12:00:00Z')), 1);
  assert.ok(process.resourceUsage().maxRSS - before < 200_000, 'kilobytes');
});

test('the longest gap of a schedule knows of weekends, months and clocks', () => {
  assert.equal(gap('0 */2 * * *', 'UTC', '2026-11-24T00:00Z'), 2);
  assert.equal(gap('0 */2 * * *', 'Europe/Vienna', '2026-10-25T00:00Z'), 2);
  assert.equal(gap('0 2 * * *', 'Europe/Vienna', '2026-10-20T00:00Z'), 25);
  assert.equal(gap('0 2 * * *', 'Europe/Vienna', '2026-09-20T00:00Z'), 24);
  assert.equal(gap('0 2 * * 1-5', 'UTC', '2026-11-24T00:00Z'), 72);
  assert.equal(gap('0 0 1 * *', 'UTC', '2026-01-16T12:00Z'), 31 * 24);
  assert.equal(gap('0 8,9,17 * * *', 'UTC', '2026-01-16T12:00Z'), 15);
  assert.equal(gap('*/2 * * * * *', 'Europe/Vienna', '2026-10-25T00:00Z'), 2 / 3600);
  assert.equal(gap('*/50 * * * * *', 'UTC', '2026-10-25T00:00Z'), 50 / 3600);
});
