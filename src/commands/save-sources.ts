import type { JobConfig } from '../config/config.ts';
import { messageOf, SealiftError } from '../errors.ts';
import type { Log } from '../log.ts';
import { isPartial, type Problem } from '../problems.ts';
import type { Progress } from '../progress.ts';
import type { SegmentWriter, WrittenStream } from '../segments/writer.ts';
import { DetailsWriter, type StreamDetail } from '../snapshot/details.ts';
import { formatStreamName, parseStreamName } from '../snapshot/object-key.ts';
import { openSource } from '../sources/open.ts';
import type { Source, SourceContext, SourceStream } from '../sources/source.ts';

export interface SavedStream {
  readonly name: string;
  readonly source: string;
  readonly kind: string;
  readonly status: 'complete' | 'partial';
  readonly written: WrittenStream;
}

export interface Saved {
  readonly streams: readonly SavedStream[];
  readonly problems: readonly Problem[];
  readonly details: WrittenStream;
}

export interface SaveContext {
  readonly signal: AbortSignal;
  readonly log: Log;
  readonly progress: Progress;
  temporary(): Promise<string>;
}

/** Many files can have the same trouble; so many of a kind are named, the rest is counted. */
const namedProblems = 100;

/**
 * Saves every stream of a job's sources, one after the other, and the details that describe them. A stream that fails
 * is left out and its siblings stay (rule R1). Throws `nothing-saved` when none succeeded.
 */
export async function saveSources(
  job: JobConfig,
  writer: SegmentWriter,
  context: SaveContext,
): Promise<Saved> {
  const details = new DetailsWriter();
  const detailsWritten = writer.write(details.body);
  detailsWritten.catch(() => undefined); // awaited below, on every path
  const streams: SavedStream[] = [];
  const problems: Problem[] = [];
  try {
    for (const config of job.sources) {
      const saved = await saveSource(openSource(config), writer, details, context);
      streams.push(...saved.streams);
      problems.push(...saved.problems);
    }
    if (streams.length === 0) throw nothingSaved(job, problems);
    for (const problem of problems) await details.add({ type: 'problem', ...problem });
    details.end();
  } catch (error) {
    details.abort(error instanceof Error ? error : new Error(String(error)));
    await Promise.allSettled([detailsWritten]);
    throw error;
  }
  return { streams, problems, details: await detailsWritten };
}

async function saveSource(
  source: Source,
  writer: SegmentWriter,
  details: DetailsWriter,
  context: SaveContext,
): Promise<{ streams: SavedStream[]; problems: Problem[] }> {
  const { signal, log } = context;
  const notes = new ProblemList(source.name, log);
  const streams: SavedStream[] = [];
  const sourceContext = (extra: object): SourceContext => ({
    signal,
    problem: (code, text) => notes.add(code, text),
    detail: (record) => details.add({ ...record, ...extra }),
    temporary: context.temporary,
  });

  const found = await source.streams(sourceContext({ source: source.name })).catch((error: unknown) => {
    signal.throwIfAborted();
    log.error({ source: source.name }, `source ${source.name} failed: ${sayingWhat(error)}`);
    log.debug({ err: error }, 'the cause');
    notes.add('source-failed', sayingWhat(error));
    return [];
  });
  for (const stream of found) {
    const name = formatStreamName(source.name, stream.file);
    context.progress.label(name);
    const before = notes.partialCount;
    try {
      if (parseStreamName(name) === undefined)
        throw new SealiftError('failed', 'its name is too long for the store', {
          hint: 'Give it a shorter one.',
        });
      const written = await saveStream(stream, writer, sourceContext({ stream: name }));
      await details.add(describe(name, written));
      const status = notes.partialCount > before ? 'partial' : 'complete';
      streams.push({ name, source: source.name, kind: source.kind, status, written });
    } catch (error) {
      signal.throwIfAborted();
      log.error({ stream: name }, `${name} failed and is not in the snapshot: ${sayingWhat(error)}`);
      log.debug({ err: error }, 'the cause');
      notes.add('stream-failed', `${name}: ${sayingWhat(error)}`);
    }
  }
  return { streams, problems: notes.all() };
}

/** The sentence of an error, and what to do about it. */
const sayingWhat = (error: unknown): string =>
  error instanceof SealiftError && error.hint !== undefined
    ? `${error.message} (${error.hint})`
    : messageOf(error);

async function saveStream(
  stream: SourceStream,
  writer: SegmentWriter,
  context: SourceContext,
): Promise<WrittenStream> {
  const written = await writer.write(stream.open(context));
  context.signal.throwIfAborted();
  if (written.bytes === 0) throw new SealiftError('source-empty', 'it ended without a single byte');
  return written;
}

const describe = (name: string, { bytes, sha256, segments }: WrittenStream) =>
  ({
    type: 'stream',
    name,
    bytes,
    sha256,
    segments: segments.map((segment) => segment.bytes),
  }) satisfies StreamDetail;

/** The problems of one source, in the order of their first mention. */
class ProblemList {
  readonly #source: string;
  readonly #log: Log;
  readonly #texts = new Map<Problem['code'], { texts: string[]; count: number }>();
  partialCount = 0;

  constructor(source: string, log: Log) {
    this.#source = source;
    this.#log = log;
  }

  add(code: Problem['code'], text: string): void {
    const known = this.#texts.get(code) ?? { texts: [], count: 0 };
    this.#texts.set(code, known);
    known.count++;
    if (isPartial({ code })) this.partialCount++;
    if (known.count > namedProblems) return;
    known.texts.push(text);
    this.#log.debug({ source: this.#source, code }, text);
  }

  all(): Problem[] {
    return [...this.#texts].flatMap(([code, { texts, count }]) => {
      const more = count - texts.length;
      const all = more > 0 ? [...texts, `and ${more} more`] : texts;
      return all.map((text) => ({ source: this.#source, code, text }));
    });
  }
}

function nothingSaved(job: JobConfig, problems: readonly Problem[]): SealiftError {
  const reasons = problems.filter(isPartial).map(({ source, text }) => `\n  ${source}: ${text}`);
  return new SealiftError(
    'nothing-saved',
    `job ${job.name} saved nothing, so there is no snapshot:${reasons.join('') || ' its sources are empty'}`,
    { hint: 'Earlier snapshots are untouched. Put the cause right and run `sealift backup` again.' },
  );
}
