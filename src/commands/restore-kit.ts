import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { StoreConfig } from '../config/config.ts';
import { parseYaml } from '../config/positions.ts';
import type { StoreSettings } from '../config/store-url.ts';
import { readerTemplate } from '../config/template.ts';
import { makeFolder, writeNew } from '../durable.ts';
import type { HostKey } from '../seal/host-key.ts';
import { restoreGuide } from '../snapshot/restore-guide.ts';
import type { Ledger } from './ledger.ts';

/**
 * Writes what a person needs beside the private key to restore, with sealift or by hand, and nothing secret:
 *
 *     sealift.yaml      a configuration that reads the backups of this host
 *     hosts/HOST.asc    the public key that signs its indexes, pinned for it
 *     host.gpg          the same as a keyring for `gpgv --keyring`
 *     RESTORE.md        how to do it by hand
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
  const configFile = join(folder, 'sealift.yaml');
  const settings = settingsOf(store);
  if (existsSync(configFile) && !isDeepStrictEqual(placeIn(configFile), settings)) return 'another store';
  await makeFolder(join(folder, 'hosts'), 0o755);
  const contents: Record<string, string | Uint8Array> = {
    'sealift.yaml': readerTemplate(key.host, settings),
    [`hosts/${key.host}.asc`]: key.publicKey.armor(),
    'host.gpg': keyring,
    'RESTORE.md': restoreGuide({ host: key.host, store, fingerprint: key.fingerprint }),
  };
  for (const [name, content] of Object.entries(contents)) {
    const file = join(folder, name);
    await ledger.make(file, () => writeNew(file, content, 0o644));
  }
  return undefined;
}

/** How the store is written in a configuration. Where the credentials come from is another matter on another machine. */
function settingsOf(store: StoreConfig): StoreSettings {
  if (store.kind === 'directory') return { kind: 'directory', path: store.path };
  const { endpoint, region, bucket, prefix, forcePathStyle } = store;
  return {
    kind: 's3',
    ...(endpoint !== undefined && { endpoint }),
    region,
    bucket,
    ...(prefix !== '' && { prefix }),
    // Where it is not what the endpoint makes it by itself.
    ...(forcePathStyle !== (endpoint !== undefined) && { forcePathStyle }),
  };
}

/** The store of a kit, without what somebody may have written there for it to be asked. */
function placeIn(configFile: string): object {
  const config = (parseYaml(readFileSync(configFile, 'utf8')).data ?? {}) as { store?: object };
  const settings = Object.entries(config.store ?? {});
  return Object.fromEntries(settings.filter(([name]) => !['accessKeyId', 'secretAccessKey'].includes(name)));
}
