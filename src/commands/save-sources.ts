import { formatDuration } from '../clock.ts';
import { mapConcurrent } from '../concurrency.ts';
import type { JobConfig, SourceConfig } from '../config/config.ts';
import { SealiftError, sentenceOf } from '../errors.ts';
import { eachOrLeave, orLeave, refuseLeftBehind } from '../left-behind.ts';
import type { Log } from '../log.ts';
import { formatSize } from '../output.ts';
import { isPartial, type Problem } from '../problems.ts';
import type { Progress } from '../progress.ts';
import { padme } from '../segments/padding.ts';
import type { SegmentWriter, WrittenStream } from '../segments/writer.ts';
import { DetailsWriter, type StreamDetail } from '../snapshot/details.ts';
import { formatStreamName, parseStreamName } from '../snapshot/object-key.ts';
import { openSource } from '../sources/open.ts';
import type { SourceContext, SourceStream } from '../sources/source.ts';
import type { Place } from '../temporary.ts';
import { TimeLimit } from '../time-limit.ts';

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
  /** The size of each stream in the newest snapshot that has it, rounded as in the index. */
  readonly lastBytes: ReadonlyMap<string, number>;
  temporary(place?: Place): Promise<string>;
}

/** Many files can have the same trouble; so many of a kind are named, the rest is counted. */
const namedProblems = 100;

/**
 * Saves every stream of a job's sources, one source after the other, and the details that describe them. A stream that fails
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
      const saved = await saveSource(job, config, writer, details, context);
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
  job: JobConfig,
  config: SourceConfig,
  writer: SegmentWriter,
  details: DetailsWriter,
  context: SaveContext,
): Promise<{ streams: SavedStream[]; problems: Problem[] }> {
  const { log } = context;
  const source = openSource(config);
  using limit = new TimeLimit(config.timeLimitSeconds * 1000, () => tookTooLong(config));
  const signal = AbortSignal.any([context.signal, limit.signal]);
  const notes = new ProblemList(source.name, log);
  const { temporary } = context;
  const what = `source ${source.name} of job ${job.name}`;
  const atOnce: Telling = {
    problem: (code, text) => notes.add(code, text),
    detail: (record) => details.add(record),
  };

  /** Undefined if it failed, which has been said then. */
  const save = async (stream: SourceStream, telling: Telling): Promise<SavedStream | undefined> => {
    const name = formatStreamName(source.name, stream.file);
    context.progress.label(name);
    let status: SavedStream['status'] = 'complete';
    try {
      if (parseStreamName(name) === undefined)
        throw new SealiftError('failed', 'its name is longer than the 251 characters of a stream', {
          hint: 'rename it, or save it with a command source, which names its stream itself',
        });
      const body = stream.open({
        signal,
        temporary,
        detail: (record) => telling.detail({ ...record, stream: name }),
        problem: (code, text) => {
          telling.problem(code, text);
          if (isPartial({ code })) status = 'partial';
        },
      });
      signal.throwIfAborted();
      const written = await writer.write(limit.measureEach(eachOrLeave(body, what, signal)));
      signal.throwIfAborted();
      if (written.bytes === 0) throw new SealiftError('source-empty', 'it ended without a single byte');
      await telling.detail(describe(name, written));
      const shrunk = shrinkage(name, written.bytes, context.lastBytes.get(name));
      if (shrunk !== undefined) {
        log.warn({ stream: name }, shrunk);
        telling.problem('shrank', shrunk);
      }
      return { name, source: source.name, kind: stream.kind ?? source.kind, status, written };
    } catch (error) {
      context.signal.throwIfAborted();
      log.error({ stream: name }, `${name} failed and is not in the snapshot: ${sentenceOf(error)}`);
      log.debug({ err: error }, 'the cause');
      telling.problem('stream-failed', `${name}: ${sentenceOf(error)}`);
      return undefined;
    }
  };

  const detail: SourceContext['detail'] = (record) => details.add({ ...record, source: source.name });
  const found = await limit
    .measure(() => {
      refuseLeftBehind(what);
      return orLeave(source.streams({ signal, temporary, detail, problem: atOnce.problem }), what, signal);
    })
    .catch((error: unknown) => {
      context.signal.throwIfAborted();
      log.debug({ err: error }, 'the cause');
      notes.add('source-failed', sentenceOf(error));
      return [];
    });
  const { parallel = 1 } = source;
  const notebooks = found.map(() => new Notebook());
  const reading = readInTurn(notebooks, atOnce);
  reading.catch(() => undefined); // awaited below, unless a stream ends it all
  const saved = await mapConcurrent(found.entries(), parallel, async ([at, stream]) => {
    using notebook = notebooks[at]!;
    return await save(stream, notebook);
  });
  await reading;
  const streams = saved.flatMap((stream) => stream ?? []);
  return { streams, problems: notes.all() };
}

/** What can be said of a stream while it is saved. */
type Telling = Pick<SourceContext, 'problem' | 'detail'>;

/**
 * Of several streams that are saved side by side, keeps what is said of one until its turn has come, so that equal runs
 * have equal details; then passes it on, for a tree says more than memory holds.
 */
class Notebook implements Telling, Disposable {
  readonly #notes: ((telling: Telling) => void | Promise<void>)[] = [];
  readonly #ended = Promise.withResolvers<void>();
  #reader: Telling | undefined;

  problem(...note: Parameters<Telling['problem']>): void {
    if (this.#reader === undefined) this.#notes.push((telling) => telling.problem(...note));
    else this.#reader.problem(...note);
  }

  async detail(record: Parameters<Telling['detail']>[0]): Promise<void> {
    if (this.#reader !== undefined) return this.#reader.detail(record);
    this.#notes.push((telling) => telling.detail(record));
  }

  /** Returns when the stream has ended. */
  async readTo(telling: Telling): Promise<void> {
    for (const note of this.#notes) await note(telling); // with those that are added meanwhile
    this.#notes.length = 0;
    this.#reader = telling;
    await this.#ended.promise;
  }

  [Symbol.dispose](): void {
    this.#ended.resolve();
  }
}

async function readInTurn(notebooks: readonly Notebook[], telling: Telling): Promise<void> {
  for (const notebook of notebooks) await notebook.readTo(telling);
}

const tookTooLong = ({ name, timeLimitSeconds }: SourceConfig): SealiftError =>
  new SealiftError(
    'source-timeout',
    `source ${name} took longer than its timeLimit of ${formatDuration(timeLimitSeconds)}`,
    { hint: 'see what it waits for, or set a longer timeLimit for this source' },
  );

/** Both sizes are rounded, by a few percent at most. A dump that lost half of its data may well be a mistake. */
function shrinkage(name: string, bytes: number, lastBytes: number | undefined): string | undefined {
  if (lastBytes === undefined || padme(bytes) * 2 >= lastBytes) return undefined;
  return `${name} has shrunk to ${formatSize(bytes)}; in the last snapshot it had ${formatSize(lastBytes)}. Is all of it there?`;
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

  constructor(source: string, log: Log) {
    this.#source = source;
    this.#log = log;
  }

  add(code: Problem['code'], text: string): void {
    const known = this.#texts.get(code) ?? { texts: [], count: 0 };
    this.#texts.set(code, known);
    known.count++;
    if (known.count > namedProblems) return;
    known.texts.push(text);
    // What is missing is told in the log too: of a scheduled run nobody sees the summary. A stream that failed has been
    // named there at that moment.
    const how = code === 'source-failed' ? 'failed' : 'is not whole';
    if (isPartial({ code }) && code !== 'stream-failed')
      this.#log.error({ source: this.#source }, `source ${this.#source} ${how}: ${text}`);
    else this.#log.debug({ source: this.#source, code }, text);
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
