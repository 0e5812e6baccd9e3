import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as openpgp from 'openpgp';
import { makeFolder, writeNew } from '../durable.ts';
import { messageOf, SealiftError } from '../errors.ts';

/** The files of a new operator key pair. */
export interface OperatorKey {
  /** Upper-case hex. */
  readonly fingerprint: string;
  readonly userId: string;
  /** `<name>.pub.asc`: goes to the hosts. */
  readonly publicFile: string;
  /** `<name>.key.asc`, mode 0600: opens every backup. */
  readonly privateFile: string;
  /** `<name>.rev.asc`, mode 0600: declares the key invalid, for the day on which it is lost. */
  readonly revocationFile: string;
}

export interface OperatorKeyOptions {
  /** `Name <mail>`, or a name alone. */
  readonly userId: string;
  readonly folder: string;
  /** Undefined writes the private half in the clear. */
  readonly passphrase: string | undefined;
  readonly now: Date;
}

/**
 * Makes the key pair of a person who may restore: Ed25519 to sign, Curve25519 to encrypt, in the forms that GnuPG 2.2
 * imports. Throws `target-exists` before anything is written if one of the files is there.
 */
export async function generateOperatorKey(options: OperatorKeyOptions): Promise<OperatorKey> {
  const { name, email } = parseUserId(options.userId);
  const base = join(options.folder, fileBase(name || email));
  const files = {
    publicFile: `${base}.pub.asc`,
    privateFile: `${base}.key.asc`,
    revocationFile: `${base}.rev.asc`,
  };
  for (const file of Object.values(files)) {
    if (existsSync(file)) {
      throw new SealiftError('target-exists', `${file} is there already and is not overwritten`, {
        hint: 'take another --out folder, or move the old files away',
      });
    }
  }
  const { privateKey, publicKey, revocationCertificate } = await generate(options, { name, email });
  await makeFolder(options.folder, 0o700);
  // The private half first: if it cannot be written, no public half may be around to be sealed to.
  await writeNew(files.privateFile, privateKey.armor(), 0o600);
  await writeNew(files.revocationFile, revocationCertificate, 0o600);
  await writeNew(files.publicFile, publicKey.armor(), 0o644);
  return {
    fingerprint: publicKey.getFingerprint().toUpperCase(),
    userId: publicKey.getUserIDs()[0] ?? options.userId,
    ...files,
  };
}

interface KeyPair {
  readonly privateKey: openpgp.PrivateKey;
  readonly publicKey: openpgp.PublicKey;
  readonly revocationCertificate: string;
}

async function generate(
  { passphrase, now }: OperatorKeyOptions,
  { name, email }: { name: string; email: string },
): Promise<KeyPair> {
  try {
    const pair = await openpgp.generateKey({
      type: 'ecc',
      curve: 'ed25519Legacy',
      userIDs: [{ ...(name !== '' && { name }), ...(email !== '' && { email }) }],
      date: now,
      format: 'object',
    });
    await preferKnownHashes(pair.privateKey);
    const publicKey = pair.privateKey.toPublic();
    const { revocationCertificate } = pair;
    if (passphrase === undefined) return { privateKey: pair.privateKey, publicKey, revocationCertificate };
    const privateKey = await openpgp.encryptKey({
      privateKey: pair.privateKey,
      passphrase,
      // The slowest derivation that every OpenPGP program reads (RFC 4880, 3.7.1.3): 65 MB hashed per guess.
      config: { s2kIterationCountByte: 255 },
    });
    return { privateKey, publicKey, revocationCertificate };
  } catch (error) {
    throw new SealiftError('usage', `no key can be made for "${name} <${email}>": ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * OpenPGP.js lists SHA-3 among the hashes that it likes, and GnuPG 2.2 warns of that at every import: the certification
 * is made anew with SHA-512 and SHA-256 alone.
 */
async function preferKnownHashes(key: openpgp.PrivateKey): Promise<void> {
  const [user] = key.users;
  const [certification] = user?.selfCertifications ?? [];
  if (!user?.userID || !certification) throw new Error('the key has no user id');
  const { sha512, sha256 } = openpgp.enums.hash;
  certification.preferredHashAlgorithms = [sha512, sha256];
  certification.rawNotations = []; // the salt of the first signature
  // The type declarations leave the last argument out.
  const sign = certification.sign.bind(certification) as (...args: unknown[]) => Promise<void>;
  const data = { userID: user.userID, key: key.keyPacket };
  await sign(key.keyPacket, data, certification.created ?? undefined, false, openpgp.config);
}

function parseUserId(userId: string): { name: string; email: string } {
  const match = /^\s*([^<>\p{Cc}]*?)\s*(?:<([^<>\s\p{Cc}]+@[^<>\s\p{Cc}]+)>)?\s*$/u.exec(userId);
  const [, name = '', email = ''] = match ?? [];
  if (name !== '' || email !== '') return { name, email };
  throw new SealiftError('usage', `"${userId}" is not a user id`, {
    hint: 'write it as --user-id "Ada Lovelace <ada@example.org>"',
  });
}

/** `Ada Lovelace` → `ada-lovelace` */
function fileBase(name: string): string {
  const plain = name
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  return plain.slice(0, 60) || 'operator';
}
