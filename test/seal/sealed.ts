import type { TestContext } from 'node:test';
import * as openpgp from 'openpgp';
import { freshGpg, type Gpg } from '../support/gpg.ts';

/** A key pair that the machine's own gpg made and keeps, without a passphrase unless one is given. */
export async function gpgKey(
  t: TestContext,
  kind: 'rsa4096' | 'cv25519',
  { passphrase = '', expires = '0' } = {},
): Promise<{ gpg: Gpg; publicKey: openpgp.PublicKey; secretKey: Buffer }> {
  const gpg = freshGpg(t);
  const types =
    kind === 'rsa4096'
      ? ['Key-Type: RSA', 'Key-Length: 4096', 'Subkey-Type: RSA', 'Subkey-Length: 4096']
      : ['Key-Type: EDDSA', 'Key-Curve: ed25519', 'Subkey-Type: ECDH', 'Subkey-Curve: cv25519'];
  const protection = passphrase === '' ? '%no-protection' : `Passphrase: ${passphrase}`;
  const parameters = [
    ...types,
    'Subkey-Usage: encrypt',
    `Name-Real: Grace ${kind}`,
    `Expire-Date: ${expires}`,
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
