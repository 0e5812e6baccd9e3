import { SealiftError } from '../errors.ts';
import { printable } from '../output.ts';
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
  readonly closed?: readonly { readonly job: string; readonly error: SealiftError }[];
}

/**
 * Finds the files that `--include` means in the sealed details of some trees: in one pass, or two where a hard link was
 * chosen and its first name was not. Throws `files-not-found` when nothing matches.
 */
export async function chooseFiles(
  reader: StreamReader,
  choices: readonly Choice[],
  included: Includer,
): Promise<ChosenStreams> {
  const chosen: ChosenStreams['streams'][number][] = [];
  for (const { snapshot, streams } of choices) {
    const parts = await partsOf(reader, snapshot, streams, included.covers);
    for (const stream of streams) {
      const part = parts.get(stream.name);
      if (part !== undefined) chosen.push({ snapshot, stream, part });
    }
  }
  const unmatched = included.unmatched();
  if (chosen.length === 0) throw notFound(choices, unmatched);
  return { streams: chosen, unmatched };
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
