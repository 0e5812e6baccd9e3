import type { StoreConfig } from '../config/config.ts';
import { openDirectoryStore } from './directory.ts';
import { openS3Store } from './s3.ts';
import type { Store } from './store.ts';

/** The store of a configuration; dispose it after use. */
export async function openStore(config: StoreConfig): Promise<Store> {
  switch (config.kind) {
    case 's3':
      return openS3Store(config);
    case 'directory':
      return openDirectoryStore(config.path);
  }
}
