import { Secret } from '../config/secrets.ts';
import { SealiftError, sentencesOf } from '../errors.ts';
import { askHidden } from '../prompt.ts';
import { loaderFor, targetForms } from '../sources/load.ts';
import type { Loaded, Loader } from '../sources/source.ts';
import { openTemporary } from '../temporary.ts';
import type { Context } from './context.ts';
import type { RestoreItem, RestoreReport } from './restore.ts';
import { failedAt } from './target-errors.ts';

/** `--into`: loads what the target takes, by its scheme (sources/load.ts): one stream, or all of one source. */
export async function restoreInto(
  context: Context,
  into: string,
  items: readonly RestoreItem[],
  { force }: { force: boolean },
): Promise<RestoreReport> {
  const loader = loaderFor(into);
  if (!loader)
    throw new SealiftError(
      'usage',
      `--into ${into.replace(/:.*/s, ':')} is nothing that can be loaded into`,
      { hint: `It takes ${targetForms.join(', ')}; all else goes through --to DIR.` },
    );
  const chosen = fitting(items, loader, into);
  const { lines, damaged = [] } = await load(context, loader, into, chosen, force).catch(
    failedAt(shown(into)),
  );
  const lost = new Set(damaged.map(({ file }) => file));
  const whole = chosen.filter((item) => !lost.has(item.file));
  return {
    restored: lines,
    skipped: [],
    damaged: damaged.map(({ error }) => sentencesOf(error)),
    bytes: whole.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** For messages: a URL without what may hold a password. */
const shown = (into: string): string =>
  into.includes('://') ? into.replace(/:\/\/.*@/s, '://').replace(/\?.*/s, '') : into;

/** The streams that such a target can take. Those of other kinds are left alone, if only one source is left then. */
function fitting(items: readonly RestoreItem[], { kind, takesSeveral }: Loader, into: string): RestoreItem[] {
  const chosen = items.filter((item) => item.kind === kind);
  const sources = new Set(chosen.map(({ source }) => source));
  if (sources.size === 1 && (takesSeveral || chosen.length === 1)) return chosen;
  const target = shown(into);
  if (chosen.length === 0)
    throw new SealiftError('usage', `nothing that is meant can go into ${target}`, {
      hint: `It takes what is of kind ${kind}; this is ${items.map((item) => `${item.name} (${item.kind})`).join(', ')}.`,
    });
  const options = chosen.map(({ name }) => `--source ${name}`);
  throw new SealiftError('usage', `it is not clear what is to go into ${target}`, {
    hint: `Choose one: ${options.join(', ')}`,
  });
}

async function load(
  { signal, environment }: Context,
  loader: Loader,
  into: string,
  items: readonly RestoreItem[],
  force: boolean,
): Promise<Loaded> {
  await using temporary = await openTemporary('restore', { oneOfSeveral: true });
  const streams = items.map((item) => ({ file: item.file, open: () => item.open() }));
  const attempt = (password: Secret | undefined) =>
    loader.load(into, streams, {
      force,
      signal,
      password,
      variable: environment.variable,
      temporary: () => temporary.folder(),
    });
  const given = loader.passwordVariable && environment.variable(loader.passwordVariable);
  try {
    return await attempt(given === undefined ? undefined : new Secret(() => given));
  } catch (error) {
    const variable = given === undefined ? loader.passwordVariable : undefined;
    if (variable === undefined || !(error instanceof SealiftError) || error.code !== 'source-denied')
      throw error;
    if (!process.stdin.isTTY || !process.stderr.isTTY) throw unasked(error, variable);
    const typed = await askHidden('Password of the database user: ', signal);
    return await attempt(new Secret(() => typed));
  }
}

function unasked(error: SealiftError, variable: string): SealiftError {
  const way = `there is no terminal to ask for a password: it may be given by ${variable}`;
  const hint = [error.hint, way].filter((part) => part !== undefined).join('; ');
  return new SealiftError(error.code, error.message, { hint, cause: error });
}
