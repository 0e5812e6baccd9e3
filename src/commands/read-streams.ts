import { createHash } from 'node:crypto';
import { SealiftError } from '../errors.ts';
import { formatFingerprint } from '../output.ts';
import type { SessionKeyFinder } from '../seal/session-key.ts';
import type { WorkerPool } from '../segments/pool.ts';
import type { ByteRange } from '../segments/ranges.ts';
import { createSegmentReader, DamagedSegment, type FetchSegment } from '../segments/reader.ts';
import type { StoredSegment } from '../segments/writer.ts';
import { isOfOneObject, isOneRefused, type Snapshot } from '../snapshot/catalog.ts';
import { readDetails, type DetailsRecord, type StreamDetail } from '../snapshot/details.ts';
import { segmentsOf, type Index, type IndexStream } from '../snapshot/index.ts';
import { detailsStream, segmentKey } from '../snapshot/object-key.ts';
import type { Store } from '../store/store.ts';

/** Opens the streams of one host's snapshots. */
export interface StreamReader {
  /** Shows that this snapshot can be opened, before anything is touched for it. Throws what opening it would. */
  prepare(snapshot: Snapshot): Promise<void>;
  /** The private records of a snapshot, one by one. */
  details(snapshot: Snapshot): AsyncIterable<DetailsRecord>;
  /**
   * The plaintext of a stream. Throws `verify-failed` at its end unless size and SHA-256 are those that the details
   * recorded, so whoever uses it must not call it good before then.
   */
  open(snapshot: Snapshot, stream: IndexStream): AsyncIterable<Uint8Array>;
  /**
   * These ranges of the plaintext, one after the other, from the segments that hold them and no others. What is signed is
   * each segment, so each is whole and in its place or this throws `verify-failed`; the SHA-256 of the stream says nothing
   * about a part of it.
   */
  openRanges(
    snapshot: Snapshot,
    stream: IndexStream,
    ranges: readonly ByteRange[],
  ): AsyncIterable<Uint8Array>;
  /** Where in a stream, which has been begun, the bytes of this segment lie. */
  placesOf(snapshot: Snapshot, stream: IndexStream, segment: StoredSegment): ByteRange[];
}

/** The objects of segments in a store. One that it has and does not give is as good as lost: `DamagedSegment`. */
export function segmentsIn(store: Store, host: string, signal: AbortSignal): FetchSegment {
  let given: string | undefined;
  return async function* (segment) {
    const key = segmentKey(host, segment);
    let came = false;
    try {
      for await (const bytes of store.versions(key, signal, segment.storedBytes)) {
        given = key;
        came = true;
        yield bytes;
      }
    } catch (error) {
      if (!(error instanceof SealiftError)) throw error;
      const isAlone =
        (await isOfOneObject(error, store, key, signal)) ||
        // Whoever may read the newest version and no older one lacks a right, and perhaps no data.
        (!came && (await isOneRefused(error, store, key, given, signal)));
      if (!isAlone) throw error;
      throw new DamagedSegment(segment, error.message);
    }
  };
}

export function createStreamReader(options: {
  readonly store: Store;
  readonly pool: WorkerPool;
  readonly findSessionKey: SessionKeyFinder;
  readonly signal: AbortSignal;
  readonly host: string;
  /** Called with the size of every chunk of details that was read. */
  readonly onDetails?: (bytes: number) => void;
}): StreamReader {
  const { store, pool, findSessionKey, signal, host, onDetails } = options;
  const segments = createSegmentReader({ pool, findSessionKey, fetch: segmentsIn(store, host, signal) });
  const recorded = new Map<string, Map<string, StreamDetail>>();

  const read = ({ index }: Snapshot, stream: IndexStream): AsyncIterable<Uint8Array> =>
    namingStream(segments.read(segmentsOf(index, stream)), index, stream);

  async function* details(snapshot: Snapshot): AsyncGenerator<DetailsRecord> {
    const stream = snapshot.index.streams.find(({ name }) => name === detailsStream);
    if (!stream) throw new SealiftError('verify-failed', `${snapshot.index.snapshot} has no details`);
    const streams = new Map<string, StreamDetail>();
    const body = counted(read(snapshot, stream), onDetails);
    try {
      for await (const record of readDetails(body)) {
        if (record.type === 'stream') {
          const detail = record as unknown as StreamDetail;
          streams.set(detail.name, detail);
        }
        yield record;
      }
    } catch (error) {
      throw namingKeys(error, snapshot.index);
    }
    recorded.set(snapshot.index.snapshot, streams);
  }

  /** What the details, which have been read, say of a stream. */
  function recordOf({ index }: Snapshot, stream: IndexStream): StreamDetail {
    const found = recorded.get(index.snapshot)?.get(stream.name);
    if (!found) throw damaged(index, stream, 'its details say nothing of it');
    return found;
  }

  async function prepare(snapshot: Snapshot): Promise<void> {
    if (recorded.has(snapshot.index.snapshot)) return;
    for await (const _ of details(snapshot));
  }

  return {
    prepare,
    details,
    async *open(snapshot, stream) {
      await prepare(snapshot);
      const expected = recordOf(snapshot, stream);
      const hash = createHash('sha256');
      let bytes = 0;
      for await (const chunk of read(snapshot, stream)) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
      if (bytes !== expected.bytes)
        throw damaged(snapshot.index, stream, `it has ${bytes} bytes, not ${expected.bytes}`);
      if (hash.digest('hex') !== expected.sha256)
        throw damaged(snapshot.index, stream, 'its SHA-256 is another one');
    },
    async *openRanges(snapshot, stream, ranges) {
      await prepare(snapshot);
      const { segments: lengths, bytes } = recordOf(snapshot, stream);
      const stored = segmentsOf(snapshot.index, stream);
      const total = lengths.reduce((sum, length) => sum + length, 0);
      if (lengths.length !== stored.length || total !== bytes)
        throw damaged(snapshot.index, stream, 'its details do not agree with its segments');
      if ((ranges.at(-1)?.to ?? 0) > total)
        throw damaged(snapshot.index, stream, 'its details speak of what lies beyond its end');
      const sized = stored.map((segment, number) => ({ ...segment, bytes: lengths[number]! }));
      yield* namingStream(segments.readRanges(sized, ranges), snapshot.index, stream);
    },
    placesOf(snapshot, stream, { folder, id }) {
      const { segments: lengths } = recordOf(snapshot, stream);
      const places: ByteRange[] = [];
      let from = 0;
      for (const [number, segment] of segmentsOf(snapshot.index, stream).entries()) {
        const to = from + (lengths[number] ?? 0);
        if (segment.folder === folder && segment.id === id) places.push({ from, to });
        from = to;
      }
      return places;
    },
  };
}

/** The index knows which keys would do. */
function namingKeys(error: unknown, { recipients }: Index): unknown {
  if (!(error instanceof SealiftError) || error.code !== 'key-wrong') return error;
  const keys = recipients.map(({ primary }) => formatFingerprint(primary));
  const hint = `It is sealed to ${keys.join(' and ')}.${error.hint === undefined ? '' : ` ${error.hint}`}`;
  return new SealiftError(error.code, error.message, { hint, cause: error.cause });
}

/** Nobody sees by the id of a segment what it is of. */
async function* namingStream(
  body: AsyncIterable<Uint8Array>,
  { snapshot }: Index,
  { name }: IndexStream,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (!(error instanceof DamagedSegment)) throw error;
    throw new DamagedSegment(
      error.segment,
      `${name} of ${snapshot} cannot be read whole: ${error.message}`,
      'An older snapshot may have it: `sealift verify --all --read-data` tells which ones are whole.' +
        (name === detailsStream
          ? ' By hand, as RESTORE.md says, the other streams come back without it.'
          : ''),
    );
  }
}

async function* counted(
  body: AsyncIterable<Uint8Array>,
  onBytes: ((bytes: number) => void) | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    onBytes?.(chunk.length);
    yield chunk;
  }
}

const damaged = (index: Index, stream: IndexStream, reason: string): SealiftError =>
  new SealiftError(
    'verify-failed',
    `${stream.name} of ${index.snapshot} did not come back as it was: ${reason}`,
  );
