import type { StoreConfig } from '../config/config.ts';
import type { Log } from '../log.ts';
import { openDirectoryStore } from './directory.ts';
import type { Store } from './store.ts';

/** The store of a configuration; dispose it after use. The log hears when it is away. */
export async function openStore(config: StoreConfig, log: Log): Promise<Store> {
  switch (config.kind) {
    case 's3': {
      // The S3 client is large; who backs up to a directory does not load it.
      const { openS3Store } = await import('./s3.ts');
      return openS3Store(config, { log });
    }
    case 'directory':
      return openDirectoryStore(config.path);
  }
}
