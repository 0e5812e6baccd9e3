import { join } from 'node:path';
import { schedule as tickBy, type ScheduledTask } from 'node-cron';
import { formatDuration, rfc3339 } from '../clock.ts';
import { loadConfig } from '../config/load.ts';
import { hintOf, messageOf } from '../errors.ts';
import { takeLock } from '../lock.ts';
import type { Context, Outcome } from './context.ts';
import { Duty, type DutyEvent } from './duty.ts';
import { isWhole } from './run-job.ts';

export interface DaemonOptions {
  readonly once?: boolean;
}

/** So long what is under way may go on after SIGTERM. */
const patienceMs = 30_000;
/** For retries, for prune, and for clocks that jump: node-cron's timers then come too late or never. */
const pulseMs = 5_000;

/** The scheduler: backups by their schedules, and prune. Decisions are made by policy/schedule.ts alone. */
export async function daemon(context: Context, options: DaemonOptions): Promise<Outcome> {
  return options.once === true ? once(context) : untilStopped(context);
}

/** Does what is due and ends: for system cron and timers. */
async function once(context: Context): Promise<Outcome> {
  const events: DutyEvent[] = [];
  await using duty = await Duty.open(context, (event) => {
    events.push(event);
    tell(context, event);
  });
  await duty.recallPrune();
  duty.startJobs();
  duty.startPrune();
  await untilSettled(context, duty);
  const snapshots = events.filter((event) => event.type === 'run');
  const failed = events.filter((event) => event.type === 'failed');
  const prune = events.find((event) => event.type === 'prune');
  tell(context, { type: 'summary', snapshots, failed, prune: prune ?? null });
  if (duty.abandoned) throw context.signal.reason;
  const [first] = failed;
  if (first && failed.length === events.length && failed.every(({ code }) => code === first.code))
    return first.code;
  const allIsWell =
    failed.length === 0 &&
    snapshots.every(isWhole) &&
    (!prune || prune.failed.length + prune.problems.length === 0);
  return allIsWell ? undefined : 'partial';
}

const tell = ({ json, output }: Context, record: object): void => {
  if (json) output.jsonLine(record);
};

async function untilStopped(context: Context): Promise<Outcome> {
  const { log, signal } = context;
  using hangup = new Hangup();
  await using duty = await Duty.open(context, (event) => tell(context, event));
  using _lock = await takeLock(join(duty.config.stateDir, 'daemon.lock'), `the daemon of host ${duty.host}`);
  const tick = (): void => {
    if (signal.aborted) return;
    duty.startJobs();
    duty.startPrune();
  };
  using ticks = new Ticks(context, tick);
  const begin = (): void => {
    for (const { job, nextMs } of duty.nextRuns()) {
      const next = nextMs === undefined ? 'never' : rfc3339(nextMs);
      log.info({ job: job.name }, `job ${job.name}: "${job.schedule}" ${job.timezone}, next at ${next}`);
    }
    if (duty.config.jobs.length === 0) log.warn(`${duty.config.file} has no jobs; only prune runs`);
    ticks.start(duty);
    tick();
  };
  hangup.act = async () => {
    try {
      await duty.reload(() => loadConfig(context.configPath, context.environment));
      log.info(`configuration loaded anew from ${duty.config.file}`);
      if (!signal.aborted) begin();
    } catch (error) {
      const why = messageOf(error);
      log.error({ hint: hintOf(error) }, `the configuration was not taken over, the old one stays: ${why}`);
    }
  };
  log.info(`the daemon of host ${duty.host} runs (process ${process.pid})`);
  begin();
  await aborted(signal);
  ticks.stop();
  await hangup.stop();
  if (duty.underWay.length > 0)
    log.info(`stopping; up to ${patienceMs / 1000} s for ${duty.underWay.join(', ')}`);
  await untilSettled(context, duty);
  log.info('stopped');
}

/** Waits for what is under way; once the program is asked to end, not longer than it may take. */
async function untilSettled({ signal }: Context, duty: Duty): Promise<void> {
  const settled = duty.settled();
  await Promise.race([settled, aborted(signal)]);
  const patience = setTimeout(() => duty.abort(signal.reason), patienceMs);
  if (!signal.aborted) clearTimeout(patience);
  await settled;
  clearTimeout(patience);
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

/** SIGHUP, one after the other. It is listened for from the start, because unheard it ends the process. */
class Hangup implements Disposable {
  act: (() => Promise<void>) | undefined;
  #last = Promise.resolve();
  readonly #listen = (): void => {
    this.#last = this.#last.then(() => this.act?.());
  };

  constructor() {
    process.on('SIGHUP', this.#listen);
  }

  /** From now on it means nothing; resolves when what it began has ended. */
  async stop(): Promise<void> {
    this.act = undefined;
    await this.#last;
  }

  [Symbol.dispose](): void {
    process.off('SIGHUP', this.#listen);
  }
}

/** Calls `tick` at every instant of every job, and every few seconds besides. */
class Ticks implements Disposable {
  readonly #context: Context;
  readonly #tick: () => void;
  #tasks: ScheduledTask[] = [];
  #pulse: NodeJS.Timeout | undefined;

  constructor(context: Context, tick: () => void) {
    this.#context = context;
    this.#tick = tick;
  }

  /** Again after the configuration has changed, or the clock. */
  start(duty: Duty): void {
    this.stop();
    this.#schedule(duty);
    let wall = Date.now();
    let steady = performance.now();
    this.#pulse = setInterval(() => {
      const jumpMs = Date.now() - wall - (performance.now() - steady);
      [wall, steady] = [Date.now(), performance.now()];
      if (Math.abs(jumpMs) > 2000) {
        const way = jumpMs > 0 ? 'forward' : 'back';
        this.#context.log.warn(`the clock went ${way} by ${formatDuration(Math.abs(jumpMs) / 1000)}`);
        this.start(duty);
      }
      this.#tick();
    }, pulseMs);
  }

  stop(): void {
    clearInterval(this.#pulse);
    for (const task of this.#tasks.splice(0)) void task.destroy();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #schedule({ config }: Duty): void {
    const { log } = this.#context;
    const say = (message: string | Error): void => log.debug(`node-cron: ${messageOf(message)}`);
    for (const { schedule, timezone } of config.jobs) {
      const logger = { info: say, warn: say, error: say, debug: say };
      const task = tickBy(schedule, this.#tick, { timezone, logger });
      // A tick that comes late is dropped; what is due does not depend on when it is asked for.
      task.on('execution:missed', this.#tick);
      this.#tasks.push(task);
    }
  }
}
