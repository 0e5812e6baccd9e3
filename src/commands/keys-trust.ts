import { keysFolder, parseKey } from '../snapshot/object-key.ts';
import { openStore } from '../store/open.ts';
import type { Context, Outcome } from './context.ts';
import { trust, type StoredHostKey } from './keys.ts';

/** That of a host has less than one KiB. */
const largestKeyBytes = 2 ** 16;

/** `sealift keys trust FINGERPRINT`, with the keys that the store suggests. */
export async function trustFromStore(context: Context, fingerprint: string): Promise<Outcome> {
  const { signal } = context;
  const config = await context.config();
  await using store = await openStore(config.store, context.log);

  async function* readHostKeys(): AsyncGenerator<StoredHostKey> {
    for (const folder of await store.folders('', signal)) {
      for await (const { key } of store.list(keysFolder(folder), signal)) {
        const parsed = parseKey(key);
        if (parsed?.type !== 'host-key') continue;
        for await (const bytes of store.versions(key, signal, largestKeyBytes)) {
          yield { host: parsed.host, fingerprint: parsed.fingerprint, armored: bytes.toString('utf8') };
          break;
        }
      }
    }
  }
  return await trust(context, fingerprint, readHostKeys);
}
