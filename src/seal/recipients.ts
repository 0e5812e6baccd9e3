import type * as openpgp from 'openpgp';
import { day, daysUntil, rfc3339 } from '../clock.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { readKeyFiles } from './key-files.ts';

/** The fingerprints, upper-case hex, of a recipient's primary key and of the (sub)key that is encrypted to. */
export interface RecipientId {
  readonly primary: string;
  readonly subkey: string;
}

/** The public keys that a snapshot is sealed to. `keys[n]` belongs to `ids[n]`. */
export interface Recipients {
  readonly keys: readonly openpgp.PublicKey[];
  /** Sorted by primary, then subkey. */
  readonly ids: readonly RecipientId[];
  /** The time at which they were looked at: to seal to these very subkeys, it has to be that. */
  readonly at: Date;
  /** Sentences for the log: a key that expires soon, a key that stock GnuPG 2.2 cannot use. */
  readonly warnings: readonly string[];
}

/** What can be said about one key in the recipients' folder, or about a file that holds none. */
export interface RecipientReport {
  readonly file: string;
  readonly key: openpgp.PublicKey | undefined;
  readonly id: RecipientId | undefined;
  /** Upper-case hex of the primary key, where there is a key at all. */
  readonly fingerprint: string | undefined;
  readonly userId: string | undefined;
  readonly algorithm: string | undefined;
  readonly expiresAt: Date | undefined;
  /** Why backups cannot be sealed to it; usable if empty. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

export const expiryWarningDays = 30;

/**
 * Loads the recipients and holds them to every rule: one key that cannot be used refuses them all, because a backup
 * that a person believes they can open, and cannot, is worse than one that fails tonight.
 * Throws `key-missing` if there are none, `key-unusable` with every problem there is.
 */
export async function loadRecipients(paths: readonly string[], now: Date): Promise<Recipients> {
  const { reports, at } = await inspectAll(paths, now);
  const problems = reports.flatMap(({ file, problems }) => problems.map((text) => `${file}: ${text}`));
  if (problems.length > 0) {
    const count =
      problems.length === 1 ? 'a recipient key' : `${problems.length} things about recipient keys`;
    throw new SealiftError('key-unusable', `${count} must be put right:\n  ${problems.join('\n  ')}`, {
      hint: '`sealift keys check` shows every key',
    });
  }
  const usable = reports.flatMap(({ key, id }) => (key && id ? [{ key, id }] : []));
  if (usable.length === 0) {
    throw new SealiftError('key-missing', `no recipients: no public key in ${paths.join(', ')}`, {
      hint: 'make a key pair on your own machine with `sealift keys generate`, and copy its public half there',
    });
  }
  usable.sort((a, b) => compare(a.id.primary, b.id.primary) || compare(a.id.subkey, b.id.subkey));
  return {
    keys: usable.map(({ key }) => key),
    ids: usable.map(({ id }) => id),
    at,
    warnings: reports.flatMap(({ file, warnings }) => warnings.map((text) => `${file}: ${text}`)),
  };
}

/** Looks at every key without refusing any. Two files with one key are merged: the newer self-signatures count. */
export async function inspectRecipients(paths: readonly string[], now: Date): Promise<RecipientReport[]> {
  return (await inspectAll(paths, now)).reports;
}

async function inspectAll(
  paths: readonly string[],
  now: Date,
): Promise<{ reports: RecipientReport[]; at: Date }> {
  const broken: RecipientReport[] = [];
  const latest = new Date(now.getTime() + toleratedMs);
  const merged = new Map<string, { file: string; key: openpgp.Key }>();
  for (const { file, keys, problem } of await readKeyFiles(paths)) {
    if (problem !== undefined) broken.push({ ...nothing, file, problems: [problem] });
    for (const key of keys) {
      const fingerprint = key.getFingerprint();
      const known = merged.get(fingerprint);
      const both = known === undefined || key.isPrivate() ? key : await known.key.update(key, latest);
      merged.set(fingerprint, { file: known?.file ?? file, key: both });
    }
  }
  const keys = [...merged.values()];
  const at = timeFor(
    keys.map(({ key }) => key),
    now,
  );
  const reports: RecipientReport[] = [];
  for (const { file, key } of keys) reports.push(await inspect(file, key, at));
  return { reports: [...reports, ...broken], at };
}

/** So much later than ours may the clock be by which a key was made a moment ago. */
const toleratedMs = 5 * 60_000;

/** Now, or when the last thing about these keys was signed, if another clock is ahead and that was a moment ago. */
function timeFor(keys: readonly openpgp.Key[], now: Date): Date {
  const recent = keys.flatMap(datesOf).filter((ms) => ms <= now.getTime() + toleratedMs);
  return new Date(recent.reduce((a, b) => Math.max(a, b), now.getTime()));
}

const datesOf = (key: openpgp.Key): number[] =>
  [
    key.getCreationTime(),
    ...[
      ...key.revocationSignatures,
      ...key.users.flatMap(({ selfCertifications }) => selfCertifications),
      ...key.subkeys.flatMap(({ bindingSignatures, revocationSignatures }) => [
        ...bindingSignatures,
        ...revocationSignatures,
      ]),
    ].flatMap(({ created }) => created ?? []),
  ].map((date) => date.getTime());

const nothing = {
  key: undefined,
  id: undefined,
  fingerprint: undefined,
  userId: undefined,
  algorithm: undefined,
  expiresAt: undefined,
  problems: [],
  warnings: [],
} as const;

async function inspect(file: string, key: openpgp.Key, now: Date): Promise<RecipientReport> {
  const fingerprint = key.getFingerprint().toUpperCase();
  const facts = { ...nothing, file, fingerprint, userId: key.getUserIDs()[0], algorithm: algorithmName(key) };
  if (key.isPrivate()) {
    const text =
      'is a PRIVATE key. It must not be on this machine: remove the file, copy the public half here instead, ' +
      'and think about whether somebody may have read it';
    return { ...facts, problems: [text] };
  }
  const primaryExpiry = dateOf(await key.getExpirationTime());
  try {
    const target = await encryptionKey(key, now);
    const subkeyExpiry = 'mainKey' in target ? dateOf(await target.getExpirationTime(now)) : undefined;
    const expiresAt = earliest([primaryExpiry, subkeyExpiry]);
    return {
      ...facts,
      key,
      id: { primary: fingerprint, subkey: target.getFingerprint().toUpperCase() },
      algorithm: algorithmName(target),
      expiresAt,
      warnings: [...soon(expiresAt, now), ...strange(key, target)],
    };
  } catch (error) {
    return { ...facts, expiresAt: primaryExpiry, problems: [messageOf(error)] };
  }
}

/** The key that OpenPGP.js will encrypt to. Throws an Error with a sentence that continues "FILE: ". */
async function encryptionKey(key: openpgp.Key, now: Date): Promise<openpgp.Key | openpgp.Subkey> {
  refuseWeak([key]);
  if (key.getCreationTime() > now) {
    throw new Error(
      `was made in the future (${rfc3339(key.getCreationTime())}): one of the two clocks is wrong`,
    );
  }
  if (await key.isRevoked(undefined, undefined, now)) throw new Error('is revoked');
  const expiry = dateOf(await key.getExpirationTime());
  if (expiry !== undefined && expiry <= now) throw new Error(`expired on ${day(expiry)}`);
  try {
    // Of several subkeys the newest that is good.
    return await key.getEncryptionKey(undefined, now);
  } catch (error) {
    refuseWeak(key.subkeys);
    throw new Error(await whyNot(key, error), { cause: error });
  }
}

function refuseWeak(parts: readonly (openpgp.Key | openpgp.Subkey)[]): void {
  const bits = Math.min(...parts.map((part) => part.getAlgorithmInfo().bits ?? Infinity));
  if (bits < 2047) throw new Error(`has an RSA key of ${bits} bits; at least 2048 are needed`);
}

async function whyNot(key: openpgp.Key, error: unknown): Promise<string> {
  const text = messageOf(error);
  if (/subkey is expired/i.test(text)) return 'its encryption subkey expired: ask for a renewed key';
  if (/revoked/i.test(text)) return 'its encryption subkey is revoked';
  // OpenPGP.js wants a package for curves that Node has no signatures of: brainpool's, and secp256k1.
  if (/cannot find module/i.test(text))
    return `its ${algorithmName(key)} key cannot be checked here: take one of another kind, as \`sealift keys generate\` makes it`;
  const everCould = await key.getEncryptionKey(undefined, null).then(
    () => true,
    () => false,
  );
  return everCould || !/could not find valid encryption key/i.test(text)
    ? `cannot be encrypted to: ${text}`
    : 'can only sign: it has no encryption subkey';
}

function soon(expiresAt: Date | undefined, now: Date): string[] {
  if (expiresAt === undefined) return [];
  const days = daysUntil(expiresAt, now);
  return days < expiryWarningDays
    ? [`expires in ${days} days, on ${day(expiresAt)}: no backup runs after that`]
    : [];
}

const gnupg22Algorithms = new Set([
  'rsaEncryptSign',
  'rsaEncrypt',
  'rsaSign',
  'dsa',
  'ecdsa',
  'ecdh',
  'eddsaLegacy',
]);

function strange(key: openpgp.Key, target: openpgp.Key | openpgp.Subkey): string[] {
  const parts = [key, target];
  const known = parts.every(
    (part) => part.keyPacket.version === 4 && gnupg22Algorithms.has(part.getAlgorithmInfo().algorithm),
  );
  return known
    ? []
    : [`stock GnuPG 2.2 can't use this key (version ${key.keyPacket.version}, ${algorithmName(target)})`];
}

const algorithmNames: Record<string, string> = {
  rsaEncryptSign: 'RSA',
  rsaEncrypt: 'RSA',
  rsaSign: 'RSA',
  eddsaLegacy: 'EdDSA',
  ecdh: 'ECDH',
  ecdsa: 'ECDSA',
  dsa: 'DSA',
  elgamal: 'ElGamal',
};

/** `RSA 4096`, `ECDH curve25519`, `x25519`. */
function algorithmName(key: openpgp.Key | openpgp.Subkey): string {
  const { algorithm, bits, curve } = key.getAlgorithmInfo();
  const detail = bits ?? curve?.replace('Legacy', '');
  return [algorithmNames[algorithm] ?? algorithm, ...(detail === undefined ? [] : [detail])].join(' ');
}

function dateOf(time: Date | typeof Infinity | null): Date | undefined {
  return time instanceof Date ? time : undefined;
}

export function earliest(dates: readonly (Date | undefined)[]): Date | undefined {
  return dates
    .filter((date) => date !== undefined)
    .toSorted((a, b) => a.getTime() - b.getTime())
    .at(0);
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
