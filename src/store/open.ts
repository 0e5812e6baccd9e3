import type { StoreConfig } from '../config/config.ts';
import { openDirectoryStore } from './directory.ts';
import type { Store } from './store.ts';

/** The store of a configuration; dispose it after use. */
export async function openStore(config: StoreConfig): Promise<Store> {
  switch (config.kind) {
    case 's3': {
      // The S3 client is large; who backs up to a directory does not load it.
      const { openS3Store } = await import('./s3.ts');
      return openS3Store(config);
    }
    case 'directory':
      return openDirectoryStore(config.path);
  }
}
