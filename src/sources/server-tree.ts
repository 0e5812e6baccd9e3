import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FilesConfig, SqliteConfig } from '../config/config.ts';
import { systemCode } from '../errors.ts';
import { literalPattern } from './files-exclude.ts';
import { filesSource } from './files.ts';
import type { Source, SourceContext } from './source.ts';

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
  readonly databases: readonly SqliteConfig[];
}

/**
 * Configuration and files of a server as one tree, each file as it was read. A SQLite database in `data` is never
 * copied, as a copy of a live one may be torn; one that is not saved in another way either is a problem.
 */
export function serverTree(tree: ServerTree): Source {
  return {
    name: tree.name,
    kind: 'files',
    async streams(context) {
      const saved = tree.databases.map(({ path }) => path);
      const live = [...(await sqliteFilesIn(tree.data, context)), ...saved];
      for (const path of live.filter((path) => !saved.includes(path)))
        context.problem('unreadable', unnamedDatabase(path));
      const files: FilesConfig = {
        name: tree.name,
        kind: 'files',
        paths: [tree.config, tree.data, ...(await ledOutOf(tree, context.signal))],
        exclude: [
          ...tree.exclude.map((glob) => `${literalPattern(tree.data)}/${glob}`),
          ...live.flatMap((path) =>
            ['', '-wal', '-shm', '-journal'].map((end) => literalPattern(path + end)),
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
  'torn. Name it under `database` (kind: sqlite), or in a source of its own';

/** The files right in a folder that are SQLite databases, by their first bytes. */
async function sqliteFilesIn(folder: string, { signal }: SourceContext): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await entriesOf(folder)) {
    signal.throwIfAborted();
    const path = join(folder, entry.name);
    if (entry.isFile() && (await begins(path, 'SQLite format 3\0'))) found.push(path);
  }
  return found;
}

async function begins(path: string, magic: string): Promise<boolean> {
  // The folder is in the server's hands, which may put something else there meanwhile.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch(() => undefined);
  if (file === undefined) return false; // the tree says what cannot be read
  await using _ = file;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0);
  return bytesRead === magic.length && buffer.toString('latin1') === magic;
}

/** Where the symlinks of the configuration lead, if not into the tree: files, and folders, which may have more links. */
async function ledOutOf({ config, data }: ServerTree, signal: AbortSignal): Promise<string[]> {
  const saved = await Promise.all([config, data].map((path) => realpath(path).catch(() => path)));
  const found: string[] = [];
  const folders = [config];
  for (const folder of folders) {
    for (const entry of await entriesOf(folder, { recursive: true })) {
      signal.throwIfAborted();
      if (!entry.isSymbolicLink()) continue;
      const target = await realpath(join(entry.parentPath, entry.name)).catch(() => undefined);
      if (target === undefined || [...saved, ...found].some((known) => isWithin(target, known))) continue;
      const info = await stat(target);
      if (info.isFile() || info.isDirectory()) found.push(target);
      if (info.isDirectory()) folders.push(target);
    }
  }
  return found;
}

const isWithin = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);

/** Nothing, of a folder that is not there or no folder: the tree says so. */
async function entriesOf(folder: string, { recursive = false } = {}) {
  return readdir(folder, { withFileTypes: true, recursive }).catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) return [];
    throw error;
  });
}
