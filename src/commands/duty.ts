import { join } from 'node:path';
import { rfc3339 } from '../clock.ts';
import type { Config, JobConfig } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { asSealiftError, type ErrorCode, SealiftError } from '../errors.ts';
import { takeLock } from '../lock.ts';
import { formatSize } from '../output.ts';
import { scheduleOf, type Schedule } from '../policy/cron.ts';
import { decideRun, nextPruneMs, pruneIsDue, type RunDecision } from '../policy/schedule.ts';
import { noProgress } from '../progress.ts';
import { loadRecipients } from '../seal/recipients.ts';
import { newestRun } from '../snapshot/catalog.ts';
import { surveyedHosts } from '../snapshot/survey.ts';
import type { Context } from './context.ts';
import { openHostSession, type HostSession } from './host-session.ts';
import { pruneStore, type PruneSummary } from './prune.ts';
import { openReaderSession } from './reader-session.ts';
import { lockJob, runLockedJob, type JobResult } from './run-job.ts';
import {
  hookFailure,
  newestStartMs,
  pruneTry,
  readTry,
  rememberTry,
  type Failure,
  type Try,
} from './tries.ts';

/** A job as the configuration has it now, and what is known of it in that store. */
interface Track {
  readonly job: JobConfig;
  readonly schedule: Schedule;
  /** Its newest snapshot when the store was last asked. */
  newest: string | undefined;
}

/** In vain, where nothing but the look at what there is failed. */
type KnownTry = Try & { readonly onlyLooked?: boolean };

/** One configuration and the session that it led to. Runs that began with it end with it. */
interface Desk {
  readonly config: Config;
  readonly session: HostSession;
  readonly work: Set<Promise<void>>;
}

export type DutyEvent = RunEvent | PruneEvent | FailureEvent;
export type RunEvent = { readonly type: 'run' } & JobResult;
export type PruneEvent = { readonly type: 'prune' } & PruneSummary;
export interface FailureEvent {
  readonly type: 'failed';
  /** Null for prune. */
  readonly job: string | null;
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}

/**
 * What a host has to do and does: backups that are due, side by side in one worker pool, and prune beside them.
 * `daemon` calls it again and again, `daemon --once` one time. Failures are logged and told, not thrown.
 */
export class Duty implements AsyncDisposable {
  /** Something was under way when `abort` was called. */
  abandoned = false;

  readonly #context: Context;
  readonly #tell: (event: DutyEvent) => void;
  readonly #abort = new AbortController();
  #desk: Desk;
  #tracks: Track[] = [];
  /** By job. */
  readonly #lastTries = new Map<string, KnownTry | undefined>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #closing: Promise<void>[] = [];
  #pruneDueMs = -Infinity;

  /** Throws what is wrong with the configuration, the state or the keys of this host. */
  static async open(context: Context, tell: (event: DutyEvent) => void): Promise<Duty> {
    const config = await context.config();
    await using opened = new AsyncDisposableStack();
    const duty = opened.use(new Duty(context, await openDesk(context, config), tell));
    duty.#tracks = await duty.#track(config);
    opened.move();
    return duty;
  }

  private constructor(context: Context, desk: Desk, tell: (event: DutyEvent) => void) {
    this.#context = { ...context, signal: this.#abort.signal };
    this.#desk = desk;
    this.#tell = tell;
  }

  get config(): Config {
    return this.#desk.config;
  }

  get host(): string {
    return this.#desk.session.host;
  }

  /** Names of the jobs that run, and `_prune`. */
  get underWay(): string[] {
    return [...this.#running.keys()];
  }

  nextRuns(): { job: JobConfig; nextMs: number | undefined }[] {
    const nowMs = this.#nowMs();
    return this.#tracks.map(({ job, schedule }) => ({ job, nextMs: schedule.around(nowMs).next }));
  }

  /** Starts the jobs that are due and do not run yet. */
  startJobs(): void {
    const nowMs = this.#nowMs();
    for (const track of this.#tracks)
      if (!this.#running.has(track.job.name) && this.#decide(track, nowMs).due)
        this.#start(track.job.name, () => this.#run(track));
  }

  /** Starts prune if it is time; it does not matter how backups fare. */
  startPrune(): void {
    if (!this.#running.has(pruneTry) && pruneIsDue(this.#nowMs(), this.#pruneDueMs))
      this.#start(pruneTry, () => this.#prune());
  }

  /** Takes over from an earlier process when prune is due; without this it is due at once. */
  async recallPrune(): Promise<void> {
    const last = await readTry(this.config.stateDir, pruneTry);
    // One that ended in the future was made before the clock was set back.
    if (last?.nextMs !== undefined && last.endedMs <= this.#nowMs()) this.#pruneDueMs = last.nextMs;
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values());
  }

  /** Ends what is under way: nothing that is unfinished becomes a snapshot. */
  abort(reason: unknown): void {
    this.abandoned = this.#running.size > 0;
    this.#abort.abort(reason);
  }

  /**
   * From the next run on the configuration as it is now. Throws, and keeps the old one, unless it is valid and its keys
   * can be used.
   */
  async reload(load: () => Config): Promise<void> {
    const config = load();
    const { host, stateDir } = this.config;
    if (config.host !== host || config.stateDir !== stateDir)
      throw new SealiftError('config-invalid', 'host and stateDir cannot change while the daemon runs', {
        hint: 'Restart the daemon.',
      });
    await loadRecipients(config.recipients, this.#context.clock());
    const tracks = await this.#track(config);
    this.#moveTo(await openDesk(this.#context, config));
    this.#tracks = tracks;
  }

  /** For the runs to come. */
  #moveTo(desk: Desk): void {
    const old = this.#desk;
    this.#desk = desk;
    this.#closing.push(Promise.all(old.work).then(() => old.session[Symbol.asyncDispose]()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled();
    await Promise.all(this.#closing);
    await this.#desk.session[Symbol.asyncDispose]();
  }

  #nowMs(): number {
    return this.#context.clock().getTime();
  }

  async #track({ jobs, stateDir }: Config): Promise<Track[]> {
    for (const { name } of jobs)
      if (!this.#lastTries.has(name)) this.#lastTries.set(name, await readTry(stateDir, name));
    return jobs.map((job) => ({ job, schedule: scheduleOf(job.schedule, job.timezone), newest: undefined }));
  }

  #decide({ job, schedule, newest }: Track, nowMs: number): RunDecision {
    const lastTry = this.#lastTries.get(job.name);
    const newestMs = newestStartMs(newest, lastTry);
    return decideRun({ schedule, newestMs, lastTry, maxAgeMs: this.config.maxAgeSeconds * 1000, nowMs });
  }

  #start(name: string, act: () => Promise<void>): void {
    if (this.#abort.signal.aborted) return;
    const { work } = this.#desk;
    const done = act().finally(() => {
      this.#running.delete(name);
      work.delete(done);
    });
    this.#running.set(name, done);
    work.add(done);
  }

  async #run(track: Track): Promise<void> {
    const { session } = this.#desk;
    const { name } = track.job;
    const { signal, clock } = this.#context;
    const log = this.#context.log.child({ job: name });
    const startedMs = this.#nowMs();
    let failures = 1;
    let isKnownDue = false;
    try {
      // Somebody else may have made it, by hand or beside us; nobody does while we hold the lock.
      using _lock = await lockJob(session, track.job);
      track.newest = await newestRun(session.store, session.host, name, signal);
      const { due, reason, failures: before } = this.#decide(track, startedMs);
      failures += before;
      if (!due) return log.debug(`job ${name} is not due: ${reason}`);
      isKnownDue = true;
      log.info(`job ${name} starts: ${reason}`);
      const run = { signal, clock, log, progress: noProgress };
      const result = await runLockedJob(session, track.job, run);
      track.newest = result.snapshot;
      this.#tell({ type: 'run', ...result });
      // The snapshot is there, so there is nothing to try again; but `status` must tell.
      const error = hookFailure(result);
      const made = { snapshot: result.snapshot, startedMs };
      await this.#remember(track, { startedMs, endedMs: this.#nowMs(), failures: 0, error, made });
      const how = result.status === 'complete' ? 'info' : 'warn';
      log[how](`${describe(result)}; ${this.#whenNext(track)}`);
    } catch (thrown) {
      if (signal.aborted) return log.warn(`job ${name} was abandoned; it is made up for at the next start`);
      const error = asSealiftError(thrown);
      const tried = { startedMs, endedMs: this.#nowMs() };
      if (error.code === 'lock-held') {
        // Theirs counts if it succeeds; else it is our turn.
        this.#note(name, { ...tried, failures: 1 });
        return log.info(`job ${name} is being run by another process`);
      }
      const last = this.#lastTries.get(name);
      const { latest = 0 } = track.schedule.around(startedMs);
      const succeeded = last && last.endedMs >= latest && (last.failures === 0 || last.onlyLooked);
      if (!isKnownDue && succeeded) {
        // Only what the success since the last instant left was to be looked up. That is no failure of the job.
        this.#note(name, { ...tried, failures: last.failures + 1, onlyLooked: true });
        return log.warn(
          { code: error.code },
          `what there is of job ${name} cannot be seen: ${error.message}`,
        );
      }
      this.#fail(name, error);
      if (error.code === 'store-not-found') await this.#openAnew();
      const { code, message } = error;
      await this.#remember(track, { ...tried, failures, error: { code, message } });
      log.error({ code, hint: error.hint }, `job ${name} failed: ${message}; ${this.#whenNext(track)}`);
      log.debug({ err: thrown }, 'the cause');
    }
  }

  /** An open store is the one that it was: what is found in its place, as after a change of disks, is another. */
  async #openAnew(): Promise<void> {
    const old = this.#desk;
    const desk = await openDesk(this.#context, old.config).catch(() => undefined);
    if (!desk) return;
    if (this.#desk === old) this.#moveTo(desk);
    // Meanwhile another configuration was taken over, or another run that failed has done the same.
    else await desk.session[Symbol.asyncDispose]();
  }

  async #remember({ job }: Track, tried: Try): Promise<void> {
    await rememberTry(this.#context, this.config, job.name, this.#note(job.name, tried));
  }

  #note(job: string, tried: KnownTry): KnownTry {
    const noted = { made: this.#lastTries.get(job)?.made, ...tried };
    this.#lastTries.set(job, noted);
    return noted;
  }

  #whenNext(track: Track): string {
    const { nextMs } = this.#decide(track, this.#nowMs());
    return nextMs === undefined ? 'never again by its schedule' : `next at ${rfc3339(nextMs)}`;
  }

  async #prune(): Promise<void> {
    const { log, signal } = this.#context;
    const { config } = this.#desk;
    const startedMs = this.#nowMs();
    const end = async (nextExpiryMs: number | undefined, soon: boolean, error?: Failure): Promise<void> => {
      const endedMs = this.#nowMs();
      this.#pruneDueMs = nextPruneMs(endedMs, nextExpiryMs, soon);
      const tried = { startedMs, endedMs, failures: error ? 1 : 0, error, nextMs: this.#pruneDueMs };
      await rememberTry(this.#context, config, pruneTry, tried);
    };
    try {
      using _lock = await this.#lockPrune(config);
      const context = { ...this.#context, config: async () => config };
      await using reader = await openReaderSession(context);
      const aheadMs = reader.now.getTime() - this.#nowMs();
      const isThere = (await surveyedHosts(reader.store, signal, this.host)).length > 0;
      if (!isThere) {
        log.debug(`prune: host ${this.host} has nothing in the store yet`);
        return await end(undefined, false);
      }
      const summary = await pruneStore(reader, context, { host: this.host });
      this.#tell({ type: 'prune', ...summary });
      const { snapshots, objects, bytes, failed, nextExpiryMs } = summary;
      const nextMs = nextExpiryMs === undefined ? undefined : nextExpiryMs - aheadMs;
      await end(nextMs, failed.length > 0, incompleteness(summary));
      const what = `${countOf(snapshots.length, 'snapshot')} ended, ${countOf(objects, 'object')} (${formatSize(bytes)}) deleted`;
      const next = `next prune at ${rfc3339(this.#pruneDueMs)}`;
      if (failed.length > 0) log.error(`prune: ${what}, ${failed.length} could not be deleted; ${next}`);
      else log.info(`prune: ${what}; ${next}`);
    } catch (thrown) {
      if (signal.aborted) return log.warn('prune was abandoned; the next one goes on');
      const error = asSealiftError(thrown);
      if (error.code === 'lock-held') {
        this.#pruneDueMs = nextPruneMs(this.#nowMs(), undefined, true);
        return log.info('prune is being done by another process');
      }
      this.#fail(null, error);
      await end(undefined, true, { code: error.code, message: error.message });
      const next = `again at ${rfc3339(this.#pruneDueMs)}`;
      log.error({ code: error.code, hint: error.hint }, `prune failed: ${error.message}; ${next}`);
      log.debug({ err: thrown }, 'the cause');
    }
  }

  /** Prunes are safe side by side (rule R7): the lock only saves work, and a full disk must not stop what makes room. */
  async #lockPrune({ stateDir }: Config): Promise<Disposable | undefined> {
    try {
      return await takeLock(join(stateDir, 'prune.lock'), 'prune on this host');
    } catch (thrown) {
      const error = asSealiftError(thrown);
      if (error.code !== 'failed') throw error;
      this.#context.log.warn(`prune runs without its lock: ${error.message}`);
      return undefined;
    }
  }

  #fail(job: string | null, { code, message, hint }: SealiftError): void {
    this.#tell({ type: 'failed', job, code, message, hint });
  }
}

async function openDesk(context: Context, config: Config): Promise<Desk> {
  const session = await openHostSession({ ...context, config: async () => config });
  return { config, session, work: new Set() };
}

const describe = ({ job, snapshot, status, bytes, newBytes, durationSeconds }: JobResult): string =>
  `job ${job}: snapshot ${snapshot} is ${status}, ${formatSize(bytes)}, ${formatSize(newBytes)} new, ` +
  `in ${durationSeconds.toFixed(1)} s`;

/** Why a prune that went to its end is not whole; undefined if it is. */
function incompleteness({ failed, problems }: PruneSummary): Failure | undefined {
  const message =
    failed.length > 0 ? `${countOf(failed.length, 'object')} could not be deleted` : problems[0];
  return message === undefined ? undefined : { code: 'partial', message };
}
