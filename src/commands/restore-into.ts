import { resolve } from 'node:path';
import { Secret } from '../config/secrets.ts';
import { SealiftError } from '../errors.ts';
import { askHidden } from '../prompt.ts';
import { loadPostgres } from '../sources/postgres-restore.ts';
import { loadSqlite } from '../sources/sqlite-restore.ts';
import { openTemporary } from '../temporary.ts';
import type { Context } from './context.ts';
import type { RestoreItem, RestoreReport } from './restore.ts';
import { explainTarget } from './target-errors.ts';

/**
 * `--into`: loads a database. `postgres://user@host/db` takes one dump, without a database every dump of the source;
 * `sqlite:/path` or a path takes one SQLite database.
 */
export async function restoreInto(
  context: Context,
  into: string,
  items: readonly RestoreItem[],
  { force }: { force: boolean },
): Promise<RestoreReport> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(into)?.[1]?.toLowerCase();
  switch (scheme) {
    case 'postgres':
    case 'postgresql':
      return report(await intoPostgres(context, into, fitting(items, 'postgres', into), force));
    case 'sqlite':
    case undefined: {
      const [item, ...more] = fitting(items, 'sqlite', into);
      if (!item || more.length > 0) throw ambiguous(into, [item, ...more]);
      const path = into.replace(/^sqlite:/, '').replace(/^\/\/(?=\/)/, '');
      const target = resolve(context.environment.cwd, path);
      return report({
        ...(await loadSqlite(target, item.open(), { force, signal: context.signal }).catch(
          (error: unknown) => {
            throw explainTarget(error, target);
          },
        )),
        used: [item],
      });
    }
    default:
      throw new SealiftError('usage', `--into ${scheme}: is not a kind of database that can be loaded`, {
        hint: 'It takes postgres://user@host:port/database, sqlite:/path or a path; all else goes through --to DIR.',
      });
  }
}

interface Loaded {
  readonly lines: readonly string[];
  readonly used: readonly RestoreItem[];
}

const report = ({ lines, used }: Loaded): RestoreReport => ({
  restored: lines,
  skipped: [],
  bytes: used.reduce((sum, { bytes }) => sum + bytes, 0),
});

/** The streams that such a database can take. Those of other kinds are left alone, if only one source is left then. */
function fitting(items: readonly RestoreItem[], kind: string, into: string): RestoreItem[] {
  const chosen = items.filter((item) => item.kind === kind);
  const sources = new Set(chosen.map(({ source }) => source));
  if (sources.size === 1) return chosen;
  throw ambiguous(into, chosen.length > 0 ? chosen : items);
}

const ambiguous = (into: string, items: readonly (RestoreItem | undefined)[]): SealiftError =>
  new SealiftError('usage', `it is not clear what is to go into ${into.replace(/:\/\/.*@/s, '://')}`, {
    hint: `Choose one: ${items.flatMap((item) => (item ? [`--source ${item.name}`] : [])).join(', ')}`,
  });

async function intoPostgres(
  context: Context,
  url: string,
  items: readonly RestoreItem[],
  force: boolean,
): Promise<Loaded> {
  const { signal, environment } = context;
  await using temporary = await openTemporary(`restore ${process.pid}`);
  const streams = items.map((item) => ({
    file: item.name.slice(item.source.length + 1),
    open: () => item.open(),
  }));
  const load = (password: Secret | undefined) =>
    loadPostgres(url, streams, {
      force,
      signal,
      password,
      passFile: environment.variable('PGPASSFILE'),
      temporary: () => temporary.folder(),
    });
  const given = environment.variable('PGPASSWORD');
  try {
    return { ...(await load(given === undefined ? undefined : new Secret(() => given))), used: items };
  } catch (error) {
    const mayAsk = given === undefined && process.stdin.isTTY && process.stderr.isTTY;
    if (!mayAsk || !(error instanceof SealiftError) || error.code !== 'source-denied') throw error;
    const typed = await askHidden('Password of the database user: ', signal);
    return { ...(await load(new Secret(() => typed))), used: items };
  }
}
