import { hash } from 'node:crypto';
import { mapAhead } from '../concurrency.ts';
import { SealiftError } from '../errors.ts';
import { sealPackets } from '../seal/packets.ts';
import type { SessionKeyFinder } from '../seal/session-key.ts';
import type { WorkerPool } from './pool.ts';
import { piecesOf, type ByteRange } from './ranges.ts';
import type { StoredSegment } from './writer.ts';

/** How much of what follows is fetched and opened while the consumer is busy. */
const aheadBytes = 16 * 2 ** 20;
/** A small object costs its round trip, not its bytes: at most this many are asked for at once. */
const smallestCostBytes = aheadBytes / 16;

/** All stored versions of a segment's object, newest first. */
export type FetchSegment = (segment: StoredSegment) => AsyncIterable<Buffer>;

/**
 * `verify-failed`: the store does not have the object of a segment as it was signed, or does not give it, and so lacks these
 * bytes.
 */
export class DamagedSegment extends SealiftError {
  readonly segment: StoredSegment;

  constructor(segment: StoredSegment, message: string, hint?: string) {
    super('verify-failed', message, { hint });
    this.segment = segment;
  }
}

/** Its versions, newest first, and then all of them once more: what came damaged may have been so by its way. */
export async function* askedTwice(fetch: FetchSegment, segment: StoredSegment): AsyncGenerator<Buffer> {
  let any = false;
  for await (const object of fetch(segment)) {
    any = true;
    yield object;
  }
  if (any) yield* fetch(segment);
}

/**
 * The object of a segment whose SHA-256 is the signed one (rule R8), checked before anything is decrypted. Throws
 * `DamagedSegment` when no version has it.
 */
export async function fetchVerified(fetch: FetchSegment, segment: StoredSegment): Promise<Buffer> {
  let found = false;
  for await (const object of askedTwice(fetch, segment)) {
    found = true;
    if (object.length !== segment.storedBytes) continue;
    if (hash('sha256', object) === segment.sha256) return object;
  }
  throw new DamagedSegment(
    segment,
    `the object of segment ${segment.id} in ${segment.folder} is ${found ? 'not the one that was signed' : 'missing'}`,
  );
}

export interface SegmentReaderOptions {
  readonly pool: WorkerPool;
  readonly fetch: FetchSegment;
  readonly findSessionKey: SessionKeyFinder;
}

/** The inverse of the writer: fetch → compare SHA-256 → open → decompress. Asks for the session key of each run once. */
export function createSegmentReader({ pool, fetch, findSessionKey }: SegmentReaderOptions) {
  const sessionKeys = new Map<string, Promise<Uint8Array>>();

  const sessionKeyOf = (object: Uint8Array): Promise<Uint8Array> => {
    const packets = sealPackets(object);
    const name = hash('sha256', packets);
    let key = sessionKeys.get(name);
    if (!key) sessionKeys.set(name, (key = findSessionKey(packets)));
    return key;
  };

  const open = async (segment: StoredSegment): Promise<Uint8Array> => {
    const object = await fetchVerified(fetch, segment);
    const sessionKey = await sessionKeyOf(object);
    const { plaintext } = await pool.run<'open'>({ type: 'open', object, sessionKey });
    return plaintext;
  };

  /** The plaintext of these segments, one after the other, one chunk per segment. */
  const read = (segments: Iterable<StoredSegment>): AsyncGenerator<Uint8Array> =>
    mapAhead(segments, aheadBytes, ({ storedBytes }) => Math.max(storedBytes, smallestCostBytes), open);

  return {
    read,
    /**
     * Ranges of the plaintext of all these segments, one after the other, from those that hold them and no others. Throws
     * `verify-failed` where a segment does not have the plaintext length that is said of it: nothing would be in its place.
     */
    async *readRanges(
      segments: readonly (StoredSegment & { readonly bytes: number })[],
      ranges: readonly ByteRange[],
    ): AsyncGenerator<Uint8Array> {
      const lengths = segments.map(({ bytes }) => bytes);
      const pieces = [...piecesOf(lengths, ranges)];
      const needed = [...new Set(pieces.map(({ segment }) => segment))];
      let place = 0;
      let next = 0;
      for await (const plaintext of read(needed.map((number) => segments[number]!))) {
        const number = needed[place++]!;
        const { id, folder, bytes } = segments[number]!;
        if (plaintext.length !== bytes)
          throw new SealiftError(
            'verify-failed',
            `segment ${id} in ${folder} has ${plaintext.length} bytes, not ${bytes}`,
          );
        for (let piece = pieces[next]; piece?.segment === number; piece = pieces[++next])
          yield plaintext.subarray(piece.from, piece.to);
      }
    },
  };
}
