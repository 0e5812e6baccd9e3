import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import * as openpgp from 'openpgp';
import { type Seal } from '../../src/seal/message.ts';
import { freshGpg, type Gpg } from '../support/gpg.ts';

/** A key pair that the machine's own gpg made and keeps, without a passphrase unless one is given. */
export async function gpgKey(
  t: TestContext,
  kind: 'rsa4096' | 'cv25519',
  { passphrase = '', expired = false } = {},
): Promise<{ gpg: Gpg; publicKey: openpgp.PublicKey; secretKey: Buffer }> {
  const gpg = freshGpg(t);
  // How often a passphrase is hashed is otherwise found out by hashing for seconds.
  writeFileSync(join(gpg.home, 'gpg-agent.conf'), 's2k-count 65536\n');
  const types =
    kind === 'rsa4096'
      ? ['Key-Type: RSA', 'Key-Length: 4096', 'Subkey-Type: RSA', 'Subkey-Length: 4096']
      : ['Key-Type: EDDSA', 'Key-Curve: ed25519', 'Subkey-Type: ECDH', 'Subkey-Curve: cv25519'];
  const protection = passphrase === '' ? '%no-protection' : `Passphrase: ${passphrase}`;
  const parameters = [
    ...types,
    'Subkey-Usage: encrypt',
    `Name-Real: Grace ${kind}`,
    ...(expired ? ['Creation-Date: 20260101T000000', 'Expire-Date: 1d'] : ['Expire-Date: 0']),
    protection,
    '%commit',
  ];
  gpg.run(['--pinentry-mode', 'loopback', '--generate-key'], Buffer.from(`${parameters.join('\n')}\n`));
  const [publicKey] = await openpgp.readKeys({ binaryKeys: gpg.run(['--export']) });
  const secretKey = gpg.run([
    '--pinentry-mode',
    'loopback',
    '--passphrase',
    passphrase,
    '--export-secret-keys',
  ]);
  return { gpg, publicKey: publicKey!, secretKey };
}

/** A day on which the expired keys of these tests were valid. */
export const whileValid = new Date('2026-01-01T12:00:00Z');

/** The seal that a run on that day made. */
export async function sealAt(date: Date, encryptionKeys: openpgp.PublicKey[]): Promise<Seal> {
  const data = Uint8Array.from({ length: 32 }, (_, i) => i * 7);
  const packets = await openpgp.encryptSessionKey({
    data,
    algorithm: 'aes256',
    encryptionKeys,
    date,
    format: 'binary',
  });
  return { sessionKey: data, packets };
}
