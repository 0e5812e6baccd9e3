import { createHash } from 'node:crypto';
import { SealiftError } from '../errors.ts';
import type { SessionKeyFinder } from '../seal/open.ts';
import type { WorkerPool } from '../segments/pool.ts';
import { createSegmentReader } from '../segments/reader.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import { readDetails, type StreamDetail } from '../snapshot/details.ts';
import { segmentsOf, type Index, type IndexStream } from '../snapshot/index.ts';
import { detailsStream, formatKey } from '../snapshot/object-key.ts';
import type { Store } from '../store/store.ts';

/** Opens the streams of one host's snapshots. */
export interface StreamReader {
  /** Shows that this snapshot can be opened, before anything is touched for it. Throws what opening it would. */
  prepare(snapshot: Snapshot): Promise<void>;
  /** The private records of a snapshot, one by one. */
  details(snapshot: Snapshot): AsyncIterable<{ type: string; [key: string]: unknown }>;
  /**
   * The plaintext of a stream. Throws `verify-failed` at its end unless size and SHA-256 are those that the details
   * recorded, so whoever uses it must not call it good before then.
   */
  open(snapshot: Snapshot, stream: IndexStream): AsyncIterable<Uint8Array>;
}

export function createStreamReader(options: {
  readonly store: Store;
  readonly pool: WorkerPool;
  readonly findSessionKey: SessionKeyFinder;
  readonly signal: AbortSignal;
  readonly host: string;
}): StreamReader {
  const { store, pool, findSessionKey, signal, host } = options;
  const segments = createSegmentReader({
    pool,
    findSessionKey,
    fetch: ({ folder, id }) =>
      store.versions(formatKey({ type: 'segment', host, snapshot: folder, id }), signal),
  });
  const recorded = new Map<string, Promise<Map<string, StreamDetail>>>();

  const details = (snapshot: Snapshot) => {
    const stream = snapshot.index.streams.find(({ name }) => name === detailsStream);
    if (!stream) throw new SealiftError('verify-failed', `${snapshot.index.snapshot} has no details`);
    return readDetails(segments.read(segmentsOf(snapshot.index, stream)));
  };

  const recordedStreams = (snapshot: Snapshot): Promise<Map<string, StreamDetail>> => {
    const { snapshot: id } = snapshot.index;
    let streams = recorded.get(id);
    if (!streams) recorded.set(id, (streams = collect(details(snapshot))));
    return streams;
  };

  return {
    async prepare(snapshot) {
      await recordedStreams(snapshot);
    },
    details,
    async *open(snapshot, stream) {
      const expected = (await recordedStreams(snapshot)).get(stream.name);
      if (!expected) throw damaged(snapshot.index, stream, 'its details say nothing of it');
      const hash = createHash('sha256');
      let bytes = 0;
      for await (const chunk of segments.read(segmentsOf(snapshot.index, stream))) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
      if (bytes !== expected.bytes)
        throw damaged(snapshot.index, stream, `it has ${bytes} bytes, not ${expected.bytes}`);
      if (hash.digest('hex') !== expected.sha256)
        throw damaged(snapshot.index, stream, 'its SHA-256 is another one');
    },
  };
}

async function collect(records: AsyncIterable<{ type: string }>): Promise<Map<string, StreamDetail>> {
  const streams = new Map<string, StreamDetail>();
  for await (const record of records)
    if (record.type === 'stream') streams.set((record as StreamDetail).name, record as StreamDetail);
  return streams;
}

const damaged = (index: Index, stream: IndexStream, reason: string): SealiftError =>
  new SealiftError(
    'verify-failed',
    `${stream.name} of ${index.snapshot} did not come back as it was: ${reason}`,
  );
