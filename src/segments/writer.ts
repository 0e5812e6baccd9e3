import { createHash } from 'node:crypto';
import { release } from '../memory.ts';
import { type Seal } from '../seal/message.ts';
import type { Budget, Share } from '../budget.ts';
import { Cutter } from './chunker.ts';
import type { WorkerPool } from './pool.ts';
import { weightOf, type Slab, type SlabShelf } from './slabs.ts';

/** A segment as the store has it. */
export interface StoredSegment {
  /** 32 lower-case hex digits. */
  readonly id: string;
  /** The snapshot in whose folder it lies. */
  readonly folder: string;
  /** Size and SHA-256 (lower-case hex) of the whole object. */
  readonly storedBytes: number;
  readonly sha256: string;
}

export interface WrittenStream {
  readonly bytes: number;
  /** Of the plaintext, lower-case hex. */
  readonly sha256: string;
  readonly segments: readonly (StoredSegment & { readonly bytes: number })[];
}

export interface SegmentWriterOptions {
  readonly pool: WorkerPool;
  readonly shelf: SlabShelf;
  /** Of bytes that a segment takes from when it is gathered until the store has acknowledged its object. */
  readonly budget: Budget;
  readonly idKey: Uint8Array;
  readonly gear: Int32Array;
  readonly seal: Seal;
  /** The folder that new segments go to. */
  readonly folder: string;
  /** Segments that may be named again instead of being written, by id. */
  readonly reusable: ReadonlyMap<string, StoredSegment>;
  /** Stores an object; resolves when the store has acknowledged it, and the bytes are no longer needed. */
  readonly put: (segment: StoredSegment, object: Uint8Array) => Promise<void>;
  /** Called with the plaintext bytes of every segment that is done, and what it added to the store. */
  readonly progress?: (bytes: number, newStoredBytes: number) => void;
  /** Once it aborts, nothing waits for the budget any longer. */
  readonly signal?: AbortSignal;
}

/**
 * Streams in, stored segments out: cut → id → compress → seal → put. Within one writer each id is sealed and put once,
 * however often it occurs and however many streams meet it at the same time.
 */
export function createSegmentWriter(options: SegmentWriterOptions) {
  const { pool, budget, shelf, idKey, gear, folder, reusable, put, progress, signal } = options;
  const added = new Map<string, Promise<StoredSegment>>();

  async function sealAndPut(id: string, plaintext: Slab, share: Share): Promise<StoredSegment> {
    const { object, sha256, slab } = await pool.run<'seal'>({
      type: 'seal',
      slab: plaintext,
      seal: options.seal,
    });
    if (slab) shelf.give(slab);
    const segment = { id, folder, storedBytes: object.length, sha256 };
    share.shrinkTo(segment.storedBytes);
    await put(segment, object);
    release(object);
    return segment;
  }

  /** Takes over the slab and its share of the budget. A slab whose task fails is not seen again. */
  async function store(plaintext: Slab, share: Share): Promise<StoredSegment & { bytes: number }> {
    const bytes = plaintext.length;
    try {
      const { id, slab } = await pool.run<'identify'>({ type: 'identify', slab: plaintext, idKey });
      let stored = reusable.get(id) ?? added.get(id);
      const isNew = stored === undefined;
      if (stored === undefined) {
        stored = sealAndPut(id, slab, share);
        added.set(id, stored);
        stored.catch(() => added.delete(id)); // the next one that has it tries again
      } else {
        shelf.give(slab);
        share.giveBack();
      }
      const result = { ...(await stored), bytes };
      progress?.(bytes, isNew ? result.storedBytes : 0);
      return result;
    } finally {
      share.giveBack();
    }
  }

  return {
    /**
     * Stores one stream. When the body throws, or a segment cannot be stored, waits for what is under way and throws
     * that error; what was stored by then is named by nobody.
     */
    async write(body: AsyncIterable<Uint8Array>): Promise<WrittenStream> {
      const cutter = new Cutter(gear);
      const hash = createHash('sha256');
      const segments: Promise<StoredSegment & { bytes: number }>[] = [];
      let failure: { error: unknown } | undefined;
      let total = 0;
      let slab: Uint8Array<ArrayBuffer> | undefined;
      let length = 0;
      const send = async (bytes: Uint8Array<ArrayBuffer>): Promise<void> => {
        const full = { bytes, length };
        const stored = store(full, await budget.take(weightOf(full), signal));
        length = 0;
        stored.catch((error: unknown) => (failure ??= { error }));
        segments.push(stored);
      };
      try {
        for await (const bytes of body) {
          if (failure) throw failure.error;
          hash.update(bytes);
          total += bytes.length;
          for (const piece of cutter.push(bytes)) {
            slab ??= shelf.take(cutter.longestBytes);
            slab.set(piece.bytes, length);
            length += piece.bytes.length;
            if (!piece.cut) continue;
            const full = slab;
            slab = undefined;
            await send(full);
          }
        }
        if (slab) await send(slab);
      } catch (error) {
        if (slab) shelf.give({ bytes: slab, length });
        await Promise.allSettled(segments);
        throw error;
      }
      await Promise.allSettled(segments);
      return { bytes: total, sha256: hash.digest('hex'), segments: await Promise.all(segments) };
    },
  };
}

export type SegmentWriter = ReturnType<typeof createSegmentWriter>;
