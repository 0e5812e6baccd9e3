import type { PublicKey } from 'openpgp';
import { openSigned } from '../../src/seal/sign.ts';
import { objectsOf, parseIndex } from '../../src/snapshot/index.ts';
import { formatKey, parseKey, type ObjectKey } from '../../src/snapshot/object-key.ts';
import type { HeldVersion } from './bucket.ts';

/** A snapshot as the oracle remembers it from the moment in which its index appeared. Times in milliseconds. */
export interface Commit {
  readonly host: string;
  readonly job: string;
  readonly snapshot: string;
  readonly indexKey: string;
  readonly indexSha256: string;
  readonly sequence: number;
  readonly previous: { readonly snapshot: string; readonly endsMs: number } | undefined;
  readonly maxAgeMs: number;
  readonly windowMs: number;
  readonly startedMs: number;
  /** Rule R9: its age counts from the earlier of its start and the time at which its index was stored. */
  readonly bornMs: number;
  /** Key → SHA-256 of every object that it names. */
  readonly names: ReadonlyMap<string, string>;
  /** What somebody took away or replaced who is no pruner: nobody promises that. */
  readonly lost: Set<string>;
  /** A time has been at which a pruner might end it: from then on nothing is promised (rule R2). */
  ended: boolean;
}

/** Reads what was stored as an index; undefined when it is none that one of these keys signed. */
export async function readCommit(held: HeldVersion, keys: readonly PublicKey[]): Promise<Commit | undefined> {
  const at = parseKey(held.key) as Extract<ObjectKey, { type: 'index' }>;
  try {
    const { content } = await openSigned(held.bytes!, keys, held.key);
    const index = parseIndex(content, at);
    const startedMs = Date.parse(index.startedAt);
    return {
      host: index.host,
      job: index.job,
      snapshot: index.snapshot,
      indexKey: held.key,
      indexSha256: held.sha256,
      sequence: index.sequence,
      previous: index.previous
        ? { snapshot: index.previous.snapshot, endsMs: Date.parse(index.previous.expiresAt!) }
        : undefined,
      maxAgeMs: index.maxAge * 1000,
      windowMs: index.reuseWindow * 1000,
      startedMs,
      bornMs: Math.min(startedMs, held.modifiedMs),
      names: new Map(
        objectsOf(index).map(({ folder, id, sha256 }) => [
          formatKey({ type: 'segment', host: index.host, snapshot: folder, id }),
          sha256,
        ]),
      ),
      lost: new Set(),
      ended: false,
    };
  } catch {
    return undefined;
  }
}
