import { join } from 'node:path';
import type { PublicKey } from 'openpgp';
import type { Context } from '../../src/commands/context.ts';
import { lookAtHost } from '../../src/commands/audit-survey.ts';
import type { ReaderSession } from '../../src/commands/reader-session.ts';
import type { Finding } from '../../src/policy/audit-facts.ts';
import { pruneStore, type PruneSummary } from '../../src/commands/prune.ts';
import type { Config } from '../../src/config/config.ts';
import { silentLog } from '../../src/log.ts';
import { createOutput } from '../../src/output.ts';
import { openIndexCache } from '../../src/snapshot/index-cache.ts';
import type { Store } from '../../src/store/store.ts';

export interface Reader {
  readonly config: Config;
  readonly trust: ReadonlyMap<string, readonly PublicKey[]>;
  readonly cacheDir: string;
  readonly clock: () => Date;
}

/** `sealift prune` as it runs on a machine with this configuration: the real command, with a store of the simulation. */
export async function pruneOnce(store: Store, machine: Reader): Promise<PruneSummary> {
  const { config, clock } = machine;
  const context: Context = {
    config: async () => config,
    configPath: config.file,
    environment: {
      variables: {},
      isRoot: false,
      configFile: undefined,
      configHome: machine.cacheDir,
      cacheHome: machine.cacheDir,
      stateHome: machine.cacheDir,
      noColor: true,
      forGpg: () => ({}),
    } as unknown as Context['environment'],
    log: silentLog(),
    output: createOutput({ write: () => undefined, colour: false }),
    json: true,
    quiet: true,
    signal: new AbortController().signal,
    clock,
  };
  return pruneStore(await openSession(store, machine), context, {});
}

/** What `sealift audit` finds broken of a host. */
export async function auditOnce(store: Store, machine: Reader, host: string): Promise<readonly Finding[]> {
  const session = await openSession(store, machine);
  const { findings } = await lookAtHost(session, host, {
    time: session.time,
    memory: undefined,
    allowed: undefined,
    signal: new AbortController().signal,
  });
  return findings.filter(({ severity }) => severity === 'broken');
}

async function openSession(store: Store, { config, trust, cacheDir }: Reader): Promise<ReaderSession> {
  const now = await store.now();
  return {
    config,
    store,
    trust,
    now,
    time: () => now,
    cache: openIndexCache(join(cacheDir, 'indexes'), store.address),
    fetchedBytes: () => 0,
    async [Symbol.asyncDispose]() {},
  };
}
