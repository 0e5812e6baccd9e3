import { existsSync } from 'node:fs';
import { realpath, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { rfc3339, type Clock } from '../clock.ts';
import { makeFolder, replaceFile } from '../durable.ts';
import { SealiftError } from '../errors.ts';
import type { Log } from '../log.ts';
import { judgeClocks } from '../policy/clock-check.ts';
import {
  listHost,
  readSnapshots,
  snapshotIds,
  storedIndex,
  type FoundSnapshots,
  type HostListing,
} from '../snapshot/catalog.ts';
import type { Index } from '../snapshot/index.ts';
import { formatKey, isPast, parseSnapshotId } from '../snapshot/object-key.ts';
import { restoreGuide } from '../snapshot/restore-guide.ts';
import { lastSequence } from '../state.ts';
import type { Store } from '../store/store.ts';
import type { HostSession } from './host-session.ts';

/** The store's time in whole seconds, after holding it against the local clock (rule R9). */
export async function checkedStoreTime(
  { store }: { readonly store: Store },
  context: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<Date> {
  const storeTime = await store.now(context.signal);
  const local = context.clock();
  const apart = `the store says ${rfc3339(storeTime)}, this machine ${rfc3339(local)}`;
  switch (judgeClocks(storeTime, local)) {
    case 'refuse':
      throw new SealiftError('clock-wrong', `the clocks are more than an hour apart: ${apart}`, {
        hint: 'Set the clock of this machine (timedatectl set-ntp true); retention hangs on it.',
      });
    case 'warn':
      context.log.warn(`the clocks are more than five minutes apart: ${apart}`);
      break;
    case 'fine':
      break;
  }
  return new Date(Math.floor(storeTime.getTime() / 1000) * 1000);
}

type OwnHost = Pick<HostSession, 'store' | 'host' | 'trusted' | 'hostKey' | 'config' | 'cache'>;

export interface HostContents extends FoundSnapshots {
  readonly listing: HostListing;
}

/**
 * What this host has in the store. Throws `host-name-taken` when somebody else's key signs snapshots under the same
 * name (rule R10): two machines must not write into one folder.
 */
export async function readOwnHost(
  { store, host, trusted, hostKey, config, cache }: OwnHost,
  { signal, now }: { signal: AbortSignal; now: Date },
): Promise<HostContents> {
  const listing = await listHost(store, host, signal);
  const { snapshots, unreadable } = await readSnapshots(store, host, listing, trusted, { signal, cache });
  await cache.retain(host, new Set([...listing].flatMap(([id, { index }]) => (index ? id : []))));
  const maxAge = Math.max(config.maxAgeSeconds, ...snapshots.map(({ index }) => index.maxAge));
  for (const { snapshot, error } of unreadable)
    if (error.code === 'key-untrusted' && !isPast(snapshot, maxAge, now))
      throw new SealiftError(
        'host-name-taken',
        `another key signs snapshots of host ${host}: ${error.message}`,
        {
          hint:
            `This machine's key is ${hostKey.fingerprint}. If another machine has the same name, give one of them a new ` +
            `one. If this host lost its key, pin the old one: sealift keys trust FINGERPRINT`,
          cause: error,
        },
      );
  return { listing, snapshots, unreadable };
}

type WithState = Pick<HostSession, 'store' | 'config' | 'state' | 'host'>;

/**
 * The folder below a mount that is not there looks like a new store. Throws `store-not-found` if that is what the store
 * would be: its path was the root of a mount when this host last committed, is none now, and has no snapshot of this host.
 */
export async function refuseBareFolder(
  { store, config, state, host }: WithState,
  signal: AbortSignal,
): Promise<void> {
  if (config.store.kind !== 'directory') return;
  const { path } = config.store;
  const file = state.mountedFile(store.address);
  if (!existsSync(file) || (await isMountRoot(path)) || (await hasSnapshot(store, host, signal))) return;
  throw new SealiftError(
    'store-not-found',
    `nothing is mounted at the store ${path}, and the folder there holds no snapshot of host ${host}`,
    { hint: `Is the disk mounted? If the folder itself is to be the store from now on: rm '${file}'` },
  );
}

/** For `refuseBareFolder`. */
export async function rememberMount({ store, config, state }: HostSession): Promise<void> {
  if (config.store.kind !== 'directory') return;
  const file = state.mountedFile(store.address);
  const isMounted = await isMountRoot(config.store.path);
  if (!isMounted) return rm(file, { force: true });
  if (existsSync(file)) return;
  await makeFolder(dirname(file), 0o700);
  await replaceFile(file, `${store.address}\n`, 0o600);
}

/** The folder alone tells nothing: doctor leaves one, and so does a run that failed. */
async function hasSnapshot(store: Store, host: string, signal: AbortSignal): Promise<boolean> {
  const listing = await listHost(store, host, signal);
  return [...listing.values()].some(({ index }) => index !== undefined);
}

/** Another device than the folder that it lies in. */
async function isMountRoot(path: string): Promise<boolean> {
  const folder = await realpath(path);
  const [here, above] = await Promise.all([stat(folder), stat(dirname(folder))]);
  return here.dev !== above.dev;
}

/** Puts the host's public key and the restore guide into the store, where they help people; nothing trusts them there. */
export async function publishHost(
  { store, host, hostKey, config }: HostSession,
  sign: (content: string) => Promise<string>,
  listing: HostListing,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<void> {
  const { fingerprint, publicKey } = hostKey;
  try {
    const key = formatKey({ type: 'host-key', host, fingerprint });
    await store.put(key, Buffer.from(publicKey.armor()), signal);
  } catch (error) {
    if (!(error instanceof SealiftError) || error.code !== 'store-conflict') throw error;
    log.warn(
      `the public key of this host is damaged in the store: ${error.message}; remove it, and the next run writes it anew`,
    );
  }
  if (listing.size > 0) return; // the guide was written with the first snapshot
  const guide = await sign(restoreGuide({ host, store: config.store, fingerprint }));
  await store.replace(formatKey({ type: 'guide', host }), Buffer.from(guide), signal);
}

/** What to say where the store has not the last snapshot of the job that this host committed: by their sequence numbers. */
export const lostSnapshots = (job: string, committed: number, stored: number): string | undefined =>
  committed <= stored
    ? undefined
    : `this host committed snapshot ${committed} of job ${job}, and the store has ${stored === 0 ? 'none' : `nothing after ${stored}`}: ` +
      `was it emptied, rolled back or not mounted, or did they all expire?`;

/** The place of this new snapshot in its job's chain, looked up just before the commit. */
export async function nextInChain(
  session: HostSession,
  { snapshot, job }: { snapshot: string; job: string },
  known: HostContents,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<Pick<Index, 'sequence' | 'previous'>> {
  const { store, host, state, trusted, cache } = session;
  const ids = await snapshotIds(store, host, signal);
  // The index of a run that was broken off may have arrived since.
  const added = ids.filter(
    (id) => id !== snapshot && known.listing.get(id)?.index === undefined && parseSnapshotId(id)?.job === job,
  );
  const fresh: HostListing = new Map(
    await Promise.all(
      added.map(async (id) => {
        const index = await storedIndex(store, host, id, signal);
        return [id, { index, segments: new Map() }] as const;
      }),
    ),
  );
  const { snapshots } = await readSnapshots(store, host, fresh, trusted, { signal, cache });
  const newest = [...known.snapshots, ...snapshots]
    .filter(({ index }) => index.job === job)
    .toSorted((a, b) => a.index.sequence - b.index.sequence)
    .at(-1);
  const stored = newest?.index.sequence ?? 0;
  const local = lastSequence(state.dir, job);
  const lost = lostSnapshots(job, local, stored);
  if (lost !== undefined) log.warn(lost);
  const last = Math.max(stored, local);
  return {
    sequence: last + 1,
    previous: newest
      ? { snapshot: newest.index.snapshot, sha256: newest.sha256, expiresAt: newest.index.expiresAt }
      : null,
  };
}
