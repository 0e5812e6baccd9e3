import * as fc from 'fast-check';

/** What can happen to a store and those who use it, as a plain value that a failing test can print and shrink. */
export interface History {
  /** Of everything that is left to chance while it is played. */
  readonly seed: number;
  readonly versioned: boolean;
  readonly startAt: string;
  readonly days: number;
  readonly limits: readonly Limits[];
  /** A pruner comes so often. */
  readonly pruneHours: number;
  readonly events: readonly HistoryEvent[];
}

export interface Limits {
  readonly maxAgeHours: number;
  readonly windowHours: number;
}

export type Deed =
  | { readonly do: 'fail'; readonly host: number; readonly hours: number }
  | { readonly do: 'die' | 'rename'; readonly host: number }
  | { readonly do: 'remove-job'; readonly host: number; readonly job: number }
  | { readonly do: 'change-limits'; readonly host: number; readonly limits: Limits }
  | { readonly do: 'change-recipients'; readonly host: number; readonly recipients: readonly number[] }
  | { readonly do: 'pruner-down'; readonly pruner: number; readonly days: number }
  | {
      readonly do: 'jump';
      readonly whose: 'store' | 'host' | 'all';
      readonly host: number;
      readonly minutes: number;
      readonly hours: number;
    }
  /** The next run of the job takes so many parts of its run limit. */
  | { readonly do: 'slow-run'; readonly host: number; readonly job: number; readonly parts: number }
  | {
      readonly do: 'kill-run';
      readonly host: number;
      readonly job: number;
      readonly atCall: number;
      readonly moment: 'before' | 'after';
    }
  | {
      readonly do: 'kill-prune';
      readonly pruner: number;
      readonly atCall: number;
      readonly moment: 'before' | 'after';
    }
  | { readonly do: 'slow-prune'; readonly pruner: number; readonly minutes: number }
  | { readonly do: 'prune-together' }
  | { readonly do: 'deny-removal'; readonly pruner: number; readonly percent: number }
  | { readonly do: 'strand-upload'; readonly host: number }
  | { readonly do: 'tamper'; readonly how: Tampering; readonly host: number; readonly pick: number };

export type Tampering =
  'damage-index' | 'take-index' | 'take-segment' | 'cover-segment' | 'hide-index' | 'plant';

export type HistoryEvent = { readonly atHours: number } & Deed;

/** Two-hourly; and daily at a time that does not exist on one day of the year and exists twice on another. */
export const jobs = [
  { name: 'databases', schedule: '0 */2 * * *', timezone: 'Europe/Vienna' },
  { name: 'system', schedule: '30 2 * * *', timezone: 'Europe/Vienna' },
] as const;
export const recipientCount = 3;
/** Pruners on machines of their own. */
export const foreignPruners = 2;

/** How histories differ from each other, but for chance. */
export interface Frame {
  readonly days: number;
  readonly hosts: number;
  /** Things that happen. */
  readonly events: { readonly min: number; readonly max: number };
  /** Limits that hosts may have. */
  readonly limits: readonly Limits[];
  readonly pruneHours: readonly number[];
}

export const usualLimits: readonly Limits[] = [
  { maxAgeHours: 168, windowHours: 26 },
  { maxAgeHours: 96, windowHours: 26 },
  { maxAgeHours: 72, windowHours: 26 },
  { maxAgeHours: 72, windowHours: 48 },
  { maxAgeHours: 50, windowHours: 26 },
  { maxAgeHours: 72, windowHours: 0 },
];
/** Of which each rule comes to act within four days. */
export const shortLimits: readonly Limits[] = [
  { maxAgeHours: 50, windowHours: 26 },
  { maxAgeHours: 36, windowHours: 4 },
  { maxAgeHours: 30, windowHours: 0 },
];

const jumpMinutes = fc
  .record({ minutes: fc.integer({ min: 3, max: 300 }), sign: fc.constantFrom(-1, 1) })
  .map(({ minutes, sign }) => minutes * sign);

function often<T>(deed: { [K in keyof T]: fc.Arbitrary<T[K]> }) {
  return { weight: 3, arbitrary: fc.noBias(fc.record(deed)) };
}

function seldom<T>(deed: { [K in keyof T]: fc.Arbitrary<T[K]> }) {
  return { weight: 1, arbitrary: fc.noBias(fc.record(deed)) };
}

function deeds(frame: Frame): fc.Arbitrary<Deed> {
  const host = fc.nat(frame.hosts - 1);
  const job = fc.nat(jobs.length - 1);
  const pruner = fc.nat(frame.hosts + foreignPruners - 1);
  const limits = fc.constantFrom(...frame.limits);
  const moment = fc.constantFrom('before', 'after');
  return fc.oneof(
    often({ do: fc.constant('fail'), host, hours: fc.integer({ min: 1, max: 40 }) }),
    seldom({ do: fc.constantFrom('die', 'rename'), host }),
    seldom({ do: fc.constant('remove-job'), host, job }),
    often({ do: fc.constant('change-limits'), host, limits }),
    often({
      do: fc.constant('change-recipients'),
      host,
      recipients: fc.subarray(
        Array.from({ length: recipientCount }, (_, i) => i),
        { minLength: 1 },
      ),
    }),
    often({ do: fc.constant('pruner-down'), pruner, days: fc.integer({ min: 1, max: 6 }) }),
    often({
      do: fc.constant('jump'),
      whose: fc.constantFrom('store', 'host', 'all'),
      host,
      minutes: jumpMinutes,
      hours: fc.integer({ min: 1, max: 30 }),
    }),
    often({ do: fc.constant('slow-run'), host, job, parts: fc.double({ min: 0.1, max: 1.3, noNaN: true }) }),
    often({ do: fc.constant('slow-run'), host, job, parts: fc.double({ min: 0.9, max: 1.05, noNaN: true }) }),
    often({ do: fc.constant('kill-run'), host, job, atCall: fc.integer({ min: 1, max: 100 }), moment }),
    often({ do: fc.constant('kill-run'), host, job, atCall: fc.integer({ min: 1, max: 20 }), moment }),
    often({ do: fc.constant('kill-prune'), pruner, atCall: fc.integer({ min: 1, max: 100 }), moment }),
    often({ do: fc.constant('slow-prune'), pruner, minutes: fc.integer({ min: 1, max: 120 }) }),
    often({ do: fc.constant('prune-together') }),
    often({ do: fc.constant('deny-removal'), pruner, percent: fc.integer({ min: 10, max: 100 }) }),
    often({ do: fc.constant('strand-upload'), host }),
    often({
      do: fc.constant('tamper'),
      how: fc.constantFrom(
        'damage-index',
        'take-index',
        'take-segment',
        'cover-segment',
        'hide-index',
        'plant',
      ),
      host,
      pick: fc.nat(1000),
    }),
  );
}

export function histories(frame: Frame): fc.Arbitrary<History> {
  const { days, hosts, events } = frame;
  const event = fc
    .tuple(fc.noBias(fc.integer({ min: 0, max: days * 24 * 60 })), deeds(frame))
    .map(([minute, deed]) => ({ atHours: minute / 60, ...deed }));
  return fc.record({
    seed: fc.nat(2 ** 31),
    versioned: fc.boolean(),
    // So that both changes of the clock lie inside, and a time without any.
    startAt: fc.constantFrom('2026-10-19T00:00:00Z', '2026-03-24T00:00:00Z', '2026-06-01T00:00:00Z'),
    days: fc.constant(days),
    limits: fc.array(fc.constantFrom(...frame.limits), { minLength: hosts, maxLength: hosts }),
    pruneHours: fc.constantFrom(...frame.pruneHours),
    events: fc.array(event, { minLength: events.min, maxLength: events.max, size: 'max' }),
  });
}
