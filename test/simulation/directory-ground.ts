import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { openDirectoryStore } from '../../src/store/directory.ts';
import type { Store } from '../../src/store/store.ts';
import { md5Of, type Ground, type SeenVersion } from './real-bucket.ts';

/**
 * A directory store in simulated time. A file system has no clock that a test could turn, so each file is dated when it
 * has been written, and `now` is answered here; everything else is the store's own doing.
 */
export function directoryGround(root: string): Ground {
  mkdirSync(root);
  let nowMs = 0;
  /** Temporary files by name: the store itself sweeps them by the real time, so they keep their real date. */
  const begunMs = new Map<string, number>();
  const date = (key: string): void => utimesSync(join(root, key), nowMs / 1000, nowMs / 1000);

  const open = async (): Promise<Store> => {
    const store = await openDirectoryStore(root);
    return {
      ...store,
      async put(key, bytes, signal) {
        const isNew = !existsSync(join(root, key));
        await store.put(key, bytes, signal);
        if (isNew) date(key);
      },
      async replace(key, bytes, signal) {
        await store.replace(key, bytes, signal);
        date(key);
      },
      async *unfinished(signal) {
        for await (const write of store.unfinished(signal))
          yield { ...write, startedAt: new Date(begunMs.get(write.upload) ?? nowMs) };
      },
      async now(signal) {
        await store.now(signal); // it may have something to say about the disk
        return new Date(nowMs);
      },
    };
  };

  return {
    versioned: false,
    open,
    setClock: (time) => void (nowMs = Math.floor(time)),
    async look(prefix) {
      const keys =
        existsSync(join(root, prefix)) && statSync(join(root, prefix)).isFile() ? [prefix] : filesIn(root);
      return keys
        .filter((key) => key.startsWith(prefix))
        .map((key): SeenVersion => {
          const path = join(root, key);
          const modifiedMs = statSync(path).mtime.getTime();
          return { key, version: undefined, marker: false, modifiedMs, md5: md5Of(readFileSync(path)) };
        });
    },
    read: async ({ key }) => readFileSync(join(root, key)),
    async lay(key, bytes) {
      mkdirSync(dirname(join(root, key)), { recursive: true });
      writeFileSync(join(root, key), bytes!);
      date(key);
    },
    drop: async ({ key }) => rmSync(join(root, key)),
    async strand() {
      const name = randomUUID();
      mkdirSync(join(root, '.tmp'), { recursive: true });
      writeFileSync(join(root, '.tmp', name), 'half of somethi');
      begunMs.set(name, nowMs);
    },
  };
}

const filesIn = (root: string): string[] =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((key) => !key.startsWith('.tmp/'));
