import type { Config, JobConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { loadHostKey, type HostKey } from '../seal/host-key.ts';
import { loadTrust } from '../seal/trust.ts';
import { Budget } from '../budget.ts';
import { WorkerPool } from '../segments/pool.ts';
import { largestWeight, SlabShelf } from '../segments/slabs.ts';
import { openIndexCache, type IndexCache } from '../snapshot/index-cache.ts';
import { openState, type State } from '../state.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import type { Context } from './context.ts';
import type { PublicKey } from 'openpgp';

/** A host that backs itself up: its identity, its store, and what its jobs share. */
export interface HostSession extends AsyncDisposable {
  readonly config: Config;
  readonly host: string;
  readonly state: State;
  readonly hostKey: HostKey;
  /** The host's own key and those that are pinned for it. */
  readonly trusted: readonly PublicKey[];
  readonly store: Store;
  readonly cache: IndexCache;
  readonly pool: WorkerPool;
  readonly budget: Budget;
  readonly shelf: SlabShelf;
}

export async function openHostSession(context: Context): Promise<HostSession> {
  const config = await context.config();
  if (config.host === undefined)
    throw new SealiftError('config-invalid', `${config.file} does not say which host this is`, {
      hint: 'add a line to it: host: NAME',
    });
  const state = await openState(config.stateDir);
  const hostKey = await loadHostKey(state.hostKeyFile, config.host);
  const trust = await loadTrust(config.hosts, hostKey);
  const store = await openStore(config.store, context.log, { unattended: true });
  const pool = new WorkerPool(config.workers);
  pool.start();
  return {
    config,
    host: config.host,
    state,
    hostKey,
    trusted: trust.get(config.host) ?? [],
    store,
    cache: openIndexCache(state.cacheDir, store.address),
    pool,
    // On the way from source to store at one time, of all jobs together: no segment, however long, keeps a thread waiting.
    budget: new Budget(config.workers * largestWeight),
    shelf: new SlabShelf(),
    async [Symbol.asyncDispose]() {
      await pool[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

/** The jobs with these names, in the order of the configuration; all of them if none is named. */
export function selectJobs(config: Config, names: readonly string[]): readonly JobConfig[] {
  if (config.jobs.length === 0)
    throw new SealiftError('config-invalid', `${config.file} has no jobs`, {
      hint: 'add a job below `jobs:`, see `sealift config schema`',
    });
  const unknown = names.filter((name) => !config.jobs.some((job) => job.name === name));
  if (unknown.length > 0)
    throw new SealiftError('usage', `there is no job ${unknown.join(', ')}`, {
      hint: `${config.file} has: ${config.jobs.map(({ name }) => name).join(', ')}`,
    });
  return names.length === 0 ? config.jobs : config.jobs.filter(({ name }) => names.includes(name));
}
