import { SealiftError } from '../../src/errors.ts';
import { limitsOf, runLimitSeconds } from '../../src/policy/retention.ts';
import type { Bucket } from './bucket.ts';
import { jobs, type Deed, type Limits } from './history.ts';
import { inSeconds, type Machine, type Mood, type Pruner } from './machine.ts';
import { tamper } from './tamper.ts';
import type { Timeline } from './timeline.ts';

/** What a history can get at. */
export interface Stage {
  readonly timeline: Timeline;
  readonly bucket: Bucket;
  readonly machines: readonly Machine[];
  readonly pruners: readonly Pruner[];
  readonly chance: () => number;
  /** Hosts in whose folder a stranger has been. */
  readonly tampered: Set<string>;
  /** Hosts whose maxAge was lowered: they may end what others believe to be live. */
  readonly lowered: Set<string>;
  /** How often any clock has jumped so far, and whether the store's ever did. */
  readonly jumps: { count: number; ofStore: boolean };
  prune(pruner: Pruner): void;
  /** Another host takes the machine's place. */
  replaceHost(place: number): void;
  /** To be called before and after the store's clock jumps. */
  timeIs(): void;
}

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

/** Does one thing that a history says, or sees to it that the next process will suffer it. */
export async function happen(stage: Stage, deed: Deed): Promise<void> {
  const { timeline, machines, pruners } = stage;
  const inHours = (hours: number): number => timeline.elapsedMs + hours * hourMs;
  switch (deed.do) {
    case 'fail':
      machines[deed.host]!.failsUntilMs = inHours(deed.hours);
      return;
    case 'die':
      machines[deed.host]!.alive = false;
      return;
    case 'rename':
      // A host keeps its name: another name is another host, with a key of its own, and nobody runs the old one.
      machines[deed.host]!.alive = false;
      return stage.replaceHost(deed.host);
    case 'remove-job':
      machines[deed.host]!.jobs.delete(jobs[deed.job]!.name);
      return;
    case 'change-limits':
      return changeLimits(stage, machines[deed.host]!, deed.limits);
    case 'change-recipients':
      return machines[deed.host]!.sim.setRecipients(deed.recipients);
    case 'pruner-down':
      pruners[deed.pruner]!.downUntilMs = inHours(deed.days * 24);
      return;
    case 'jump':
      return jump(stage, deed);
    case 'slow-run':
      machines[deed.host]!.moods.set(jobs[deed.job]!.name, slow(machines[deed.host]!, deed.parts));
      return;
    case 'kill-run':
      machines[deed.host]!.moods.set(jobs[deed.job]!.name, { killed: deed });
      return;
    case 'kill-prune':
      pruners[deed.pruner]!.mood = { killed: deed };
      return;
    case 'slow-prune':
      pruners[deed.pruner]!.mood = {
        latencyMs: (kind) => (kind === 'read' ? 30 : deed.minutes * minuteMs * stage.chance()),
      };
      return;
    case 'prune-together':
      for (const pruner of pruners) stage.prune(pruner);
      return;
    case 'deny-removal':
      pruners[deed.pruner]!.mood = denied(stage.chance, deed.percent);
      return;
    case 'strand-upload':
      return strand(stage.bucket, machines[deed.host]!.sim.name);
    case 'tamper': {
      const { name } = machines[deed.host]!.sim;
      stage.tampered.add(name);
      return tamper(stage.bucket, name, deed.how, deed.pick);
    }
  }
}

function changeLimits({ lowered }: Stage, machine: Machine, limits: Limits): void {
  const { sim } = machine;
  const changed = inSeconds(limits);
  if (changed.maxAgeSeconds < sim.settings.maxAgeSeconds) lowered.add(sim.name);
  machine.limitChanges++;
  Object.assign(sim.settings, changed);
}

/** Clocks go wrong, and are put right some hours later. */
function jump(
  { timeline, bucket, machines, jumps, timeIs }: Stage,
  { whose, host, minutes, hours }: Extract<Deed, { do: 'jump' }>,
): void {
  const move = (byMs: number): void => {
    jumps.count++;
    timeIs();
    if (whose !== 'host') {
      bucket.clockErrorMs += byMs;
      jumps.ofStore = true;
    }
    if (whose !== 'store')
      machines.forEach((machine, i) => {
        if (whose === 'all' || i === host) machine.clockErrorMs += byMs;
      });
    timeIs();
  };
  move(minutes * minuteMs);
  timeline.at(timeline.elapsedMs + hours * hourMs, () => move(-minutes * minuteMs));
}

function slow({ sim }: Machine, parts: number): Mood {
  const limitMs = runLimitSeconds(limitsOf(sim.settings)) * 1000;
  // Every run puts three objects at least: the host's key, what changed, and the details.
  let left = 3;
  const putMs = (parts * limitMs) / left;
  return { latencyMs: (kind) => (kind === 'put' && left-- > 0 ? putMs : 100) };
}

const denied = (chance: () => number, percent: number): Mood => ({
  troubles: {
    refuseRemoval: (key) =>
      chance() * 100 < percent ? new SealiftError('store-denied', `${key} may not be removed`) : undefined,
  },
});

async function strand(bucket: Bucket, host: string): Promise<void> {
  const [key] = bucket.page(`${host}/snap/`, '', 1);
  if (key !== undefined) await bucket.strand(key);
}
