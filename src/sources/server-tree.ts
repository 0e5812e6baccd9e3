import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { FilesConfig } from '../config/config.ts';
import { systemCode } from '../errors.ts';
import { literalPattern } from './files-exclude.ts';
import { filesSource } from './files.ts';
import { writtenBelow } from './processes.ts';
import type { Source, SourceContext } from './source.ts';
import { isWithin } from './within.ts';

/** The folders of a server that keeps live data beside its files. */
export interface ServerTree {
  readonly name: string;
  /** Of the stream. */
  readonly file: string;
  /** What its symlinks lead to is saved with it: certificates, a shared file of settings. */
  readonly config: string;
  readonly data: string;
  /** Globs below `data` for what is saved in another way, or not worth it. */
  readonly exclude: readonly string[];
  /** SQLite databases that are saved in another way. */
  readonly sqlitePaths: readonly string[];
}

/**
 * Configuration and files of a server as one tree, each file as it was read. A SQLite database that a program may have
 * in use is never copied, as the copy may be torn: what is right in `data`, and what is open for writing below it. One
 * that is not saved in another way either is a problem.
 */
export function serverTree(tree: ServerTree): Source {
  return {
    name: tree.name,
    kind: 'files',
    async streams(context) {
      const data = await real(tree.data);
      const saved = await Promise.all(tree.sqlitePaths.map(real));
      const live = await databasesIn(data, context);
      for (const path of live.filter((path) => !saved.includes(path)))
        context.problem('unreadable', unnamedDatabase(path));
      const asWalked = (path: string) =>
        isWithin(path, data) ? join(tree.data, path.slice(data.length)) : path;
      const led = await ledOutOf(tree, context.signal);
      const files: FilesConfig = {
        name: tree.name,
        kind: 'files',
        paths: [tree.config, tree.data, ...led.paths],
        links: led.links,
        exclude: [
          ...tree.exclude.map((glob) => `${literalPattern(tree.data)}/${glob}`),
          ...[...live, ...saved].flatMap((path) =>
            ['', '-wal', '-shm', '-journal'].map((end) => literalPattern(asWalked(path) + end)),
          ),
        ],
        oneFileSystem: false,
      };
      return filesSource(files, tree.file).streams(context);
    },
  };
}

const unnamedDatabase = (path: string): string =>
  `"${path}" is an SQLite database that is saved in no other way, and was left out: a copy of one in use may be ` +
  'torn. Name it under `database`, or in a source of its own (kind: sqlite)';

/** SQLite databases that may be in use, by their first bytes; of links that which they lead to. Real paths. */
async function databasesIn(folder: string, { signal }: SourceContext): Promise<string[]> {
  const found: string[] = [];
  const top = (await entriesOf(folder)).map(({ name }) => real(join(folder, name)));
  for (const path of new Set([...(await Promise.all(top)), ...(await writtenBelow(folder))])) {
    signal.throwIfAborted();
    if (await begins(path, 'SQLite format 3\0')) found.push(path);
  }
  return found;
}

const real = (path: string): Promise<string> => realpath(path).catch(() => path);

async function begins(path: string, magic: string): Promise<boolean> {
  // The folder is in the server's hands, which may put something else there meanwhile.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const info = await lstat(path).catch(() => undefined);
  const file = info?.isFile() ? await open(path, flags).catch(() => undefined) : undefined;
  if (file === undefined) return false; // the tree says what cannot be read
  await using _ = file;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0);
  return bytesRead === magic.length && buffer.toString('latin1') === magic;
}

/**
 * What the symlinks of the configuration need to lead where they do, if it is not in the tree: the links on the way, and
 * the files and folders, which may have more links.
 */
async function ledOutOf(
  { config, data }: ServerTree,
  signal: AbortSignal,
): Promise<{ links: string[]; paths: string[] }> {
  const saved = [config, data, await real(config), await real(data)];
  const links = new Set<string>();
  const paths: string[] = [];
  const folders = [config];
  for (const folder of folders) {
    for (const entry of await entriesOf(folder, { recursive: true })) {
      signal.throwIfAborted();
      if (!entry.isSymbolicLink()) continue;
      const way = await wayOf(join(entry.parentPath, entry.name)).catch(() => undefined);
      if (way === undefined) continue;
      for (const link of way.links)
        // What the tree itself is reached through cannot be a link in it.
        if (!saved.some((path) => isWithin(link, path) || isWithin(path, link))) links.add(link);
      if ([...saved, ...paths].some((known) => isWithin(way.end, known))) continue;
      const info = await stat(way.end);
      if (info.isFile() || info.isDirectory()) paths.push(way.end);
      if (info.isDirectory()) folders.push(way.end);
    }
  }
  return { links: [...links], paths };
}

/** Linux follows no more in one path. */
const linksLimit = 40;

/** The links that a link leads through, and its end. Throws if it leads nowhere. */
async function wayOf(link: string): Promise<{ links: string[]; end: string }> {
  const end = await realpath(link);
  const links: string[] = [];
  let at = await realpath(dirname(link));
  const names = [basename(link)];
  while (names.length > 0 && links.length <= linksLimit) {
    const next = resolve(at, names.shift()!);
    const target = await readlink(next).catch(() => undefined);
    if (target === undefined) at = next;
    else {
      links.push(next);
      if (target.startsWith('/')) at = '/';
      names.unshift(...target.split('/'));
    }
  }
  return { links: links.slice(1), end };
}

/** Nothing, of a folder that is not there or no folder: the tree says so. */
async function entriesOf(folder: string, { recursive = false } = {}) {
  return readdir(folder, { withFileTypes: true, recursive }).catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) return [];
    throw error;
  });
}
