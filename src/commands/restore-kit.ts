import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StoreConfig } from '../config/config.ts';
import { makeFolder, writeNew } from '../durable.ts';
import type { HostKey } from '../seal/host-key.ts';
import { restoreGuide } from '../snapshot/restore-guide.ts';
import type { Ledger } from './ledger.ts';

/**
 * Writes what a person needs beside the private key to restore by hand, and nothing secret:
 *
 *     store.txt     where the backups are
 *     host.asc      the public key that signs this host's indexes, armored
 *     host.gpg      the same as a keyring for `gpgv --keyring`
 *     RESTORE.md    how to do it
 *
 * Nothing is overwritten. Resolves to what an older kit was made for, if it is not this.
 */
export async function writeRestoreKit(
  folder: string,
  key: HostKey,
  store: StoreConfig,
  ledger: Ledger,
): Promise<'another host key' | 'another store' | undefined> {
  const keyring = Buffer.from(key.publicKey.write());
  const existing = join(folder, 'host.gpg');
  if (existsSync(existing) && !readFileSync(existing).equals(keyring)) return 'another host key';
  const place = join(folder, 'store.txt');
  const address = storeAddress(key.host, store);
  if (existsSync(place) && readFileSync(place, 'utf8') !== address) return 'another store';
  await makeFolder(folder, 0o755);
  const contents: Record<string, string | Uint8Array> = {
    'store.txt': address,
    'host.asc': key.publicKey.armor(),
    'host.gpg': keyring,
    'RESTORE.md': restoreGuide({ host: key.host, store, fingerprint: key.fingerprint }),
  };
  for (const [name, content] of Object.entries(contents)) {
    const file = join(folder, name);
    await ledger.make(file, () => writeNew(file, content, 0o644));
  }
  return undefined;
}

/** `name: value` lines. Where the credentials come from is not written down: they are not needed to know the place. */
function storeAddress(host: string, store: StoreConfig): string {
  const facts: [string, string][] =
    store.kind === 'directory'
      ? [['directory', store.path]]
      : [
          ['s3 endpoint', store.endpoint ?? 'AWS'],
          ['region', store.region],
          ['bucket', store.bucket],
          ['prefix', store.prefix],
          // Where it is not what the endpoint makes it by itself.
          ...(store.forcePathStyle === (store.endpoint !== undefined)
            ? []
            : [['forcePathStyle', String(store.forcePathStyle)] satisfies [string, string]]),
        ];
  return [['host', host], ...facts].map(([name, value]) => `${name}: ${value}\n`).join('');
}
