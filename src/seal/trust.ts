import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as openpgp from 'openpgp';
import { makeFolder, writeNew } from '../durable.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { hostFingerprint, hostOfKey, hostUserId } from './host-key.ts';
import { readKeyFile, readKeyFiles } from './key-files.ts';

/**
 * Pinned host keys: which key may sign for which host.
 *
 * A pinned file holds one public key. Its user id says for which host (`sealift host jabber1`), and the file's name
 * must say the same: `jabber1.asc`, or `jabber1-89ABCDEF01234567.asc` (the last 16 digits of the fingerprint) where a
 * host has had several keys. So a file that is copied to the wrong name pins nothing by mistake, and an operator sees
 * from a listing who is trusted.
 */
export type Trust = ReadonlyMap<string, readonly openpgp.PublicKey[]>;

/** What can be said about one pinned file. */
export interface PinReport {
  readonly file: string;
  readonly host: string | undefined;
  /** Upper-case hex. */
  readonly fingerprint: string | undefined;
  readonly key: openpgp.PublicKey | undefined;
  /** Why it is not trusted; trusted if empty. */
  readonly problems: readonly string[];
}

/** A host's own key, which counts as pinned for that host. */
export interface OwnKey {
  readonly host: string;
  readonly publicKey: openpgp.PublicKey;
}

/** Host → its keys. Throws `key-unusable` with every problem there is: a file that should pin a key and does not is no detail. */
export async function loadTrust(paths: readonly string[], own?: OwnKey): Promise<Trust> {
  const reports = await inspectTrust(paths);
  const problems = reports.flatMap(({ file, problems }) => problems.map((text) => `${file}: ${text}`));
  if (problems.length > 0) {
    throw new SealiftError(
      'key-unusable',
      `pinned host keys must be put right:\n  ${problems.join('\n  ')}`,
      { hint: '`sealift keys check` shows every key' },
    );
  }
  const trust = new Map<string, openpgp.PublicKey[]>();
  const add = (host: string, key: openpgp.PublicKey): void => {
    const keys = trust.get(host) ?? [];
    if (!keys.some((known) => known.getFingerprint() === key.getFingerprint())) keys.push(key);
    trust.set(host, keys);
  };
  if (own !== undefined) add(own.host, own.publicKey);
  for (const { host, key } of reports) if (host !== undefined && key !== undefined) add(host, key);
  return trust;
}

/** Looks at every pinned file without refusing any. */
export async function inspectTrust(paths: readonly string[]): Promise<PinReport[]> {
  const reports: PinReport[] = [];
  for (const { file, keys, problem } of await readKeyFiles(paths)) {
    const [key, ...more] = keys;
    const problems =
      problem !== undefined
        ? [problem]
        : key === undefined || more.length > 0
          ? [`must hold exactly one key; it holds ${keys.length}`]
          : await check(basename(file), key);
    const fingerprint = key && hostFingerprint(key);
    reports.push({ file, host: key && hostOfKey(key), fingerprint, key: key?.toPublic(), problems });
  }
  return reports;
}

async function check(fileName: string, key: openpgp.Key): Promise<string[]> {
  if (key.isPrivate()) return ['is a PRIVATE key: remove it, only the public half belongs here'];
  const host = hostOfKey(key);
  if (host === undefined) {
    return [
      `is not the key of a host: its user id is "${key.getUserIDs().join(', ')}", not "${hostUserId('NAME')}"`,
    ];
  }
  const names = pinNames(host, key);
  if (!names.includes(fileName)) return [`is the key of host ${host}: name the file ${names.join(' or ')}`];
  try {
    // No date: clocks differ between machines, and the time of a snapshot is judged by the store's.
    await key.getSigningKey(undefined, null);
    return (await key.isRevoked(undefined, undefined, undefined)) ? ['is revoked: remove it'] : [];
  } catch (error) {
    return [`cannot sign: ${messageOf(error)}`];
  }
}

/** The names that a pinned file of this key may have, the short one first. */
function pinNames(host: string, key: openpgp.Key): [string, string] {
  return [`${host}.asc`, `${host}-${hostFingerprint(key).slice(-16)}.asc`];
}

/**
 * Pins a host's public key in a folder; resolves to the file. Nothing is overwritten: a
 * second key of a host gets the longer name. Throws `key-unusable` for what is no host key.
 */
export async function pinHostKey(
  folder: string,
  key: openpgp.Key,
): Promise<{ file: string; isNew: boolean }> {
  const publicKey = key.toPublic();
  const host = hostOfKey(publicKey);
  if (host === undefined) throw new SealiftError('key-unusable', 'this is not the key of a host');
  await makeFolder(folder, 0o755);
  const [short, long] = pinNames(host, publicKey).map((name) => join(folder, name)) as [string, string];
  for (const file of [short, long]) {
    if (existsSync(file) && (await holds(file, publicKey))) return { file, isNew: false };
  }
  const file = existsSync(short) ? long : short;
  await writeNew(file, publicKey.armor(), 0o644);
  return { file, isNew: true };
}

async function holds(file: string, key: openpgp.PublicKey): Promise<boolean> {
  const { keys } = await readKeyFile(file);
  return keys.some((known) => known.getFingerprint() === key.getFingerprint());
}
