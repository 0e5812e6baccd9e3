import { SealiftError } from '../../src/errors.ts';
import type { Store, StoredObject, StoredVersion } from '../../src/store/store.ts';
import { Bucket, pageSize, sha256Of, type HeldVersion, type Troubles } from './bucket.ts';
import type { Actor } from './timeline.ts';

/** A bucket in memory. */
export class SimBucket extends Bucket {
  #versions = 0;
  #uploads = 0;

  async open(actor: Actor, troubles: Troubles = {}): Promise<Store> {
    return storeOf(this, actor, troubles);
  }

  lay(key: string, bytes: Uint8Array | undefined, by: string): void {
    const held: HeldVersion = {
      key,
      version: this.versioned ? `v${++this.#versions}` : undefined,
      bytes: bytes && Buffer.from(bytes),
      sha256: bytes ? sha256Of(bytes) : '',
      modifiedMs: Math.floor(this.nowMs / 1000) * 1000, // whole seconds, as S3 gives them
    };
    this.add(held, by);
  }

  drop({ key, version }: Pick<HeldVersion, 'key' | 'version'>, by: string): void {
    const gone = this.versionsOf(key).find((held) => held.version === version);
    if (gone) this.take(gone, by);
  }

  strand(key: string): void {
    const upload = `upload-${++this.#uploads}`;
    this.uploads = [...this.uploads, { key, upload, startedAt: new Date(this.nowMs) }];
  }

  async differences(): Promise<string[]> {
    return [];
  }
}

const objectOf = (held: HeldVersion): StoredObject => ({
  key: held.key,
  sizeBytes: held.bytes?.length ?? 0,
  lastModified: new Date(held.modifiedMs),
  etag: held.sha256.slice(0, 32),
});

/** The bucket as one process reaches it. */
export function storeOf(bucket: SimBucket, actor: Actor, troubles: Troubles = {}): Store {
  async function* pages<T>(
    prefix: string,
    signal: AbortSignal | undefined,
    entries: (versions: readonly HeldVersion[]) => T[],
  ): AsyncGenerator<T> {
    for (let after = ''; ;) {
      const { last, page } = await actor.call(
        'page',
        () => {
          const keys = bucket.page(prefix, after, pageSize);
          const page = keys.flatMap((key) => entries(bucket.versionsOf(key)));
          return { last: keys.length === pageSize ? keys.at(-1) : undefined, page };
        },
        signal,
      );
      yield* page;
      if (last === undefined) return;
      after = last;
    }
  }

  const folders = (
    prefix: string,
    counts: (held: HeldVersion) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<string[]> =>
    actor.call(
      'page',
      () => {
        const names = new Set<string>();
        for (const held of bucket.everything()) {
          if (!held.key.startsWith(prefix) || !counts(held)) continue;
          const [name, ...rest] = held.key.slice(prefix.length).split('/');
          if (rest.length > 0) names.add(name!);
        }
        return [...names].toSorted();
      },
      signal,
    );

  return {
    address: 'sim://bucket',
    async put(key, bytes, signal) {
      const kind = key.endsWith('/index.json.gpg') ? 'commit' : 'put';
      const put = (): void => {
        const [held] = bucket.versionsOf(key);
        if (held?.bytes?.equals(bytes)) return;
        if (held?.bytes && !bucket.versioned)
          throw new SealiftError('store-conflict', `${key} holds something else`);
        bucket.lay(key, bytes, actor.name);
      };
      return actor.call(kind, put, signal);
    },
    async replace(key, bytes, signal) {
      return actor.call('put', () => bucket.lay(key, bytes, actor.name), signal);
    },
    async settle() {},
    async *versions(key, signal) {
      // The list of versions first, then each of them: it may be gone by then.
      const found = await actor.call('read', () => bucket.versionsOf(key), signal);
      for (const held of found) if (held.bytes && bucket.has(held)) yield Buffer.from(held.bytes);
    },
    list: (prefix, signal) => pages(prefix, signal, ([latest]) => (latest?.bytes ? [objectOf(latest)] : [])),
    listVersions: (prefix, signal) =>
      pages(prefix, signal, (versions) =>
        versions.map((held, i): StoredVersion => ({
          ...objectOf(held),
          version: held.version,
          latest: i === 0,
          marker: held.bytes === undefined,
        })),
      ),
    async remove(object, signal) {
      const remove = (): void => {
        const refusal = troubles.refuseRemoval?.(object.key);
        if (refusal) throw refusal;
        bucket.drop(object, actor.name);
      };
      return actor.call('remove', remove, signal);
    },
    async *unfinished(signal) {
      yield* await actor.call('page', () => [...bucket.uploads], signal);
    },
    async abandon(write, signal) {
      const abandon = (): void => {
        bucket.uploads = bucket.uploads.filter(({ upload }) => upload !== write.upload);
      };
      return actor.call('remove', abandon, signal);
    },
    folders: (prefix, signal) =>
      folders(
        prefix,
        ({ key, version, bytes }) => {
          const [latest] = bucket.versionsOf(key);
          return bytes !== undefined && latest?.version === version;
        },
        signal,
      ),
    allFolders: (prefix, signal) => folders(prefix, () => true, signal),
    async now(signal) {
      return actor.call('ask', () => new Date(bucket.nowMs), signal);
    },
    async [Symbol.asyncDispose]() {},
  };
}
