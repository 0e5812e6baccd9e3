import * as openpgp from 'openpgp';
import { writeNew } from '../durable.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { type Guard, readGuarded } from '../permissions.ts';

/**
 * The host key signs indexes and can do nothing else: Ed25519, no subkeys, no passphrase (a scheduler must use it).
 * `ed25519Legacy` is the form that GnuPG 2.2 reads.
 *
 * Its user id says which host it signs for; `hostUserId` and `hostOfKey` are the only places that know the wording.
 */
export interface HostKey {
  readonly host: string;
  readonly privateKey: openpgp.PrivateKey;
  readonly publicKey: openpgp.PublicKey;
  /** Upper-case hex. */
  readonly fingerprint: string;
}

export const hostUserId = (host: string): string => `sealift host ${host}`;

/** The host that a key names in its one user id, or undefined if it is no host key. */
export function hostOfKey(key: openpgp.Key): string | undefined {
  const [userId, ...more] = key.getUserIDs();
  return more.length === 0 ? /^sealift host ([a-z0-9][a-z0-9-]{0,40})$/.exec(userId ?? '')?.[1] : undefined;
}

/** Upper-case hex, as everywhere in sealift's formats. */
export function hostFingerprint(key: openpgp.Key): string {
  return key.getFingerprint().toUpperCase();
}

/** Makes the host's key pair and writes its private half, once. Throws `target-exists` if the file is there. */
export async function createHostKey(file: string, host: string, now: Date): Promise<HostKey> {
  const { privateKey } = await openpgp.generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    subkeys: [],
    userIDs: [{ name: hostUserId(host) }],
    date: now,
    format: 'object',
  });
  await writeNew(file, privateKey.armor(), 0o600);
  return hostKey(host, privateKey);
}

const guard: Guard = {
  what: 'host key',
  missing: 'key-missing',
  missingHint:
    'restore it from a backup of this host, or run `sealift init`: who reads must then pin the new key',
  refused: 'key-unusable',
  secret: true,
};

/** Reads the host's key pair. Throws `key-missing`, `key-unusable`, or `key-wrong` if it is the key of another host. */
export async function loadHostKey(file: string, host: string): Promise<HostKey> {
  const privateKey = await parse(file, readGuarded(file, guard).toString('utf8'));
  const named = hostOfKey(privateKey);
  if (named !== host) {
    throw new SealiftError(
      'key-wrong',
      `host key ${file} is for ${named === undefined ? `"${privateKey.getUserIDs().join(', ')}"` : `host ${named}`}, but the configuration says host: ${host}`,
      { hint: 'set `host` back: a host keeps its name. Another machine needs a state folder of its own' },
    );
  }
  return hostKey(host, privateKey);
}

async function parse(file: string, armoredKey: string): Promise<openpgp.PrivateKey> {
  try {
    const key = await openpgp.readPrivateKey({ armoredKey });
    if (!key.isDecrypted()) throw new Error('it is protected by a passphrase');
    await key.getSigningKey(undefined, null);
    return key;
  } catch (error) {
    throw new SealiftError('key-unusable', `host key ${file} cannot be used: ${messageOf(error)}`, {
      hint: 'restore it from a backup of this host',
      cause: error,
    });
  }
}

function hostKey(host: string, privateKey: openpgp.PrivateKey): HostKey {
  const publicKey = privateKey.toPublic();
  return { host, privateKey, publicKey, fingerprint: hostFingerprint(publicKey) };
}
