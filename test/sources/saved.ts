import { SealiftError } from '../../src/errors.ts';
import type { LoadStream, Source, SourceContext, SourceStream } from '../../src/sources/source.ts';
import { collect, inPieces } from '../support/bytes.ts';

/** A stream that was saved, to be loaded again. */
export interface Saved extends LoadStream {
  readonly bytes: Buffer;
}

export const asSaved = (file: string, bytes: Buffer, chunkBytes = 100_000): Saved => ({
  file,
  bytes,
  open: () => inPieces(bytes, chunkBytes),
});

/** One that the store does not have to its end. */
export const damagedAt = (bytes: number, { file, bytes: whole }: Saved): Saved => ({
  ...asSaved(file, whole),
  async *open() {
    yield* inPieces(whole.subarray(0, bytes), 100_000);
    throw new SealiftError('verify-failed', `${file} cannot be read whole`);
  },
});

export const saveStream = async ({ file, open }: SourceStream, context: SourceContext): Promise<Saved> =>
  asSaved(file, await collect(open(context)));

export async function saveAll(source: Source, context: SourceContext): Promise<Saved[]> {
  const saved: Saved[] = [];
  for (const stream of await source.streams(context)) saved.push(await saveStream(stream, context));
  return saved;
}
