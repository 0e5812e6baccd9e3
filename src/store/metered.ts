import type { Store } from './store.ts';

/** The same store, and how many bytes of objects it has delivered so far. */
export function metered(store: Store): { store: Store; fetchedBytes: () => number } {
  let bytes = 0;
  return {
    store: {
      ...store,
      async *versions(key, signal, mostBytes) {
        for await (const object of store.versions(key, signal, mostBytes)) {
          bytes += object.length;
          yield object;
        }
      },
    },
    fetchedBytes: () => bytes,
  };
}
