import { SealiftError } from '../errors.ts';

/** A dump of MariaDB begins with the comment of the database, which has up to 2.5 KiB. */
const headBytes = 4096;
const tailBytes = 512;

/** What a whole dump looks like, as text of one character per byte. */
export interface Evidence {
  /** Of its first 4096 bytes. */
  readonly begins?: RegExp | undefined;
  /** Of its last 512 bytes. */
  readonly ends?: RegExp | undefined;
  readonly minBytes?: number | undefined;
}

/**
 * Passes a dump on; at its end it must have begun, and ended, as such a dump does. This is said after the program has
 * reported success: a program can be wrong about that. Throws `source-empty` or `source-damaged`.
 */
export async function* withEvidence(
  dump: AsyncIterable<Uint8Array>,
  what: string,
  { begins, ends, minBytes = 1 }: Evidence,
): AsyncGenerator<Uint8Array, void, void> {
  let head: Buffer = Buffer.alloc(0);
  let tail: Buffer = Buffer.alloc(0);
  let sizeBytes = 0;
  for await (const chunk of dump) {
    sizeBytes += chunk.length;
    if (head.length < headBytes) head = Buffer.concat([head, chunk]).subarray(0, headBytes);
    // Not of the whole chunk, which would be copied each time.
    if (ends !== undefined) tail = Buffer.concat([tail, chunk.subarray(-tailBytes)]).subarray(-tailBytes);
    yield chunk;
  }
  const although = 'although its program reported success';
  if (sizeBytes === 0) throw new SealiftError('source-empty', `${what} is empty, ${although}`);
  const lacks =
    begins?.test(head.toString('latin1')) === false
      ? 'does not begin as it should'
      : ends?.test(tail.toString('latin1')) === false
        ? 'does not end as it should'
        : sizeBytes < minBytes
          ? `has only ${sizeBytes} bytes, less than ${minBytes}`
          : undefined;
  if (lacks !== undefined) throw new SealiftError('source-damaged', `${what} ${lacks}, ${although}`);
}
