import { hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { SealiftError, messageOf, type ErrorCode } from '../errors.ts';
import { release, transferable } from '../memory.ts';
import { sealBytes, type Seal } from '../seal/message.ts';
import { openBytes } from '../seal/open.ts';
import { longestSegmentBytes } from './chunker.ts';
import { paddingFor } from './padding.ts';
import { segmentId } from './segment-id.ts';
import { filled, isLarge, type Slab } from './slabs.ts';

/**
 * What a worker thread does for the pool. Tasks carry all that they need: workers know no run and no host. The slab of
 * a segment is transferred to the thread and comes back with the answer, unless it is given up there; so are objects and
 * opened plaintext.
 */
export type Task =
  | { readonly type: 'identify'; readonly slab: Slab; readonly idKey: Uint8Array }
  | { readonly type: 'seal'; readonly slab: Slab; readonly seal: Seal }
  | { readonly type: 'open'; readonly object: Uint8Array; readonly sessionKey: Uint8Array };

export interface Results {
  identify: { readonly id: string; readonly slab: Slab };
  /** The object and the lower-case hex SHA-256 of it. A large slab is given up before the object is made. */
  seal: { readonly object: Uint8Array; readonly sha256: string; readonly slab?: Slab };
  open: { readonly plaintext: Uint8Array };
}

export type Reply =
  | { readonly ok: true; readonly value: Results[Task['type']] }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

const compressionLevel = 1;

/**
 * Room for the worst case (ZSTD_compressBound): then zstd works in one pass on the input where it lies. With the default
 * of 16 KiB it takes up to twice the time. What is not filled is never touched.
 */
const frameRoom = (plaintextBytes: number): number => plaintextBytes + (plaintextBytes >> 8) + 1024;

function compress(plaintext: Uint8Array): Buffer {
  return zstdCompressSync(plaintext, {
    chunkSize: frameRoom(plaintext.length),
    pledgedSrcSize: plaintext.length,
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel, [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

/** The size that a zstd frame declares for its content (RFC 8878, 3.1.1.1), if it does: just how much to allocate. */
function frameContentSize(frame: Uint8Array): number | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, Math.min(frame.byteLength, 18));
  if (view.byteLength < 18) return undefined;
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const at = 5 + (singleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  switch (descriptor >> 6) {
    case 0:
      return singleSegment ? view.getUint8(at) : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}

async function perform(task: Task): Promise<Results[Task['type']]> {
  switch (task.type) {
    case 'identify':
      return { id: segmentId(task.idKey, filled(task.slab)), slab: task.slab };
    case 'seal': {
      const { slab } = task;
      const frame = compress(filled(slab));
      const isKept = !isLarge(slab);
      if (!isKept) release(slab.bytes);
      const object = sealBytes(task.seal, frame, paddingFor(frame.length));
      release(frame, frameRoom(slab.length));
      return { object, sha256: hash('sha256', object), ...(isKept && { slab }) };
    }
    case 'open': {
      const content = await openBytes(task.object, task.sessionKey);
      const chunkSize = Math.max(
        1024,
        Math.min(longestSegmentBytes, frameContentSize(content) ?? 4 * content.length),
      );
      release(task.object);
      try {
        const plaintext = zstdDecompressSync(content, { maxOutputLength: longestSegmentBytes, chunkSize });
        release(content, content.buffer.byteLength);
        return { plaintext };
      } catch (error) {
        throw new SealiftError('verify-failed', `the object holds no segment: ${messageOf(error)}`, {
          cause: error,
        });
      }
    }
  }
}

const inMemory = (value: Results[Task['type']]): ArrayBuffer[] =>
  transferable(
    'slab' in value ? value.slab?.bytes : undefined,
    'object' in value ? value.object : undefined,
    'plaintext' in value ? value.plaintext : undefined,
  );

/** Tasks are answered in the order in which they came. */
let last = Promise.resolve();
parentPort?.on('message', (task: Task) => {
  const port = parentPort!;
  last = last
    .then(() => perform(task))
    .then(
      (value) => port.postMessage({ ok: true, value } satisfies Reply, inMemory(value)),
      (error: unknown) => {
        const code = error instanceof SealiftError ? error.code : 'failed';
        port.postMessage({ ok: false, code, message: messageOf(error) } satisfies Reply);
      },
    );
});
