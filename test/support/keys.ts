import * as openpgp from 'openpgp';

export interface KeyOptions {
  readonly type?: 'ecc' | 'rsa' | 'curve25519';
  readonly rsaBits?: number;
  /** Seconds. */
  readonly keyExpirationTime?: number;
  readonly subkeys?: { keyExpirationTime?: number }[];
  readonly date?: Date;
  readonly config?: openpgp.PartialConfig;
}

export interface TestKey {
  readonly publicKey: openpgp.PublicKey;
  readonly privateKey: openpgp.PrivateKey;
  readonly revocationCertificate: string;
}

/**
 * A key pair as GnuPG 2.2 knows them, and a minute old, unless the options say otherwise: a test may have looked at the
 * clock before the key was made.
 */
export async function makeKey(options: KeyOptions = {}, name = 'Ada'): Promise<TestKey> {
  const { type = 'ecc', ...more } = options;
  return openpgp.generateKey({
    type,
    ...(type === 'ecc' && { curve: 'ed25519Legacy' as const }),
    userIDs: [{ name, email: `${name.toLowerCase()}@example.org` }],
    date: new Date(Date.now() - 60_000),
    ...more,
    format: 'object',
  });
}

export const fingerprintOf = (key: openpgp.Key | openpgp.Subkey): string =>
  key.getFingerprint().toUpperCase();
