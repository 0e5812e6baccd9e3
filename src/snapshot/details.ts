import { PassThrough } from 'node:stream';
import { SealiftError } from '../errors.ts';

/**
 * The private half of a snapshot: `_/details.jsonl`, one JSON object a line with a `type`, sealed like every stream.
 *
 * - `entry`    one member of a tree: `stream`, then what the source says of it
 * - `server`   what a source found out about the server that it dumped
 * - `stream`   after the last line about it: `name`, `bytes`, `sha256` of the plaintext, `segments` (plaintext lengths)
 * - `problem`  `source`, `code`, `text`
 *
 * Facts that differ in every run come last, so that the bytes before them are the same and are not stored again.
 */
export interface StreamDetail {
  readonly type: 'stream';
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly segments: readonly number[];
}

export interface DetailsRecord {
  readonly type: string;
  readonly [key: string]: unknown;
}

const roomBytes = 2 ** 20;
/** Characters of lines that go on together: a piece that goes through all the steps of a stream costs more than a line. */
const togetherLength = 64 * 1024;

export class DetailsWriter {
  readonly #stream = new PassThrough({ highWaterMark: roomBytes });
  #lines = '';

  /** The bytes, to be stored while lines are still being added. */
  get body(): AsyncIterable<Uint8Array> {
    return this.#stream;
  }

  /** Adds a line; resolves when there is room for the next. */
  async add(record: DetailsRecord): Promise<void> {
    this.#lines += `${JSON.stringify(record)}\n`;
    if (this.#lines.length < togetherLength) return;
    const lines = this.#lines;
    this.#lines = '';
    if (this.#stream.destroyed || this.#stream.write(lines)) return;
    await this.#drained();
  }

  end(): void {
    this.#stream.end(this.#lines);
    this.#lines = '';
  }

  /** Gives up: whoever waits for room goes on, whoever reads gets the error. */
  abort(error: Error): void {
    this.#stream.on('error', () => undefined);
    this.#stream.destroy(error);
  }

  #drained(): Promise<void> {
    const stream = this.#stream;
    const { promise, resolve } = Promise.withResolvers<void>();
    const go = (): void => {
      stream.off('drain', go).off('close', go);
      resolve();
    };
    stream.on('drain', go).on('close', go);
    return promise;
  }
}

/** That of a stream names the length of each of its segments: an index that is as large as any can be has fewer. */
const longestLine = 2 ** 26;

/**
 * The records of the details, line by line. Lines of a later version that have no `type` are passed over. Throws
 * `verify-failed` for what no version of ours has written.
 */
export async function* readDetails(body: AsyncIterable<Uint8Array>): AsyncGenerator<DetailsRecord> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > longestLine) throw wrong('a line that is longer than any can be');
    for (const line of lines) {
      const record: unknown = parse(line);
      if (!isRecord(record)) continue;
      if (record.type === 'stream' && !isStreamDetail(record))
        throw wrong('a description of a stream that is none');
      yield record;
    }
  }
  if (rest !== '') throw wrong('a line that does not end');
}

const wrong = (what: string, cause?: unknown): SealiftError =>
  new SealiftError('verify-failed', `the details hold ${what}`, { cause });

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw wrong('a line that is not JSON', error);
  }
}

const isRecord = (value: unknown): value is DetailsRecord =>
  typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0;

function isStreamDetail(record: DetailsRecord): boolean {
  const { name, bytes, sha256, segments } = record as Partial<StreamDetail>;
  const isText = typeof name === 'string' && typeof sha256 === 'string';
  return isText && isCount(bytes) && Array.isArray(segments) && segments.every(isCount);
}
