import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { SealiftError, messageOf, type ErrorCode } from '../errors.ts';
import { openBytes } from '../seal/open.ts';
import { sealBytes, type Seal } from '../seal/seal.ts';
import { padFrame } from './padding.ts';
import { segmentId } from './segment-id.ts';
import { transferable } from './transferable.ts';

/** What a worker thread does for the pool. Tasks carry all that they need: workers know no run and no host. */
export type Task =
  | { readonly type: 'identify'; readonly plaintext: Uint8Array; readonly idKey: Uint8Array }
  | { readonly type: 'seal'; readonly plaintext: Uint8Array; readonly seal: Seal }
  | { readonly type: 'open'; readonly object: Uint8Array; readonly sessionKey: Uint8Array };

export interface Results {
  identify: { id: string; plaintext: Uint8Array };
  /** The object and the lower-case hex SHA-256 of it. */
  seal: { object: Uint8Array; sha256: string };
  open: { plaintext: Uint8Array };
}

export type Reply =
  | { readonly ok: true; readonly value: Results[Task['type']] }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

/** The longest segment that any stream is cut into (chunker.ts), and so the most that an object may expand to. */
const longestSegmentBytes = 16 * 2 ** 20;
const compressionLevel = 1;

function compress(plaintext: Uint8Array): Buffer {
  return zstdCompressSync(plaintext, {
    // With the default of 16 KiB the output is collected in many small pieces, at up to twice the time.
    chunkSize: plaintext.length + 1024,
    pledgedSrcSize: plaintext.length,
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel, [constants.ZSTD_c_checksumFlag]: 1 },
  });
}

async function perform(task: Task): Promise<Results[Task['type']]> {
  switch (task.type) {
    case 'identify':
      return { id: segmentId(task.idKey, task.plaintext), plaintext: task.plaintext };
    case 'seal': {
      const object = await sealBytes(task.seal, padFrame(compress(task.plaintext)));
      return { object, sha256: createHash('sha256').update(object).digest('hex') };
    }
    case 'open': {
      const content = await openBytes(task.object, task.sessionKey);
      const chunkSize = Math.min(longestSegmentBytes, 8 * content.length);
      return { plaintext: zstdDecompressSync(content, { maxOutputLength: longestSegmentBytes, chunkSize }) };
    }
  }
}

parentPort?.on('message', (task: Task) => {
  const port = parentPort!;
  perform(task).then(
    (value) => {
      const field = 'object' in value ? 'object' : 'plaintext';
      const bytes = transferable('object' in value ? value.object : value.plaintext);
      port.postMessage({ ok: true, value: { ...value, [field]: bytes } }, [bytes.buffer]);
    },
    (error: unknown) => {
      const code = error instanceof SealiftError ? error.code : 'failed';
      port.postMessage({ ok: false, code, message: messageOf(error) } satisfies Reply);
    },
  );
});
