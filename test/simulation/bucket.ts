import { createHash } from 'node:crypto';
import type { SealiftError } from '../../src/errors.ts';
import type { Store, UnfinishedWrite } from '../../src/store/store.ts';
import type { Actor, Timeline } from './timeline.ts';

/** One version of an object as it lies in the bucket, or the marker of a deletion. */
export interface HeldVersion {
  readonly key: string;
  readonly version: string | undefined;
  /** Undefined for a marker. */
  readonly bytes: Buffer | undefined;
  /** Of the bytes, lower-case hex; '' for a marker. */
  readonly sha256: string;
  /** By the store's clock, as its listings give it. */
  readonly modifiedMs: number;
}

/** What is told of everything that changes in a bucket, when it has changed. */
export interface Witness {
  stored(held: HeldVersion, by: string): void;
  removed(held: HeldVersion, by: string): void;
}

/** What one process may not do, and what goes wrong for it. */
export interface Troubles {
  /** Why this version is not to be removed, or undefined. */
  readonly refuseRemoval?: (key: string) => SealiftError | undefined;
}

/** Keys on one page. Small, so that a listing is read while it changes. */
export const pageSize = 60;

/**
 * Where a history takes place: what lies in a store, with a clock of its own, which may jump. Many processes share it;
 * each opens a store of its own, through which its calls take time, fail and die.
 */
export abstract class Bucket {
  readonly versioned: boolean;
  readonly timeline: Timeline;
  /** How far the store's clock is from the true time. */
  clockErrorMs = 0;
  witness: Witness | undefined;
  /** Writes that somebody began and left. */
  uploads: readonly UnfinishedWrite[] = [];
  readonly #epochMs: number;
  /** Newest version first. */
  readonly #objects = new Map<string, readonly HeldVersion[]>();
  /** Sorted. */
  readonly #keys: string[] = [];

  constructor(timeline: Timeline, options: { readonly versioned: boolean; readonly startAt: string }) {
    this.timeline = timeline;
    this.versioned = options.versioned;
    this.#epochMs = Date.parse(options.startAt);
  }

  /** The store as one process reaches it. */
  abstract open(actor: Actor, troubles?: Troubles): Promise<Store>;
  /** Lays a version on top, or in the place of the one that is there; `undefined` for a marker of deletion. */
  abstract lay(key: string, bytes: Uint8Array | undefined, by: string): void | Promise<void>;
  abstract drop(object: Pick<HeldVersion, 'key' | 'version'>, by: string): void | Promise<void>;
  /** Begins a write of this key and leaves it. */
  abstract strand(key: string): void | Promise<void>;
  /** In what the store itself differs from what was seen happening to it. */
  abstract differences(): Promise<string[]>;

  /** The true time. */
  get trueMs(): number {
    return this.#epochMs + this.timeline.elapsedMs;
  }

  get nowMs(): number {
    return this.trueMs + this.clockErrorMs;
  }

  /** All versions of everything, sorted by key, newest first within a key. */
  everything(): HeldVersion[] {
    return this.#keys.flatMap((key) => this.#objects.get(key)!);
  }

  versionsOf(key: string): readonly HeldVersion[] {
    return this.#objects.get(key) ?? [];
  }

  has({ key, version }: Pick<HeldVersion, 'key' | 'version'>): boolean {
    return this.versionsOf(key).some((held) => held.version === version);
  }

  /** The next keys below a prefix after a key, as things are now: a page of a listing. */
  page(prefix: string, after: string, size: number): string[] {
    const keys: string[] = [];
    for (let at = this.#placeOf(after > prefix ? after : prefix); keys.length < size; at++) {
      const key = this.#keys[at];
      if (!key?.startsWith(prefix)) break;
      if (key > after) keys.push(key);
    }
    return keys;
  }

  protected add(held: HeldVersion, by: string): void {
    const known = this.#objects.get(held.key);
    if (!known) this.#keys.splice(this.#placeOf(held.key), 0, held.key);
    this.#objects.set(held.key, this.versioned ? [held, ...(known ?? [])] : [held]);
    this.witness?.stored(held, by);
  }

  protected take(held: HeldVersion, by: string): void {
    const left = this.versionsOf(held.key).filter((known) => known !== held);
    if (left.length > 0) this.#objects.set(held.key, left);
    else {
      this.#objects.delete(held.key);
      this.#keys.splice(this.#placeOf(held.key), 1);
    }
    this.witness?.removed(held, by);
  }

  #placeOf(key: string): number {
    let [low, high] = [0, this.#keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
