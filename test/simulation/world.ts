import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import type { Config } from '../../src/config/config.ts';
import { messageOf, SealiftError } from '../../src/errors.ts';
import type { AuditRule } from '../../src/policy/audit-facts.ts';
import { scheduleOf } from '../../src/policy/cron.ts';
import { limitsOf, runLimitSeconds } from '../../src/policy/retention.ts';
import { decideRun } from '../../src/policy/schedule.ts';
import { openBytes } from '../../src/seal/open.ts';
import { sealPackets } from '../../src/seal/packets.ts';
import { findWithPrivateKeys } from '../../src/seal/session-key.ts';
import { WorkerPool } from '../../src/segments/pool.ts';
import { segmentId } from '../../src/segments/segment-id.ts';
import { parseKey, parseSnapshotId } from '../../src/snapshot/object-key.ts';
import type { Store } from '../../src/store/store.ts';
import { makeKey, type TestKey } from '../support/keys.ts';
import type { Bucket } from './bucket.ts';
import { chance } from './chance.ts';
import { happen, type Stage } from './deeds.ts';
import { jobs, recipientCount, type History, type Limits } from './history.ts';
import { inSeconds, machineOf, prunersOf, type Machine, type Mood, type Pruner } from './machine.ts';
import { Oracle, type PruneReport } from './oracle.ts';
import { RealBucket, type Ground } from './real-bucket.ts';
import { SimHost } from './sim-host.ts';
import { auditOnce, pruneOnce, type Reader } from './sim-pruner.ts';
import { SimBucket } from './sim-store.ts';
import { Timeline, type CallKind, type Habits } from './timeline.ts';

const hourMs = 3_600_000;
const minuteMs = 60_000;
/** One run in so many is a real one with worker threads; the others are light (light-run.ts). */
const realRunEvery = 40;
/** A host looks what is due so often. */
const tickMs = 15 * minuteMs;

export interface Played {
  readonly complaints: readonly string[];
  readonly counts: Readonly<Record<string, number>>;
}

/**
 * Lets a history happen, in memory or on a real store, with an oracle that looks on. After its first complaint nothing
 * new begins.
 */
export async function play(history: History, ground?: Ground): Promise<Played> {
  const dir = mkdtempSync(join(tmpdir(), 'sealift-sim-'));
  await using pool = new WorkerPool(1);
  try {
    const world = await World.create(history, dir, pool, ground);
    return await world.play();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const longAgo = new Date('2026-01-01T00:00:00Z');

class World {
  readonly #history: History;
  readonly #dir: string;
  readonly #pool: WorkerPool;
  readonly #keys: readonly TestKey[];
  readonly #timeline = new Timeline();
  readonly #bucket: Bucket;
  readonly #oracle: Oracle;
  readonly #machines: Machine[] = [];
  readonly #hosts = new Map<string, SimHost>();
  readonly #pruners: Pruner[];
  readonly #chance: () => number;
  readonly #unexpected: string[] = [];
  readonly #counts = { runs: 0, real: 0, failed: 0, kills: 0, overtime: 0, gone: 0, audits: 0, opened: 0 };
  readonly #endMs: number;
  readonly #stage: Stage;
  #renamed = 0;

  static async create(
    history: History,
    dir: string,
    pool: WorkerPool,
    ground: Ground | undefined,
  ): Promise<World> {
    const keys: TestKey[] = [];
    for (let i = 0; i < recipientCount; i++) keys.push(await makeKey({ date: longAgo }, `Op${i}`));
    const world = new World(history, dir, pool, keys, ground);
    for (const [i, limits] of history.limits.entries()) await world.#addHost(i, `host${i}`, limits);
    return world;
  }

  private constructor(
    history: History,
    dir: string,
    pool: WorkerPool,
    keys: readonly TestKey[],
    ground: Ground | undefined,
  ) {
    this.#history = history;
    this.#dir = dir;
    this.#pool = pool;
    this.#keys = keys;
    this.#chance = chance(history.seed);
    this.#endMs = history.days * 24 * hourMs;
    this.#bucket = ground
      ? new RealBucket(this.#timeline, { ...history, ground })
      : new SimBucket(this.#timeline, history);
    this.#oracle = new Oracle(this.#bucket, (host) => {
      const sim = this.#hosts.get(host);
      return sim ? [sim.key.publicKey] : [];
    });
    this.#bucket.witness = this.#oracle;
    this.#pruners = prunersOf(history.limits.length);
    this.#stage = {
      timeline: this.#timeline,
      bucket: this.#bucket,
      machines: this.#machines,
      pruners: this.#pruners,
      chance: this.#chance,
      tampered: new Set(),
      lowered: new Set(),
      jumps: { count: 0, ofStore: false },
      prune: (pruner) => this.#prune(pruner),
      replaceHost: (place) => this.#replaceHost(place),
      timeIs: () => this.#oracle.timeIs(),
    };
  }

  async #addHost(place: number, name: string, limits: Limits): Promise<void> {
    const sim = await SimHost.create(
      join(this.#dir, name),
      name,
      { keys: this.#keys, pool: this.#pool, now: longAgo },
      { ...inSeconds(limits), recipients: [0] },
    );
    this.#hosts.set(name, sim);
    this.#machines[place] = machineOf(sim);
  }

  #replaceHost(place: number): void {
    const { maxAgeSeconds, reuseWindowSeconds } = this.#machines[place]!.sim.settings;
    const limits = { maxAgeHours: maxAgeSeconds / 3600, windowHours: reuseWindowSeconds / 3600 };
    this.#timeline.start('rename', this.#habits({}), () =>
      this.#addHost(place, `host${place}-${++this.#renamed}`, limits),
    );
  }

  async play(): Promise<Played> {
    const { events, pruneHours } = this.#history;
    this.#timeline.afterStep = async () => {
      await this.#oracle.judge();
      await this.#openOne();
    };
    this.#machines.forEach((_, i) => this.#every(tickMs, i * minuteMs, () => this.#tick(i)));
    this.#pruners.forEach((pruner, i) =>
      this.#every(pruneHours * hourMs, 7 * minuteMs * i, () => this.#prune(pruner)),
    );
    for (const event of events) this.#timeline.at(event.atHours * hourMs, () => happen(this.#stage, event));
    await this.#timeline.run();
    await this.#oracle.judge();
    this.#unexpected.push(...(await this.#bucket.differences()));
    return {
      complaints: [...this.#oracle.complaints, ...this.#unexpected],
      counts: { ...this.#counts, ...this.#oracle.seen, objects: this.#bucket.everything().length },
    };
  }

  /** Over and over until the history ends, or until the first complaint: what follows from that is of no interest. */
  #every(periodMs: number, atMs: number, act: () => void): void {
    if (atMs > this.#endMs) return;
    this.#timeline.at(atMs, () => {
      if (this.#oracle.complaints.length + this.#unexpected.length > 0) return;
      act();
      this.#every(periodMs, atMs + periodMs, act);
    });
  }

  // Backups

  #tick(place: number): void {
    const machine = this.#machines[place]!;
    if (!machine.alive) return;
    const nowMs = this.#bucket.trueMs + machine.clockErrorMs;
    for (const { name, schedule, timezone } of jobs) {
      if (!machine.jobs.has(name) || machine.running.has(name)) continue;
      const decision = decideRun({
        schedule: scheduleOf(schedule, timezone),
        newestMs: this.#newestMs(machine.sim.name, name),
        lastTry: machine.lastTry.get(name),
        maxAgeMs: machine.sim.settings.maxAgeSeconds * 1000,
        nowMs,
      });
      if (decision.due) this.#run(machine, name, schedule, timezone);
    }
  }

  #newestMs(host: string, job: string): number | undefined {
    const starts = this.#bucket.page(`${host}/snap/`, '', Infinity).flatMap((key) => {
      const parsed = key.endsWith('/index.json.gpg') ? parseKey(key) : undefined;
      if (parsed?.type !== 'index') return [];
      const id = parseSnapshotId(parsed.snapshot)!;
      return id.job === job ? [id.startedAt.getTime()] : [];
    });
    return starts.length > 0 ? Math.max(...starts) : undefined;
  }

  #run(machine: Machine, job: string, schedule: string, timezone: string): void {
    const { sim, running, moods, lastTry } = machine;
    const by = `${job} of ${sim.name}, run ${++this.#counts.runs}`;
    const { limitChanges } = machine;
    const mood = moods.get(job) ?? {};
    moods.delete(job);
    running.add(job);
    // The product's own timer runs in real time; this one stands for it.
    const overtime = new AbortController();
    const limitMs = runLimitSeconds(limitsOf(sim.settings)) * 1000;
    this.#timeline.at(this.#timeline.elapsedMs + limitMs, () =>
      overtime.abort(new SealiftError('run-limit', `${by} ran too long`)),
    );
    const clock = (): Date => new Date(this.#bucket.trueMs + machine.clockErrorMs);
    const startedMs = clock().getTime();
    const how = {
      schedule,
      timezone,
      fails: machine.failsUntilMs > this.#timeline.elapsedMs,
      signal: overtime.signal,
      clock,
    };
    const real = this.#counts.runs % realRunEvery === 0;
    if (real) this.#counts.real++;
    this.#oracle.runBegins(by);
    this.#timeline.start(by, this.#habits(mood), async (actor) => {
      let failures = 0;
      try {
        await using store = await this.#bucket.open(actor);
        await (real ? sim.runForReal(store, job, how) : sim.runLightly(store, job, how));
      } catch (error) {
        failures = (lastTry.get(job)?.failures ?? 0) + 1;
        this.#counts.failed++;
        if (overtime.signal.aborted) this.#counts.overtime++;
        if (actor.killed) this.#counts.kills++;
        else if (isGone(error) && this.#mayHaveGone(machine, limitChanges)) this.#counts.gone++;
        else if (!isExpected(error)) this.#unexpected.push(`${by} failed: ${describe(error)}`);
      }
      running.delete(job);
      // Who was killed remembers nothing.
      if (!actor.killed) lastTry.set(job, { startedMs, endedMs: clock().getTime(), failures });
    });
  }

  /** What a run means to name again may go while it runs if limits are lowered, clocks jump or somebody deletes. */
  #mayHaveGone(machine: Machine, limitChangesBefore: number): boolean {
    const { tampered, jumps } = this.#stage;
    return machine.limitChanges > limitChangesBefore || jumps.ofStore || tampered.has(machine.sim.name);
  }

  // Pruning

  #prune(pruner: Pruner): void {
    const machine = pruner.place === undefined ? undefined : this.#machines[pruner.place]!;
    if (pruner.busy || machine?.alive === false || this.#timeline.elapsedMs < pruner.downUntilMs) return;
    const own = machine?.sim.name;
    const config = machine ? machine.sim.config() : foreignConfig;
    const hosts = own === undefined ? [...this.#hosts.keys()] : [own];
    const by = `${pruner.name} at hour ${(this.#timeline.elapsedMs / hourMs).toFixed(2)}`;
    const { mood } = pruner;
    pruner.mood = {};
    pruner.busy = true;
    this.#oracle.pruneBegins({
      by,
      hosts,
      own,
      maxAgeMs: config.maxAgeSeconds * 1000,
      windowMs: config.reuseWindowSeconds * 1000,
    });
    this.#timeline.start(by, this.#habits(mood), async (actor) => {
      let report: PruneReport | undefined;
      const reader: Reader = {
        config,
        trust: new Map(hosts.map((host) => [host, [this.#hosts.get(host)!.key.publicKey]])),
        cacheDir: join(this.#dir, pruner.name.replaceAll(' ', '-')),
        clock: () => new Date(this.#bucket.trueMs + (machine?.clockErrorMs ?? 0)),
      };
      const { elapsedMs } = this.#timeline;
      const jumps = this.#stage.jumps.count;
      try {
        await using store = await this.#bucket.open(actor, mood.troubles);
        report = await pruneOnce(store, reader);
        const isFresh = this.#timeline.elapsedMs - elapsedMs < hourMs && this.#stage.jumps.count === jumps;
        if (own === undefined && report.failed.length === 0 && isFresh) await this.#audit(store, reader);
      } catch (error) {
        if (actor.killed) this.#counts.kills++;
        else if (!isExpected(error)) this.#unexpected.push(`${by} failed: ${describe(error)}`);
      }
      pruner.busy = false;
      this.#oracle.pruneEnds(by, report);
    });
  }

  /** After a prune `audit` must find what a stranger did to a host, and nothing where nobody did anything. */
  async #audit(store: Store, reader: Reader): Promise<void> {
    const hosts = [...this.#hosts.keys()];
    const host = hosts[Math.floor(this.#chance() * hosts.length)]!;
    if (this.#stage.tampered.has(host)) return;
    this.#counts.audits++;
    // A clock that went back, or a lower maxAge that no snapshot tells yet, makes what was rightly ended look as if it
    // went too early.
    const findings = await auditOnce(store, reader, host);
    const chainIsSure = !this.#stage.jumps.ofStore && !this.#stage.lowered.has(host);
    for (const { rule, subject, message } of findings)
      if (mustAgree.has(rule) && (rule !== 'chain' || chainIsSure))
        this.#unexpected.push(
          `${new Date(this.#bucket.nowMs).toISOString()} audit: ${rule} ${subject}: ${message}`,
        );
  }

  #habits(mood: Mood): Habits {
    const usualMs: Record<CallKind, number> = {
      read: 30,
      page: 200,
      put: 400,
      commit: 200,
      remove: 60,
      ask: 20,
    };
    return {
      latencyMs: mood.latencyMs ?? ((kind) => usualMs[kind] * (0.5 + this.#chance())),
      killed: mood.killed,
    };
  }

  // A sample is opened for real

  async #openOne(): Promise<void> {
    if (this.#chance() > 0.1) return;
    const live = this.#oracle.live();
    const commit = live[Math.floor(this.#chance() * live.length)];
    if (!commit) return;
    const names = [...commit.names];
    const [key, sha256] = names[Math.floor(this.#chance() * names.length)]!;
    const held = this.#bucket.versionsOf(key).find((version) => version.sha256 === sha256);
    const parsed = parseKey(key);
    if (!held?.bytes || parsed?.type !== 'segment') return;
    const find = findWithPrivateKeys(this.#keys.map(({ privateKey }) => privateKey));
    const content = await openBytes(held.bytes, await find(sealPackets(held.bytes)));
    const plaintext = zstdDecompressSync(content);
    if (segmentId(this.#hosts.get(commit.host)!.idKey, plaintext) !== parsed.id)
      this.#unexpected.push(`${key} opens, but it is not what its name says`);
    this.#counts.opened++;
  }
}

/** Rules of the audit that a prune must have satisfied. Whether backups come in time is not the pruner's business. */
const mustAgree = new Set<AuditRule>([
  'expired-snapshot',
  'expired-object',
  'leftover',
  'presence',
  'signature',
  'chain',
]);

const foreignConfig: Config = {
  file: '/simulated/sealift.yaml',
  host: undefined,
  stateDir: '/simulated/state',
  store: { kind: 'directory', path: '/simulated' },
  recipients: [],
  hosts: [],
  maxAgeSeconds: 7 * 86_400,
  reuseWindowSeconds: 26 * 3600,
  workers: 1,
  jobs: [],
};

/** What a run or a prune may end with in a history; everything else is a complaint. */
const expectedCodes = new Set<string>(['clock-wrong', 'nothing-saved', 'run-limit', 'lock-held']);
const isExpected = (error: unknown): boolean =>
  error instanceof SealiftError && expectedCodes.has(error.code);

const isGone = (error: unknown): boolean => error instanceof SealiftError && error.code === 'segments-gone';

const describe = (error: unknown): string =>
  error instanceof SealiftError
    ? `${error.code}: ${error.message}`
    : ((error as Error).stack ?? messageOf(error));
