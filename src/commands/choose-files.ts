import { SealiftError } from '../errors.ts';
import { printable } from '../output.ts';
import { DamagedSegment } from '../segments/reader.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import type { Choice } from '../snapshot/choose.ts';
import type { IndexStream } from '../snapshot/index.ts';
import type { Includer } from '../sources/files-include.ts';
import { TreeSelection } from '../sources/files-selection.ts';
import type { TreePart } from '../sources/tree-part.ts';
import type { StreamReader } from './read-streams.ts';

export interface ChosenStreams {
  readonly streams: readonly {
    readonly snapshot: Snapshot;
    readonly stream: IndexStream;
    /** What was chosen of a tree; undefined for all of a stream. */
    readonly part?: TreePart;
  }[];
  /** Patterns to which nothing answers. */
  readonly unmatched: readonly string[];
  /** Snapshots of these jobs were meant, too, and cannot be read. */
  readonly closed: readonly { readonly job: string; readonly error: SealiftError }[];
}

/**
 * Reads of each snapshot which streams are meant. With `around` one whose details are damaged does not keep the others from
 * coming back.
 */
export async function chooseFrom(
  choices: readonly Choice[],
  around: boolean,
  read: (choice: Choice) => Promise<ChosenStreams['streams']>,
): Promise<Pick<ChosenStreams, 'streams' | 'closed'>> {
  const streams: ChosenStreams['streams'][number][] = [];
  const closed: ChosenStreams['closed'][number][] = [];
  for (const choice of choices)
    try {
      for (const stream of await read(choice)) streams.push(stream);
    } catch (error) {
      if (!(error instanceof DamagedSegment) || !around) throw error;
      closed.push({ job: choice.snapshot.index.job, error });
    }
  if (streams.length === 0 && closed[0] !== undefined) throw closed[0].error;
  return { streams, closed };
}

/**
 * Finds the files that `--include` means in the sealed details of some trees: in one pass, or two where a hard link was
 * chosen and its first name was not. Throws `files-not-found` when nothing matches.
 */
export async function chooseFiles(
  reader: StreamReader,
  choices: readonly Choice[],
  included: Includer,
  around: boolean,
): Promise<ChosenStreams> {
  const chosen = await chooseFrom(choices, around, async ({ snapshot, streams }) => {
    const parts = await partsOf(reader, snapshot, streams, included.covers);
    return streams.flatMap((stream) => {
      const part = parts.get(stream.name);
      return part === undefined ? [] : [{ snapshot, stream, part }];
    });
  });
  const unmatched = included.unmatched();
  if (chosen.streams.length === 0) throw notFound(choices, unmatched);
  return { ...chosen, unmatched };
}

/** Of each of these trees what is covered, by the name of its stream; undefined if nothing is. */
export async function partsOf(
  reader: StreamReader,
  snapshot: Snapshot,
  streams: readonly IndexStream[],
  covers: (path: string) => boolean,
): Promise<Map<string, TreePart | undefined>> {
  const selections = new Map(streams.map(({ name }) => [name, new TreeSelection(covers)]));
  for await (const { type, stream, ...record } of reader.details(snapshot))
    if (type === 'entry') selections.get(stream as string)?.add(record);
  const lacking = new Map([...selections].filter(([, { lacks }]) => lacks));
  if (lacking.size > 0)
    for await (const { type, stream, ...record } of reader.details(snapshot))
      if (type === 'entry') lacking.get(stream as string)?.complete(record);
  return new Map([...selections].map(([name, selection]) => [name, selection.part()]));
}

function notFound(choices: readonly Choice[], patterns: readonly string[]): SealiftError {
  const searched = choices.map(
    ({ snapshot, streams }) => `${streams.map(({ name }) => name).join(', ')} of ${snapshot.index.snapshot}`,
  );
  const [first] = choices;
  return new SealiftError(
    'files-not-found',
    `nothing in ${searched.join(', ')} matches --include ${patterns.map((pattern) => printable(pattern)).join(', ')}`,
    {
      hint: `\`sealift show ${first?.snapshot.index.snapshot} --files\` lists what there is. A pattern with a leading slash is matched against the whole path.`,
    },
  );
}
