import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

/** Everything in a folder, by path: the kind, the mode, the time, and the content or where a link leads. */
export type Tree = ReadonlyMap<string, string>;

export function readTree(root: string): Tree {
  const tree = new Map<string, string>();
  const visit = (path: string): void => {
    const absolute = join(root, path);
    tree.set(path, describe(absolute));
    if (lstatSync(absolute).isDirectory())
      for (const name of readdirSync(absolute).toSorted()) visit(join(path, name));
  };
  visit('.');
  return tree;
}

function describe(path: string): string {
  const stats = lstatSync(path, { bigint: true });
  // Node.js sets times to the microsecond.
  const about = `${(stats.mode & 0o7777n).toString(8)} ${stats.mtimeNs / 1000n}`;
  if (stats.isSymbolicLink()) return `link to ${readlinkSync(path)} ${about}`;
  if (stats.isDirectory()) return `folder ${about}`;
  if (!stats.isFile()) throw new Error(`${path} is neither file, folder nor link`);
  return `file ${createHash('sha256').update(readFileSync(path)).digest('hex')} ${about}`;
}

/** Throws, naming what differs. */
export function demandSameTree(expected: Tree, found: Tree): void {
  const names = [...new Set([...expected.keys(), ...found.keys()])];
  const different = names.filter((name) => expected.get(name) !== found.get(name));
  if (different.length > 0) throw new Error(`the restored files differ: ${different.join(', ')}`);
}

/** Throws unless the two are the same, to the last detail. */
export function demandSame(expected: unknown, found: unknown, what: string): void {
  if (isDeepStrictEqual(expected, found)) return;
  throw new Error(`${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
}
