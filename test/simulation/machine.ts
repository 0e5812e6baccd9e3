import type { LastTry } from '../../src/policy/schedule.ts';
import type { Troubles } from './bucket.ts';
import { foreignPruners, jobs, type Limits } from './history.ts';
import type { SimHost } from './sim-host.ts';
import type { CallKind, Habits } from './timeline.ts';

/** How a process fares that is about to start. */
export interface Mood {
  latencyMs?: (kind: CallKind) => number;
  killed?: Habits['killed'];
  troubles?: Troubles;
}

/** A host and what the history has done to it. */
export interface Machine {
  readonly sim: SimHost;
  alive: boolean;
  clockErrorMs: number;
  failsUntilMs: number;
  /** How often its limits were changed. */
  limitChanges: number;
  readonly jobs: Set<string>;
  readonly running: Set<string>;
  readonly moods: Map<string, Mood>;
  readonly lastTry: Map<string, LastTry>;
}

export const machineOf = (sim: SimHost): Machine => ({
  sim,
  alive: true,
  clockErrorMs: 0,
  failsUntilMs: 0,
  limitChanges: 0,
  jobs: new Set(jobs.map(({ name }) => name)),
  running: new Set(),
  moods: new Map(),
  lastTry: new Map(),
});

export interface Pruner {
  readonly name: string;
  /** The host on which it runs; undefined for a machine of its own. */
  readonly place: number | undefined;
  downUntilMs: number;
  busy: boolean;
  mood: Mood;
}

/** One on each host, and two on machines of their own. */
export const prunersOf = (hosts: number): Pruner[] =>
  Array.from({ length: hosts + foreignPruners }, (_, i) => ({
    name: i < hosts ? `the pruner on host ${i}` : `pruner ${i}`,
    place: i < hosts ? i : undefined,
    downUntilMs: 0,
    busy: false,
    mood: {},
  }));

export const inSeconds = ({ maxAgeHours, windowHours }: Limits) => ({
  maxAgeSeconds: maxAgeHours * 3600,
  reuseWindowSeconds: windowHours * 3600,
});
