import { randomInt } from 'node:crypto';
import { rfc3339 } from '../clock.ts';
import { namePattern } from '../config/fields.ts';

/**
 * Every name in a store, built and parsed here and nowhere else (docs/format.md, "Keys in the store").
 * Keys are relative to the store's prefix.
 */
export type ObjectKey =
  | { readonly type: 'host-key'; readonly host: string; readonly fingerprint: string }
  | { readonly type: 'guide'; readonly host: string }
  | { readonly type: 'segment'; readonly host: string; readonly snapshot: string; readonly id: string }
  | { readonly type: 'index'; readonly host: string; readonly snapshot: string };

export interface SnapshotId {
  /** Start time by the store's clock, whole seconds. */
  readonly startedAt: Date;
  readonly job: string;
  /** Six characters of `a-z2-7`. */
  readonly random: string;
}

const base32 = 'abcdefghijklmnopqrstuvwxyz234567';
const snapshotPattern = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([a-z0-9][a-z0-9-]{0,40})-([a-z2-7]{6})$/;
const segmentPattern = /^([0-9a-f]{32})\.zst\.gpg$/;
const fingerprintPattern = /^([0-9A-F]{40}|[0-9A-F]{64})\.asc$/;

export const randomTag = (): string =>
  Array.from({ length: 6 }, () => base32[randomInt(base32.length)]).join('');

export function formatSnapshotId({ startedAt, job, random }: SnapshotId): string {
  return `${rfc3339(startedAt).replace(/[-:]/g, '')}-${job}-${random}`;
}

/** The parts of a snapshot id, or undefined for anything else (an impossible date included). */
export function parseSnapshotId(text: string): SnapshotId | undefined {
  const match = snapshotPattern.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, job = '', random = ''] = match;
  const startedAt = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(startedAt.getTime())) return undefined;
  const id = { startedAt, job, random };
  return formatSnapshotId(id) === text ? id : undefined;
}

/** When a snapshot began by its id, which must be one: milliseconds since 1970. */
export function startOf(snapshot: string): number {
  const id = parseSnapshotId(snapshot);
  if (!id) throw new Error(`${snapshot} is no snapshot id`);
  return id.startedAt.getTime();
}

/** Whether a snapshot is older than any of its kind may live. With no age known (0) none is. */
export function isPast(snapshot: string, maxAgeSeconds: number, now: Date): boolean {
  return maxAgeSeconds > 0 && startOf(snapshot) + maxAgeSeconds * 1000 <= now.getTime();
}

/** The key under which an object is stored. */
export function formatKey(key: ObjectKey): string {
  switch (key.type) {
    case 'host-key':
      return `${key.host}/keys/${key.fingerprint}.asc`;
    case 'guide':
      return `${key.host}/RESTORE.md`;
    case 'segment':
      return `${snapshotFolder(key.host, key.snapshot)}s/${key.id}.zst.gpg`;
    case 'index':
      return `${snapshotFolder(key.host, key.snapshot)}index.json.gpg`;
  }
}

/** What a key means, or undefined for an object that is not ours. */
export function parseKey(key: string): ObjectKey | undefined {
  const [host = '', area, ...rest] = key.split('/');
  if (!namePattern.test(host)) return undefined;
  if (area === 'RESTORE.md' && rest.length === 0) return { type: 'guide', host };
  if (area === 'keys' && rest.length === 1) {
    const fingerprint = fingerprintPattern.exec(rest[0] ?? '')?.[1];
    return fingerprint === undefined ? undefined : { type: 'host-key', host, fingerprint };
  }
  const [snapshot = '', leaf, object] = rest;
  if (area !== 'snap' || parseSnapshotId(snapshot) === undefined) return undefined;
  if (leaf === 'index.json.gpg' && rest.length === 2) return { type: 'index', host, snapshot };
  const id = leaf === 's' && rest.length === 3 ? segmentPattern.exec(object ?? '')?.[1] : undefined;
  return id === undefined ? undefined : { type: 'segment', host, snapshot, id };
}

/** Of the object of a segment, which lies in the folder of the snapshot that stored it. */
export const segmentKey = (host: string, { folder, id }: { folder: string; id: string }): string =>
  formatKey({ type: 'segment', host, snapshot: folder, id });

export const keysFolder = (host: string): string => `${host}/keys/`;
export const snapshotsFolder = (host: string): string => `${host}/snap/`;
export const snapshotFolder = (host: string, snapshot: string): string => `${host}/snap/${snapshot}/`;
export const segmentsFolder = (host: string, snapshot: string): string => `${host}/snap/${snapshot}/s/`;

/** The stream that describes the others; no source can have this name. */
export const detailsStream = '_/details.jsonl';

const streamPattern = /^(_|[a-z0-9][a-z0-9-]{0,40})\/[A-Za-z0-9_%-][A-Za-z0-9._%-]{0,250}$/;

export const formatStreamName = (source: string, file: string): string => `${source}/${file}`;

/** Source and file of a stream's name, or undefined for anything else. */
export function parseStreamName(name: string): { source: string; file: string } | undefined {
  if (!streamPattern.test(name)) return undefined;
  const slash = name.indexOf('/');
  return { source: name.slice(0, slash), file: name.slice(slash + 1) };
}
