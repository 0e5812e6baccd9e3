import { constants, type Dirent, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { FilesConfig } from '../config/config.ts';
import { systemCode } from '../errors.ts';
import { excluder, literalPattern } from './files-exclude.ts';
import { filesSource } from './files.ts';
import { writtenBelow } from './processes.ts';
import type { Source, SourceContext } from './source.ts';
import { isWithin, real } from './within.ts';

/** The folders of a server that keeps live data beside its files. */
export interface ServerTree {
  readonly name: string;
  /** Of the stream. */
  readonly file: string;
  /** What its symlinks lead to is saved with it: certificates, a shared file of settings. */
  readonly config: string;
  /** What links right in it, or in a folder right in it, lead to is saved too, if the server's user has it: uploads. */
  readonly data: string;
  /** Globs below `data` for what is saved in another way, or not worth it: by name at any depth, or right in it. */
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
      const [config, data] = await Promise.all([throughLinks(tree.config), throughLinks(tree.data)]);
      if (await isFile(config.path)) context.problem('unreadable', mainFileAlone(tree.config));
      const realData = await real(data.path);
      const excluded = tree.exclude.map((glob) => `${literalPattern(data.path)}/${glob}`);
      const led = new LedOut([config.path, data.path, await real(config.path), realData]);
      await followConfig(config.path, led, context.signal);
      const moved = await followData(data.path, excluder(excluded), led, context.signal);
      const anywhere = tree.exclude.filter((glob) => glob.startsWith('**/'));
      const excludedThere = moved.flatMap((folder) =>
        anywhere.map((glob) => `${literalPattern(folder)}/${glob}`),
      );
      const saved = await Promise.all(tree.sqlitePaths.map(real));
      const live = (
        await Promise.all([realData, ...moved].map((folder) => databasesIn(folder, context)))
      ).flat();
      for (const path of live.filter((path) => !saved.includes(path)))
        context.problem('unreadable', unnamedDatabase(path));
      const asWalked = (path: string) =>
        isWithin(path, realData) ? join(data.path, path.slice(realData.length)) : path;
      const files: FilesConfig = {
        name: tree.name,
        kind: 'files',
        paths: [config.path, data.path, ...led.paths],
        links: [...config.links, ...data.links, ...led.links],
        exclude: [
          ...excluded,
          ...excludedThere,
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

/** Where a folder is that may be named by a link, and the links on the way. */
async function throughLinks(path: string): Promise<{ path: string; links: string[] }> {
  const isLink = (await lstat(path).catch(() => undefined))?.isSymbolicLink() === true;
  const way = isLink ? await wayOf(path).catch(() => undefined) : undefined;
  return way === undefined ? { path, links: [] } : { path: way.end, links: [path, ...way.links] };
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false, // the tree says what is wrong with it
  );

const mainFileAlone = (path: string): string =>
  `\`config\` is the file "${path}", and what lies beside it (hosts, certificates) is not saved: name its folder`;

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

async function begins(path: string, magic: string): Promise<boolean> {
  // The folder is in the server's hands, which may put something else there meanwhile.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const info = await lstat(path).catch(() => undefined);
  const file = info?.isFile() ? await open(path, flags).catch(() => undefined) : undefined;
  if (file === undefined) return false; // the tree says what cannot be read
  await using _ = file;
  const head = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0).catch(() => undefined);
  return head?.bytesRead === magic.length && head.buffer.toString('latin1') === magic;
}

/**
 * What symlinks need to lead where they do, if it is not in the tree: the links on the way, and the files and folders,
 * which may have more links.
 */
class LedOut {
  readonly links = new Set<string>();
  readonly paths: string[] = [];
  readonly #saved: readonly string[];

  constructor(saved: readonly string[]) {
    this.#saved = saved;
  }

  /** Returns the folder that it leads to, if that was not known. */
  async add(link: string, isWanted: (end: Stats) => boolean = () => true): Promise<string | undefined> {
    const way = await wayOf(link).catch(() => undefined);
    const end = way && (await stat(way.end).catch(() => undefined));
    if (way === undefined || end === undefined || !isWanted(end)) return undefined;
    for (const link of way.links)
      // What the tree itself is reached through cannot be a link in it.
      if (!this.#saved.some((path) => isWithin(link, path) || isWithin(path, link))) this.links.add(link);
    if ([...this.#saved, ...this.paths].some((known) => isWithin(way.end, known))) return undefined;
    if (!end.isFile() && !end.isDirectory()) return undefined;
    this.paths.push(way.end);
    return end.isDirectory() ? way.end : undefined;
  }
}

async function followConfig(config: string, led: LedOut, signal: AbortSignal): Promise<void> {
  const folders = [config];
  for (const folder of folders) {
    for (const entry of await entriesOf(folder)) {
      signal.throwIfAborted();
      const path = pathOf(entry);
      const next = entry.isSymbolicLink() ? await led.add(path) : entry.isDirectory() ? path : undefined;
      if (next !== undefined) folders.push(next);
    }
  }
}

/**
 * Of folders that were moved to where there is more room. Only those whose owner is that of `data`: it is in the hands
 * of the server's user, who shall not lead root to what is somebody else's. Returns them.
 */
async function followData(
  data: string,
  excluded: (path: string) => boolean,
  led: LedOut,
  signal: AbortSignal,
): Promise<string[]> {
  const moved: string[] = [];
  const owner = (await stat(data).catch(() => undefined))?.uid;
  const top = await entriesOf(data);
  const folders = top.filter((entry) => entry.isDirectory()).map(pathOf);
  const below = await Promise.all(folders.map((folder) => entriesOf(folder)));
  for (const entry of [...top, ...below.flat()]) {
    signal.throwIfAborted();
    if (!entry.isSymbolicLink() || excluded(pathOf(entry))) continue;
    const folder = await led.add(pathOf(entry), (end) => end.isDirectory() && end.uid === owner);
    if (folder !== undefined) moved.push(folder);
  }
  return moved;
}

const pathOf = (entry: Dirent): string => join(entry.parentPath, entry.name);

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
async function entriesOf(folder: string) {
  return readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) return [];
    throw error;
  });
}
