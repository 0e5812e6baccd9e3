import { type BigIntStats, closeSync, existsSync, readFileSync } from 'node:fs';
import type { ByteName } from './byte-name.ts';
import { excluder } from './files-exclude.ts';
import type { TreeFeed, TreeItem } from './files-feed.ts';
import { blockBytes } from './files-memory.ts';
import { type OpenFile, isSmall, openFile, readPieces, readTarget, readWhole } from './files-read.ts';
import { nameInTar } from './files-record.ts';
import { type Found, type Trouble, walk } from './files-walk.ts';
import { inodeOf } from './inode.ts';
import type { TarEntry } from './tar-records.ts';

export interface FilesTask {
  readonly paths: readonly string[];
  readonly links: readonly string[];
  readonly exclude: readonly string[];
  readonly leftOut?: string | undefined;
  readonly oneFileSystem: boolean;
}

type Owners = Pick<TarEntry, 'mode' | 'uid' | 'gid' | 'uname' | 'gname' | 'mtimeNs'>;

/** Walks the paths and feeds what is there, and what is to be said about it. */
export async function feedTree(feed: TreeFeed, task: FilesTask): Promise<void> {
  const firstNames = new Map<string, ByteName>();
  const users = namesIn('/etc/passwd');
  const groups = namesIn('/etc/group');

  for (const found of walk({ ...task, excluded: excluder(task.exclude) })) {
    if (found.kind === 'problem') await feed.add(found);
    else if (found.kind === 'directory') await feed.add(entry(found, { kind: 'directory' }));
    else if (found.kind === 'symlink') await addSymlink(found);
    else await addFile(found);
  }

  async function addSymlink(found: Found): Promise<void> {
    const target = readTarget(found.path, found.at);
    await feed.add(typeof target === 'string' ? entry(found, { kind: 'symlink', target }) : target);
  }

  async function addFile(found: Found): Promise<void> {
    const inode = found.stats.nlink > 1n ? inodeOf(found.stats) : undefined;
    const first = inode === undefined ? undefined : firstNames.get(inode);
    if (first !== undefined) return feed.add(entry(found, { kind: 'link', target: first }));
    // Nothing is waited for between looking at a file and reading it.
    await feed.room(Math.min(Number(found.stats.size), blockBytes));
    const file = openFile(found.path, found.at);
    if ('kind' in file) return feed.add(file);
    try {
      const saved = await addContent({ ...found, stats: file.stats }, file);
      if (saved && inode === inodeOf(file.stats)) firstNames.set(inode, nameInTar(found.path));
    } finally {
      closeSync(file.fd);
    }
    return undefined;
  }

  async function addContent(found: Found, file: OpenFile): Promise<boolean> {
    const { sizeBytes } = file;
    const item = entry(found, { kind: 'file', sizeBytes });
    if (isSmall(file)) {
      const { read, trouble } = readWhole(file, await feed.room(sizeBytes));
      if (read) await feed.add(item, sizeBytes);
      if (trouble !== undefined) await feed.add(trouble);
      return read;
    }
    const troubles: Trouble[] = [];
    await feed.addPieces(
      item,
      readPieces(file, (trouble) => troubles.push(trouble)),
    );
    for (const trouble of troubles) await feed.add(trouble);
    return true;
  }

  function entry(
    { path, stats }: Found,
    what: Pick<TarEntry, 'kind' | 'target'> & { readonly sizeBytes?: number },
  ): TreeItem {
    return { kind: 'entry', entry: { sizeBytes: 0, ...what, name: nameInTar(path), ...owners(stats) } };
  }

  function owners(stats: BigIntStats): Owners {
    const [uid, gid] = [Number(stats.uid), Number(stats.gid)];
    const mode = Number(stats.mode & 0o7777n);
    return { mode, uid, gid, uname: users.get(uid), gname: groups.get(gid), mtimeNs: stats.mtimeNs };
  }
}

/** Names of the local users or groups by number. The numbers are what counts, so doing without a name is no problem. */
function namesIn(file: string): Map<number, string> {
  const names = new Map<number, string>();
  if (!existsSync(file)) return names;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [name, , id] = line.split(':');
    if (name !== undefined && id !== undefined && !names.has(Number(id))) names.set(Number(id), name);
  }
  return names;
}
