import { createHash } from 'node:crypto';
import type { Store, StoredVersion } from '../../src/store/store.ts';
import { Bucket, pageSize, sha256Of, type HeldVersion, type Troubles } from './bucket.ts';
import type { Actor, CallKind, Timeline } from './timeline.ts';

/** A real store, seen and touched past the product. Its times are simulated ones, as the product sees them. */
export interface Ground {
  readonly versioned: boolean;
  /** As a process opens it that starts now. */
  open(): Promise<Store>;
  /** From now on, and until it is called again, this is the store's time; it may go on by itself. */
  setClock(nowMs: number): void;
  /** All versions of all objects whose keys begin so, in any order. */
  look(prefix: string): Promise<SeenVersion[]>;
  read(object: SeenVersion): Promise<Buffer>;
  lay(key: string, bytes: Uint8Array | undefined): Promise<void>;
  drop(object: Pick<HeldVersion, 'key' | 'version'>): Promise<void>;
  strand(key: string): Promise<void>;
}

export interface SeenVersion extends Pick<HeldVersion, 'key' | 'version' | 'modifiedMs'> {
  readonly marker: boolean;
  /** Of the content, lower-case hex; '' for a marker. */
  readonly md5: string;
}

/**
 * A real store under the simulation: calls are made by the product's own code, one at a time, each at its simulated
 * time. After each that may have changed something the key is looked at past the product, and what is found is told.
 */
export class RealBucket extends Bucket {
  readonly #ground: Ground;

  constructor(timeline: Timeline, options: { readonly startAt: string; readonly ground: Ground }) {
    super(timeline, { startAt: options.startAt, versioned: options.ground.versioned });
    this.#ground = options.ground;
  }

  async open(actor: Actor, troubles: Troubles = {}): Promise<Store> {
    const store = await this.#ground.open();
    const call = <T>(kind: CallKind, act: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
      actor.call(kind, () => this.#timed(act), signal);
    const change = (kind: CallKind, key: string, act: () => Promise<void>, signal?: AbortSignal) =>
      call(kind, () => this.#changing(key, actor.name, act), signal);

    /** One call for so many items of a listing. */
    async function* parts<T>(
      kind: CallKind,
      size: number,
      listing: AsyncIterable<T>,
      signal: AbortSignal | undefined,
    ): AsyncGenerator<T> {
      const items = listing[Symbol.asyncIterator]();
      const next = async (): Promise<T[]> => {
        const part: T[] = [];
        while (part.length < size) {
          const item = await items.next();
          if (item.done === true) break;
          part.push(item.value);
        }
        return part;
      };
      for (;;) {
        const part = await call(kind, next, signal);
        yield* part;
        if (part.length < size) return;
      }
    }

    return {
      address: store.address,
      put: (key, bytes, signal) =>
        change(isIndex(key) ? 'commit' : 'put', key, () => store.put(key, bytes, signal), signal),
      replace: (key, bytes, signal) => change('put', key, () => store.replace(key, bytes, signal), signal),
      settle: (folders) => store.settle(folders),
      versions: (key, signal) => parts('read', 1, store.versions(key, signal), signal),
      list: (prefix, signal) => parts('page', pageSize, store.list(prefix, signal), signal),
      listVersions: (prefix, signal) => parts('page', pageSize, store.listVersions(prefix, signal), signal),
      async remove(object: Pick<StoredVersion, 'key' | 'version'>, signal) {
        const remove = async (): Promise<void> => {
          const refusal = troubles.refuseRemoval?.(object.key);
          if (refusal) throw refusal;
          await store.remove(object, signal);
        };
        return change('remove', object.key, remove, signal);
      },
      unfinished: (signal) => parts('page', pageSize, store.unfinished(signal), signal),
      abandon: (write, signal) =>
        call('remove', () => this.#stranding(() => store.abandon(write, signal)), signal),
      folders: (prefix, signal) => call('page', () => store.folders(prefix, signal), signal),
      allFolders: (prefix, signal) => call('page', () => store.allFolders(prefix, signal), signal),
      now: (signal) => call('ask', () => store.now(signal), signal),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  }

  async lay(key: string, bytes: Uint8Array | undefined, by: string): Promise<void> {
    await this.#timed(() => this.#changing(key, by, () => this.#ground.lay(key, bytes)));
  }

  async drop(object: Pick<HeldVersion, 'key' | 'version'>, by: string): Promise<void> {
    await this.#timed(() => this.#changing(object.key, by, () => this.#ground.drop(object)));
  }

  async strand(key: string): Promise<void> {
    await this.#timed(() => this.#stranding(() => this.#ground.strand(key)));
  }

  async differences(): Promise<string[]> {
    const lies = new Set((await this.#ground.look('')).map(lineOf));
    const known = new Set(this.everything().map((held) => lineOf(seenAs(held))));
    return [
      ...[...lies].filter((line) => !known.has(line)).map((line) => `lies there, and nobody put it: ${line}`),
      ...[...known]
        .filter((line) => !lies.has(line))
        .map((line) => `is not there, and nobody removed it: ${line}`),
    ];
  }

  /** Simulated time goes on as the real one does while a real store is asked: its own clock cannot be held either. */
  async #timed<T>(act: () => Promise<T>): Promise<T> {
    this.#ground.setClock(this.nowMs);
    const begunMs = performance.now();
    try {
      return await act();
    } finally {
      this.timeline.elapsedMs += Math.ceil(performance.now() - begunMs) + 1; // clocks tick in milliseconds
    }
  }

  /** Whatever becomes of it, what has changed is seen. */
  async #changing(key: string, by: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } finally {
      await this.#observe(key, by);
    }
  }

  async #observe(key: string, by: string): Promise<void> {
    const known = new Map(this.versionsOf(key).map((held) => [lineOf(seenAs(held)), held]));
    const seen = (await this.#ground.look(key)).filter((found) => found.key === key);
    const lines = new Set(seen.map(lineOf));
    const news = seen.filter((found) => !known.has(lineOf(found)));
    const replaced = !this.versioned && news.length > 0;
    for (const [line, held] of known) if (!lines.has(line) && !replaced) this.take(held, by);
    for (const { marker, ...found } of news) {
      const bytes = marker ? undefined : await this.#ground.read({ marker, ...found });
      const { version, modifiedMs } = found;
      this.add({ key, version, bytes, sha256: bytes ? sha256Of(bytes) : '', modifiedMs }, by);
    }
  }

  async #stranding(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } finally {
      await using store = await this.#ground.open();
      this.uploads = await Array.fromAsync(store.unfinished());
    }
  }
}

const isIndex = (key: string): boolean => key.endsWith('/index.json.gpg');

export const md5Of = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

const seenAs = ({ key, version, bytes, modifiedMs }: HeldVersion): SeenVersion => ({
  key,
  version,
  modifiedMs,
  marker: bytes === undefined,
  md5: bytes ? md5Of(bytes) : '',
});

const lineOf = ({ key, version, modifiedMs, marker, md5 }: SeenVersion): string =>
  [key, version ?? '', new Date(modifiedMs).toISOString(), marker ? 'marker' : md5].join(' ');
