import { sentenceOf } from '../errors.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * The streams of a server that is saved as several sources: its own data, trees, a database. Each stream keeps the kind
 * of its part and is restored as such. A part that cannot say what is there is a problem, and the others stay (rule
 * R1); throws what the first one said if that was all of them.
 */
export async function streamsOfParts(
  parts: readonly Source[],
  context: SourceContext,
): Promise<SourceStream[]> {
  const streams: SourceStream[] = [];
  const failures: unknown[] = [];
  for (const part of parts) {
    try {
      const found = await part.streams(context);
      streams.push(...found.map((stream) => ({ ...stream, kind: stream.kind ?? part.kind })));
    } catch (error) {
      context.signal.throwIfAborted();
      failures.push(error);
    }
  }
  if (streams.length === 0) throw failures[0];
  for (const error of failures) context.problem('source-failed', sentenceOf(error));
  return streams;
}

/** As many at once as the part that allows the most. */
export const parallelOfParts = (parts: readonly Source[]): number =>
  Math.max(...parts.map(({ parallel }) => parallel ?? 1));
