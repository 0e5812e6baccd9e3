import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config, JobConfig, SourceConfig } from '../../src/config/config.ts';
import type { HostSession } from '../../src/commands/host-session.ts';
import { runJob, type RunContext } from '../../src/commands/run-job.ts';
import { silentLog } from '../../src/log.ts';
import { noProgress } from '../../src/progress.ts';
import { createHostKey, type HostKey } from '../../src/seal/host-key.ts';
import { segmentIdKey } from '../../src/segments/segment-id.ts';
import { Budget } from '../../src/budget.ts';
import type { WorkerPool } from '../../src/segments/pool.ts';
import { SlabShelf } from '../../src/segments/slabs.ts';
import { openIndexCache } from '../../src/snapshot/index-cache.ts';
import { createState, type State } from '../../src/state.ts';
import type { Store } from '../../src/store/store.ts';
import type { TestKey } from '../support/keys.ts';
import { lightRun } from './light-run.ts';

/** What a host's configuration says and what a history changes. */
export interface HostSettings {
  maxAgeSeconds: number;
  reuseWindowSeconds: number;
  /** The recipients, by their place in the world's list. */
  recipients: readonly number[];
}

/** A machine that backs itself up: real state, real keys, real runs; its plaintext is made up. */
export class SimHost {
  readonly name: string;
  readonly dir: string;
  readonly key: HostKey;
  readonly state: State;
  readonly settings: HostSettings;
  readonly #keys: readonly TestKey[];
  readonly #pool: WorkerPool;
  /** What stands in the files that are backed up; counts up when they change. */
  #content = 0;

  static async create(
    dir: string,
    name: string,
    world: { keys: readonly TestKey[]; pool: WorkerPool; now: Date },
    settings: HostSettings,
  ): Promise<SimHost> {
    mkdirSync(dir, { recursive: true });
    const state = await createState(join(dir, 'state'));
    const key = await createHostKey(state.hostKeyFile, name, world.now);
    return new SimHost(dir, name, key, state, world, settings);
  }

  private constructor(
    dir: string,
    name: string,
    key: HostKey,
    state: State,
    world: { keys: readonly TestKey[]; pool: WorkerPool },
    settings: HostSettings,
  ) {
    this.name = name;
    this.dir = dir;
    this.key = key;
    this.state = state;
    this.#keys = world.keys;
    this.#pool = world.pool;
    this.settings = { ...settings };
    this.setRecipients(settings.recipients);
  }

  get idKey(): Uint8Array {
    return segmentIdKey(this.state.hostSecret);
  }

  setRecipients(recipients: readonly number[]): void {
    this.settings.recipients = recipients;
    const folder = join(this.dir, 'recipients');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    for (const place of recipients)
      writeFileSync(join(folder, `${place}.asc`), this.#keys[place]!.publicKey.armor());
  }

  config(job?: JobConfig): Config {
    return {
      file: join(this.dir, 'sealift.yaml'),
      host: this.name,
      stateDir: this.state.dir,
      store: { kind: 'directory', path: '/simulated' },
      recipients: [join(this.dir, 'recipients')],
      hosts: [],
      maxAgeSeconds: this.settings.maxAgeSeconds,
      reuseWindowSeconds: this.settings.reuseWindowSeconds,
      workers: this.#pool.size,
      jobs: job ? [job] : [],
    };
  }

  session(store: Store, job: JobConfig): HostSession {
    return {
      config: this.config(job),
      host: this.name,
      state: this.state,
      hostKey: this.key,
      trusted: [this.key.publicKey],
      store,
      cache: openIndexCache(this.state.cacheDir, store.address),
      pool: this.#pool,
      budget: new Budget(16 * 2 ** 20),
      shelf: new SlabShelf(),
      async [Symbol.asyncDispose]() {},
    };
  }

  /** The whole program: sources, threads, everything. */
  async runForReal(store: Store, name: string, how: RunHow): Promise<string> {
    const tree = join(this.dir, name);
    mkdirSync(tree, { recursive: true });
    writeFileSync(join(tree, 'idle'), 'always the same');
    writeFileSync(join(tree, 'busy'), `${this.#content++}`);
    const source = (leaf: string): SourceConfig => ({
      name: leaf,
      kind: 'files',
      paths: [join(tree, how.fails ? 'missing' : leaf)],
      exclude: [],
      oneFileSystem: false,
      timeLimitSeconds: Infinity,
    });
    const job = { ...jobOf(name, how), sources: [source('idle'), source('busy')] };
    return (await runJob(this.session(store, job), job, contextOf(how))).snapshot;
  }

  /** The same steps with the same code, but with sources in memory and sealing in this thread: a tenth of the time. */
  async runLightly(store: Store, name: string, how: RunHow): Promise<string> {
    const contents = Array.from({ length: streamsPerRun }, (_, i) => {
      // The stream changes at every run, every other run, every fourth, and never.
      const state = i === streamsPerRun - 1 ? 0 : Math.floor(this.#content / 2 ** i);
      return { name: `s${i}`, content: `${this.name} ${name} ${i} ${state}` };
    });
    this.#content++;
    const job = jobOf(name, how);
    return lightRun(this.session(store, job), job, how.fails ? [] : contents, contextOf(how));
  }
}

const streamsPerRun = 4;

export interface RunHow {
  readonly schedule: string;
  readonly timezone: string;
  /** Its sources cannot be read. */
  readonly fails: boolean;
  readonly signal: AbortSignal;
  /** The host's own clock. */
  readonly clock: () => Date;
}

const jobOf = (name: string, { schedule, timezone }: RunHow): JobConfig => ({
  name,
  schedule,
  timezone,
  before: undefined,
  after: undefined,
  hookTimeLimitSeconds: Infinity,
  sources: [],
});

const contextOf = ({ signal, clock }: RunHow): RunContext => ({
  signal,
  clock,
  log: silentLog(),
  progress: noProgress,
});
