import type { StoreConfig } from '../config/config.ts';
import type { Log } from '../log.ts';
import { openDirectoryStore } from './directory.ts';
import type { Store } from './store.ts';

/** Where nobody looks on: the hour at which a backup begins may be the one at which a gateway is restarted. */
export const unattendedPatienceMs = 20_000;

/**
 * The store of a configuration; dispose it after use. The log hears when it is away, and one that is to be used unattended
 * is waited for from the beginning.
 */
export async function openStore(
  config: StoreConfig,
  log: Log,
  { unattended = false }: { readonly unattended?: boolean } = {},
): Promise<Store> {
  switch (config.kind) {
    case 's3': {
      // The S3 client is large; who backs up to a directory does not load it.
      const { openS3Store } = await import('./s3.ts');
      return openS3Store(config, { log, firstPatienceMs: unattended ? unattendedPatienceMs : 0 });
    }
    case 'directory':
      return openDirectoryStore(config.path);
  }
}
