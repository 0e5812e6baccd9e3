import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { rfc3339, runningFrom } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { SealiftError, sentencesOf } from '../errors.ts';
import type { Trust } from '../seal/trust.ts';
import {
  listHost,
  readSnapshots,
  type FoundSnapshots,
  type HostListing,
  type ReadOptions,
  type Snapshot,
} from '../snapshot/catalog.ts';
import { isPast, keysFolder, parseKey } from '../snapshot/object-key.ts';
import { openIndexCache, type IndexCache } from '../snapshot/index-cache.ts';
import { hostsAmong } from '../snapshot/survey.ts';
import { stateCacheDir } from '../state.ts';
import { metered } from '../store/metered.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import type { Context } from './context.ts';
import { trustOf } from './trusted.ts';

/** Somebody who looks at a store: on a host, at the operator's desk, or an auditor. Needs no private key. */
export interface ReaderSession extends AsyncDisposable {
  readonly config: Config;
  readonly store: Store;
  readonly trust: Trust;
  /** The store's time when the session began. */
  readonly now: Date;
  /** The store's time now: by that, and what has passed here since. It is asked once, and judged once. */
  time(): Date;
  /** For whoever looks at the store as a whole; `verify` and `restore` read what is there. */
  readonly cache: IndexCache;
  /** How many bytes of objects the store has delivered so far: indexes, details and data. */
  fetchedBytes(): number;
}

export interface HostView extends FoundSnapshots {
  readonly host: string;
  readonly listing: HostListing;
}

export async function openReaderSession(context: Context): Promise<ReaderSession> {
  const config = await context.config();
  const trust = await trustOf(config);
  const { store, fetchedBytes } = metered(await openStore(config.store, context.log));
  try {
    const now = await timeOf(store, context);
    const cache = openIndexCache(cacheDir(config, context), store.address);
    return {
      config,
      store,
      trust,
      now,
      time: runningFrom(now, context.clock),
      cache,
      fetchedBytes,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** On a host in its state; where there is none, among the caches of the user. */
const cacheDir = (config: Config, { environment }: Context): string =>
  existsSync(config.stateDir) ? stateCacheDir(config.stateDir) : join(environment.cacheHome, 'sealift');

/** Reading must work on a store that cannot tell its time, as a directory that cannot be written or is full. */
async function timeOf(store: Store, { clock, log, signal }: Context): Promise<Date> {
  try {
    return await store.now(signal);
  } catch (error) {
    const silent = ['store-denied', 'store-full', 'clock-wrong'];
    if (!(error instanceof SealiftError) || !silent.includes(error.code)) throw error;
    const local = clock();
    log.debug(`the store does not tell its time; taking this machine's, ${rfc3339(local)}`);
    return local;
  }
}

/** The one host that is meant. Throws `host-ambiguous` with their names when the store holds several and none is given. */
export async function oneHost(
  session: ReaderSession,
  asked: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  const named = asked ?? session.config.host;
  if (named !== undefined && (await hostsIn(session, signal, named)).length > 0) return named;
  const hosts = await hostsIn(session, signal);
  const [only] = hosts;
  if (named === undefined && only !== undefined && hosts.length === 1) return only;
  if (named !== undefined || hosts.length === 0) throw absentHost(session, named, hosts);
  throw new SealiftError('host-ambiguous', `the store holds several hosts: ${hosts.join(', ')}`, {
    hint: 'Choose one with --host NAME.',
  });
}

/** Nothing of this host is in the store. */
export const absentHost = (
  { store }: ReaderSession,
  host: string | undefined,
  present: readonly string[],
): SealiftError =>
  new SealiftError(
    'store-not-found',
    `the store ${store.address} holds no backups${host === undefined ? '' : ` of host ${host}`}`,
    { hint: present.length === 0 ? 'Was a backup made yet?' : `It holds: ${present.join(', ')}` },
  );

/** The hosts that have something in the store, or the one that is asked for if it has. */
export const hostsIn = (
  { store }: Pick<ReaderSession, 'store'>,
  signal: AbortSignal,
  only?: string,
): Promise<string[]> => hostsAmong((folder) => store.folders(folder, signal), only);

/**
 * Everything that one host has in the store, as far as it can be verified. Throws `key-untrusted` when no key of the
 * host is pinned (rule R10).
 */
export async function viewHost(
  session: ReaderSession,
  host: string,
  {
    signal,
    cache,
    ofSeveral = false,
  }: ReadOptions & { readonly signal: AbortSignal; readonly ofSeveral?: boolean },
): Promise<HostView> {
  const { store, trust } = session;
  const trusted = trust.get(host) ?? [];
  if (trusted.length === 0) throw await untrusted(session, host, signal);
  const listing = await listHost(store, host, signal);
  const read = await readSnapshots(store, host, listing, trusted, { signal, cache, tolerant: true });
  // One that may not or cannot be read must not hide the others; where none is, that is what is wrong, unless other hosts
  // are looked at, too.
  const unread = read.unreadable.find(({ error }) =>
    ['store-denied', 'store-unavailable'].includes(error.code),
  );
  if (unread && read.snapshots.length === 0 && !ofSeveral) throw unread.error;
  return { host, listing, ...setFutureApart(read, session.now) };
}

/** A clock that is wrong by hours must not hide what there is: backups refuse to run with it, reading goes on. */
const toleranceMs = 24 * 3600 * 1000;

/** A snapshot that is dated more than a day in the future does not count, and is reported (rule R9). */
function setFutureApart(read: FoundSnapshots, now: Date): FoundSnapshots {
  const isFuture = ({ index }: Snapshot): boolean =>
    Date.parse(index.startedAt) > now.getTime() + toleranceMs;
  const future = read.snapshots
    .filter(isFuture)
    .map(({ index: { snapshot, startedAt } }) => ({
      snapshot,
      error: new SealiftError('verify-failed', `${snapshot} is dated in the future: ${startedAt}`),
    }));
  return {
    snapshots: read.snapshots.filter((snapshot) => !isFuture(snapshot)),
    unreadable: [...read.unreadable, ...future],
  };
}

async function untrusted({ store }: ReaderSession, host: string, signal: AbortSignal): Promise<SealiftError> {
  const offered: string[] = [];
  for await (const { key } of store.list(keysFolder(host), signal)) {
    const parsed = parseKey(key);
    if (parsed?.type === 'host-key') offered.push(parsed.fingerprint);
  }
  return new SealiftError('key-untrusted', `no key of host ${host} is trusted here`, {
    hint:
      offered.length === 0
        ? `Copy its public key from the host: keys/hosts/${host}.asc.`
        : `The store offers ${offered.join(', ')}. If \`sealift init\` printed the same on the host: ` +
          `sealift keys trust ${offered[0]}`,
  });
}

/** Says which snapshots cannot be read. */
export function reportUnreadable({ log }: Context, { unreadable }: Pick<HostView, 'unreadable'>): void {
  for (const { snapshot, error } of unreadable) log.warn({ snapshot, code: error.code }, sentencesOf(error));
}

/** A live snapshot that is signed by an unknown key stops everything that relies on the newest ones. */
export function refuseUntrusted({ snapshots, unreadable }: HostView, now: Date): void {
  const maxAge = Math.max(0, ...snapshots.map(({ index }) => index.maxAge));
  const untrusted = unreadable.find(
    ({ snapshot, error }) => error.code === 'key-untrusted' && !isPast(snapshot, maxAge, now),
  );
  if (untrusted) throw untrusted.error;
}
