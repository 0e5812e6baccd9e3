import { type BigIntStats, closeSync, existsSync, readFileSync } from 'node:fs';
import type { ByteName } from './byte-name.ts';
import type { BlockWriter } from './files-blocks.ts';
import { excluder } from './files-exclude.ts';
import { type OpenFile, isSmall, openFile, readPieces, readTarget, readWhole } from './files-read.ts';
import { nameInTar, recordOf } from './files-record.ts';
import type { TarWriter } from './files-tar.ts';
import { type Location, type Trouble, walk } from './files-walk.ts';
import type { TarEntry } from './tar-records.ts';

export interface FilesTask {
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  readonly oneFileSystem: boolean;
}

const nothing = Buffer.alloc(0);

type Owners = Pick<TarEntry, 'mode' | 'uid' | 'gid' | 'uname' | 'gname' | 'mtimeNs'>;

/** Walks the paths and writes what is there, with a record of each entry and each problem. */
export async function writeTree(tar: TarWriter, blocks: BlockWriter, task: FilesTask): Promise<void> {
  const firstNames = new Map<string, ByteName>();
  const users = namesIn('/etc/passwd');
  const groups = namesIn('/etc/group');

  const report = (trouble: Trouble): Promise<void> =>
    blocks.record({ type: 'problem', code: trouble.code, text: trouble.text });

  for (const found of walk({ ...task, excluded: excluder(task.exclude) })) {
    if (found.kind === 'problem') await report(found);
    else if (found.kind === 'file') await addFile(found);
    else if (found.kind === 'symlink') await addSymlink(found, found.stats);
    else await add(found, found.stats, { kind: 'directory', sizeBytes: 0 }, nothing);
  }

  async function addSymlink(location: Location, stats: BigIntStats): Promise<void> {
    const target = readTarget(location.path, location.at);
    if (typeof target !== 'string') return report(target);
    return add(location, stats, { kind: 'symlink', target, sizeBytes: 0 }, nothing);
  }

  async function addFile(location: Location): Promise<void> {
    const file = openFile(location.path, location.at);
    if ('kind' in file) return report(file);
    const { stats } = file;
    try {
      const inode = stats.nlink > 1n ? `${stats.dev}:${stats.ino}` : undefined;
      const first = inode === undefined ? undefined : firstNames.get(inode);
      if (first !== undefined)
        return await add(location, stats, { kind: 'link', target: first, sizeBytes: 0 }, nothing);
      const saved = await addContent(location, file);
      if (saved && inode !== undefined) firstNames.set(inode, nameInTar(location.path));
    } finally {
      closeSync(file.fd);
    }
    return undefined;
  }

  async function addContent(location: Location, file: OpenFile): Promise<boolean> {
    const kind = { kind: 'file', sizeBytes: file.sizeBytes } as const;
    if (isSmall(file)) {
      const read = readWhole(file);
      if ('kind' in read) {
        await report(read);
        return false;
      }
      await add(location, file.stats, kind, read.body);
      if (read.trouble !== undefined) await report(read.trouble);
      return true;
    }
    const troubles: Trouble[] = [];
    await add(
      location,
      file.stats,
      kind,
      readPieces(file, (trouble) => troubles.push(trouble)),
    );
    for (const trouble of troubles) await report(trouble);
    return true;
  }

  async function add(
    { path }: Location,
    stats: BigIntStats,
    what: Pick<TarEntry, 'kind' | 'target' | 'sizeBytes'>,
    body: Buffer | Iterable<Buffer>,
  ): Promise<void> {
    const entry = { ...what, name: nameInTar(path), ...owners(stats) };
    const place = await tar.add(entry, body);
    await blocks.record(recordOf(entry, place));
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
