import { randomBytes } from 'node:crypto';
import { formatDuration, rfc3339 } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { judgeClocks } from '../policy/clock-check.ts';
import { graceSeconds, limitsOf } from '../policy/retention.ts';
import { openIndexCache } from '../snapshot/index-cache.ts';
import { formatKey, formatSnapshotId, randomTag, segmentsFolder } from '../snapshot/object-key.ts';
import { lastSequence } from '../state.ts';
import { openStore } from '../store/open.ts';
import type { Store, StoredObject } from '../store/store.ts';
import { lookAtBucket } from './bucket.ts';
import type { Context } from './context.ts';
import type { Checkup } from './doctor-checkup.ts';
import type { Identity } from './doctor-host.ts';
import { lostSnapshots, readOwnHost, refuseBareFolder } from './host-store.ts';
import { trustOf } from './trusted.ts';

/** What the removal of the probe may take, also after Ctrl-C. */
const removalMs = 60_000;

/** Whether the store is there, tells the right time, and lets this host do what it has to. */
export async function checkStore(
  checkup: Checkup,
  config: Config,
  identity: Identity | undefined,
  context: Context,
): Promise<void> {
  const { signal } = context;
  const place = config.store.kind === 's3' ? config.store.bucket : config.store.path;
  const store = await checkup.attempt('store', place, () => openStore(config.store, context.log));
  if (!store) return;
  await using _ = store;
  const now = await checkup.attempt('store', store.address, () => store.now(signal));
  // Without its time no backup runs, and what else could be said has the same cause.
  if (!now) return;
  checkClock(checkup, store, now, context.clock());
  // Into the folder of another machine nothing is written (rule R10), nor into that below a mount.
  if (identity && (await checkOwnSnapshots(checkup, store, config, identity, now, context)))
    await checkRights(checkup, store, identity.host, now, config, context);
  const { host } = config;
  if (config.store.kind === 's3' && host !== undefined)
    await checkBucket(checkup, config, config.store.bucket, host, context);
}

function checkClock(checkup: Checkup, store: Store, now: Date, local: Date): void {
  const says = `it says it is ${rfc3339(now)}, this machine ${rfc3339(local)}`;
  const set = 'set the clock of this machine (timedatectl set-ntp true); retention hangs on it';
  switch (judgeClocks(now, local)) {
    case 'fine':
      return checkup.add('store', store.address, 'good', 'it answers, and its clock agrees with this one');
    case 'warn':
      return checkup.add('store', store.address, 'warning', says, set);
    case 'refuse':
      return checkup.add('store', store.address, 'bad', `${says}: backup and prune refuse to run`, set);
  }
}

/** Whether the store is the right one, and the folder of this host in it its own. */
async function checkOwnSnapshots(
  checkup: Checkup,
  store: Store,
  config: Config,
  { host, state, hostKey }: Identity,
  now: Date,
  { signal }: Context,
): Promise<boolean> {
  const contents = await checkup.attempt('store', store.address, async () => {
    await refuseBareFolder({ store, config, state, host }, signal);
    const trusted = (await trustOf(config)).get(host) ?? [];
    const cache = openIndexCache(state.cacheDir, store.address);
    return readOwnHost({ store, host, trusted, hostKey, config, cache }, { signal, now });
  });
  if (!contents) return false;
  const newest = contents.snapshots.at(-1)?.index.snapshot;
  checkup.add(
    'store',
    store.address,
    'good',
    newest === undefined
      ? `it holds no snapshot of ${host} yet`
      : `it holds ${countOf(contents.snapshots.length, 'snapshot')} of ${host}, the newest ${newest}`,
  );
  for (const { error } of contents.unreadable)
    checkup.add(
      'store',
      store.address,
      // Somebody else's, from so long ago that it stops nothing.
      error.code === 'key-untrusted' ? 'warning' : 'bad',
      error.message,
      'sealift verify --all tells the rest',
    );
  for (const { name } of config.jobs) {
    const ofJob = contents.snapshots.filter(({ index }) => index.job === name);
    const stored = Math.max(0, ...ofJob.map(({ index }) => index.sequence));
    const lost = lostSnapshots(name, lastSequence(state.dir, name), stored);
    if (lost !== undefined) checkup.add('store', store.address, 'bad', lost);
  }
  return true;
}

/**
 * Writes one object, reads it, finds it in a listing, tries to overwrite it, and removes it. It looks like a segment of
 * a run that was broken off: nothing names it, and where it cannot be removed here, prune does that after the grace.
 */
async function checkRights(
  checkup: Checkup,
  store: Store,
  host: string,
  now: Date,
  config: Config,
  context: Context,
): Promise<void> {
  const snapshot = formatSnapshotId({ startedAt: now, job: 'doctor', random: randomTag() });
  const folder = segmentsFolder(host, snapshot);
  const key = formatKey({ type: 'segment', host, snapshot, id: randomBytes(16).toString('hex') });
  let written: boolean | undefined;
  try {
    written = await useProbe(checkup, store, { folder, key }, context.signal);
  } finally {
    // Also if the write failed: a store may have taken in what it did not acknowledge.
    const removal = await removeProbe(store, { folder, key }).catch((error: unknown) => error);
    const grace = formatDuration(graceSeconds(limitsOf(config)));
    if (written === true && !context.signal.aborted)
      tellRemoval(checkup, store, removal, `the probe ${key} stays until prune finds it, ${grace} old`);
    else if (removal !== 'gone' && removal !== 'absent')
      context.log.warn(`${key} could not be removed: ${messageOf(removal)}. Prune does it, ${grace} later.`);
  }
}

interface Probe {
  readonly folder: string;
  readonly key: string;
}

/** Whether it could be written. */
async function useProbe(
  checkup: Checkup,
  store: Store,
  { folder, key }: Probe,
  signal: AbortSignal,
): Promise<boolean> {
  const bytes = randomBytes(4096);
  const rights = await checkup.attempt('store', store.address, async () => {
    await store.put(key, bytes, signal);
    await store.settle();
    return true;
  });
  if (!rights) return false;
  await checkup.attempt('store', store.address, async () => {
    if (!(await holds(store, key, bytes, signal)))
      throw new SealiftError('store-unavailable', 'what was written to it does not come back as it was');
    const listed = await Array.fromAsync(store.list(folder, signal));
    if (!listed.some((object) => object.key === key && object.sizeBytes === bytes.length))
      throw new SealiftError('store-unavailable', 'what was written to it is not in its listing', {
        hint: 'sealift needs a store that lists an object as soon as it is acknowledged',
      });
    checkup.add('store', store.address, 'good', 'objects can be written, read and listed');
  });
  await checkup.attempt('store', store.address, async () => {
    const refused = await store.put(key, randomBytes(4096), signal).then(
      () => false,
      (error: unknown) => {
        if (error instanceof SealiftError && error.code === 'store-conflict') return true;
        throw error;
      },
    );
    if (refused) return checkup.add('store', store.address, 'good', 'it refuses to overwrite an object');
    if (await holds(store, key, bytes, signal))
      return checkup.add('store', store.address, 'good', 'it keeps the earlier version of an object');
    checkup.add(
      'store',
      store.address,
      'warning',
      'it lets an object be overwritten (it does not heed If-None-Match), and keeps no versions',
      'backups stay apart by their random names; against somebody who takes this machine over, let the bucket keep versions',
    );
  });
  return true;
}

/** In any of its versions. */
async function holds(store: Store, key: string, bytes: Buffer, signal: AbortSignal): Promise<boolean> {
  for await (const version of store.versions(key, signal)) if (version.equals(bytes)) return true;
  return false;
}

/** `gone` is for good; `hidden` leaves older versions that this host may not see. */
type Removal = 'gone' | 'hidden' | 'absent';

/** Removes every version, with a signal of its own: an interrupted doctor cleans up too. Throws what forbade it. */
async function removeProbe(store: Store, { folder, key }: Probe): Promise<Removal> {
  const signal = AbortSignal.timeout(removalMs);
  const versions = await Array.fromAsync(store.listVersions(folder, signal)).catch(undefinedIfDenied);
  const listed = (): Promise<StoredObject[]> => Array.fromAsync(store.list(folder, signal));
  const found = versions ?? (await listed()).map(() => ({ key, version: undefined }));
  if (found.length === 0) return 'absent';
  for (const version of found) await store.remove(version, signal);
  await store.settle();
  if ((await listed()).length > 0)
    throw new SealiftError('store-denied', `${key} is still there, although its deletion was acknowledged`);
  return versions ? 'gone' : 'hidden';
}

function undefinedIfDenied(error: unknown): undefined {
  if (error instanceof SealiftError && error.code === 'store-denied') return undefined;
  throw error;
}

function tellRemoval(checkup: Checkup, store: Store, removal: unknown, stays: string): void {
  const { address } = store;
  const code = removal instanceof SealiftError ? removal.code : undefined;
  if (removal === 'gone' || removal === 'absent')
    return checkup.add(
      'store',
      address,
      'good',
      'this host may delete, so prune can run here; so could somebody who takes it over',
    );
  if (removal === 'hidden')
    return checkup.add(
      'store',
      address,
      'warning',
      'this host may delete, but not list versions: where the bucket keeps them, nothing is deleted for good from here',
      'grant ListBucketVersions and DeleteObjectVersion to prune here, or take DeleteObject away and prune elsewhere',
    );
  if (code === 'store-denied')
    return checkup.add(
      'store',
      address,
      'good',
      `this host may not delete, which protects its backups; ${stays}`,
      'run `sealift prune` on another machine, which may',
    );
  if (code === 'object-locked')
    return checkup.add('store', address, 'good', `a lock holds new objects for a time; ${stays}`);
  checkup.add('store', address, 'bad', `${messageOf(removal)}; ${stays}`);
}

async function checkBucket(
  checkup: Checkup,
  config: Config,
  bucket: string,
  host: string,
  { signal }: Context,
): Promise<void> {
  const findings = await checkup.attempt('bucket', bucket, () =>
    lookAtBucket(config, [{ host, ...limitsOf(config) }], signal),
  );
  if (findings?.length === 0)
    checkup.add('bucket', bucket, 'good', 'its rules delete in time and not too early, and it is not public');
  for (const { severity, subject, message } of findings ?? [])
    checkup.add('bucket', subject, severity === 'broken' ? 'bad' : 'warning', message);
}
