import { basename } from 'node:path';
import type { Config, SourceConfig } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { findProgram, searchPath } from '../process.ts';
import { attributesBelow } from '../sources/system-attributes.ts';
import type { Checkup } from './doctor-checkup.ts';

/** A large tree may take longer; then nothing is said of it. */
const patienceMs = 60_000;

/**
 * Warns of trees with access control lists, capabilities and the like, which no tree keeps (`sources/files.ts`): a file
 * without its list is open to its group as far as the list's mask went. Whoever saves them has a source that runs getfattr.
 */
export async function checkAttributes(
  checkup: Checkup,
  { jobs }: Config,
  signal: AbortSignal,
): Promise<void> {
  const sources = jobs.flatMap((job) => job.sources.map((config) => ({ job: job.name, config })));
  if (sources.some(({ config }) => savesAttributes(config))) return;
  if ((await findProgram('getfattr', searchPath())) === undefined) return;
  for (const { job, config } of sources) {
    const found = await filesWithAttributes(config, signal);
    const [first] = found;
    if (first === undefined) continue;
    checkup.add(
      'source',
      `${job}/${config.name}`,
      'warning',
      `${countOf(found.length, 'file has', 'files have')} access control lists or other attributes, which are not saved: ${first}${found.length > 1 ? ' is the first' : ''}`,
      'docs/recipes.md, "Access control lists and capabilities", shows how to save them',
    );
  }
}

const savesAttributes = (config: SourceConfig): boolean =>
  config.kind === 'command' &&
  (config.shell?.includes('getfattr') === true || basename(config.argv?.[0] ?? '') === 'getfattr');

async function filesWithAttributes(config: SourceConfig, signal: AbortSignal): Promise<string[]> {
  const paths = treesOf(config);
  if (paths.length === 0) return [];
  const exclude = config.kind === 'files' ? config.exclude : [];
  const limited = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
  try {
    const found = attributesBelow(paths, exclude, searchPath(), limited);
    return (await Array.fromAsync(found, ({ path }) => path)).toSorted();
  } catch {
    signal.throwIfAborted();
    return [];
  }
}

/** A `system` source saves the attributes of its trees itself. */
function treesOf(config: SourceConfig): readonly string[] {
  switch (config.kind) {
    case 'files':
      return config.paths;
    case 'ejabberd':
    case 'prosody':
      return [config.config, config.data];
    default:
      return [];
  }
}
