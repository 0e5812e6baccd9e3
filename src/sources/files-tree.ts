import { type BigIntStats, closeSync, existsSync, readFileSync } from 'node:fs';
import type { ByteName } from './byte-name.ts';
import type { BlockWriter } from './files-blocks.ts';
import { excluder } from './files-exclude.ts';
import { type OpenFile, isSmall, openFile, readPieces, readTarget, readWhole } from './files-read.ts';
import { nameInTar, recordOf } from './files-record.ts';
import type { TarWriter } from './files-tar.ts';
import { type Found, type Trouble, walk } from './files-walk.ts';
import type { TarEntry } from './tar-records.ts';

export interface FilesTask {
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  readonly oneFileSystem: boolean;
}

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
    else if (found.kind === 'directory')
      await add(found, { kind: 'directory', sizeBytes: 0 }, Buffer.alloc(0));
    else if (found.kind === 'symlink') await addSymlink(found);
    else await addFile(found);
  }

  async function addSymlink(found: Found): Promise<void> {
    const target = readTarget(found.path, found.at);
    if (typeof target !== 'string') return report(target);
    return add(found, { kind: 'symlink', target, sizeBytes: 0 }, Buffer.alloc(0));
  }

  async function addFile(found: Found): Promise<void> {
    const inode = found.stats.nlink > 1n ? `${found.stats.dev}:${found.stats.ino}` : undefined;
    const first = inode === undefined ? undefined : firstNames.get(inode);
    if (first !== undefined)
      return add(found, { kind: 'link', target: first, sizeBytes: 0 }, Buffer.alloc(0));
    const file = openFile(found.path, found.at);
    if ('kind' in file) return report(file);
    try {
      const saved = await addContent({ ...found, stats: file.stats }, file);
      if (saved && inode === `${file.stats.dev}:${file.stats.ino}`)
        firstNames.set(inode, nameInTar(found.path));
    } finally {
      closeSync(file.fd);
    }
    return undefined;
  }

  async function addContent(found: Found, file: OpenFile): Promise<boolean> {
    const kind = { kind: 'file', sizeBytes: file.sizeBytes } as const;
    if (isSmall(file)) {
      const read = readWhole(file);
      if ('kind' in read) {
        await report(read);
        return false;
      }
      await add(found, kind, read.body);
      if (read.trouble !== undefined) await report(read.trouble);
      return true;
    }
    const troubles: Trouble[] = [];
    await add(
      found,
      kind,
      readPieces(file, (trouble) => troubles.push(trouble)),
    );
    for (const trouble of troubles) await report(trouble);
    return true;
  }

  async function add(
    found: Found,
    what: Pick<TarEntry, 'kind' | 'target' | 'sizeBytes'>,
    body: Buffer | Iterable<Buffer>,
  ): Promise<void> {
    const entry = { ...what, name: nameInTar(found.path), ...owners(found.stats) };
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
