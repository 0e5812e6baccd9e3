import { type BigIntStats, closeSync, fstatSync, lstatSync, readdirSync } from 'node:fs';
import { messageOf, systemCode } from '../errors.ts';
import type { ProblemCode } from '../problems.ts';
import { type ByteName, bytesOf, isText, systemPath, textOf } from './byte-name.ts';
import {
  closeLevel,
  closeOuter,
  type FolderHandle,
  inside,
  mountAt,
  openFolder,
  type OpenLevel,
} from './folder-handle.ts';
import { inodeOf } from './inode.ts';

export interface WalkPlan {
  /** Absolute. */
  readonly paths: readonly string[];
  /** Symlinks that are wanted as such. */
  readonly links?: readonly string[];
  readonly oneFileSystem: boolean;
  readonly excluded: (path: string) => boolean;
  /** A folder (inode.ts) that is passed over under whatever name, as by a bind mount. */
  readonly leftOut?: string | undefined;
}

export interface Found {
  readonly kind: 'file' | 'directory' | 'symlink';
  /** Absolute. */
  readonly path: ByteName;
  /** For system calls, only until the walk goes on. */
  readonly at: ByteName;
  readonly stats: BigIntStats;
}

export interface Trouble {
  readonly kind: 'problem';
  readonly code: ProblemCode;
  readonly text: string;
}

/**
 * Bytes, four times what a program can name at once. Every entry bears its whole path: of folders in folders, which any user
 * can make, some thousands would take all memory here, and headers in the tar that nobody reads.
 */
const longestPath = 16 * 1024;

interface Level extends OpenLevel {
  readonly path: ByteName;
  readonly inode: string;
  readonly device: bigint;
  readonly names: readonly ByteName[];
  next: number;
}

/**
 * Everything below the paths, a folder before what is in it, the names of each folder in byte order; each file once,
 * also when one path lies within another. Symlinks are not followed, neither are configured paths that are symlinks.
 * `exclude`, `leftOut` and `oneFileSystem` bind what lies below a configured path, never such a path itself.
 */
export function* walk(plan: WalkPlan): Generator<Found | Trouble> {
  const asked = new Set(plan.paths.map(bytesOf));
  const roots = [...asked, ...(plan.links ?? []).map(bytesOf)].toSorted();
  const waiting = new Set(roots);
  for (const root of roots) {
    if (waiting.has(root)) yield* walkFrom(root, waiting, asked, plan);
  }
}

function* walkFrom(
  root: ByteName,
  waiting: Set<ByteName>,
  asked: ReadonlySet<ByteName>,
  plan: WalkPlan,
): Generator<Found | Trouble> {
  const levels: Level[] = [];
  try {
    waiting.delete(root);
    const first = yield* visit(root, root, {}, asked.has(root));
    if (first !== undefined) levels.push(first);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      if (level.folder === undefined) {
        yield* reopen(levels);
        continue;
      }
      const name = level.names[level.next];
      level.next += 1;
      if (name === undefined) {
        closeLevel(level);
        levels.pop();
        continue;
      }
      const path = level.path === '/' ? `/${name}` : `${level.path}/${name}`;
      const isRoot = waiting.delete(path);
      if (!isRoot && plan.excluded(textOf(path))) continue;
      if (!isText(name))
        yield problem(
          'name-not-utf8',
          path,
          'has a name that is not UTF-8; the exact bytes are saved beside it',
        );
      const bounds: Bounds = isRoot
        ? {}
        : { device: plan.oneFileSystem ? level.device : undefined, leftOut: plan.leftOut };
      const below = yield* visit(path, inside(level.folder, name), bounds, asked.has(path));
      if (below === undefined) continue;
      levels.push(below);
      closeOuter(levels);
    }
  } finally {
    for (const level of levels) closeLevel(level);
  }
}

/** By names from the outermost on, since ".." of a folder that was moved leads elsewhere. What is not there any more goes. */
function* reopen(levels: Level[]): Generator<Trouble> {
  let above: FolderHandle | undefined;
  for (const [index, level] of levels.entries()) {
    const { path, inode } = level;
    let error: unknown;
    try {
      const at = above === undefined ? path : inside(above, path.slice(path.lastIndexOf('/') + 1));
      level.folder = openFolder(at);
    } catch (thrown) {
      error = thrown;
    }
    if (level.folder === undefined || inodeOf(fstatSync(level.folder.fd, { bigint: true })) !== inode) {
      closeLevel(level);
      for (const { path: lost, names, next } of levels.splice(index))
        if (next < names.length) yield error === undefined ? becameOther(lost) : failure(lost, error);
      return;
    }
    above = level.folder;
    closeOuter(levels, index + 1);
  }
}

/** Which folders are gone into: those on `device`, where that is given. */
interface Bounds {
  readonly device?: bigint | undefined;
  readonly leftOut?: string | undefined;
}

/** Yields what is there and opens it if it is a folder to go into. */
function* visit(
  path: ByteName,
  at: ByteName,
  { device, leftOut }: Bounds,
  isAsked: boolean,
): Generator<Found | Trouble, Level | undefined> {
  let stats: BigIntStats;
  try {
    stats = lstatSync(systemPath(at), { bigint: true });
  } catch (error) {
    // Users mount what root may not look at (FUSE), and servers of mounts go away.
    if (device !== undefined && isMount(at))
      yield problem('special-file', path, 'is a mount that cannot be looked at, and was left out');
    // A configured path that is not there is data that was asked for.
    else if (isAsked) yield problem('unreadable', path, `cannot be read: ${messageOf(error)}`);
    else yield failure(path, error);
    return undefined;
  }
  if (stats.isDirectory()) {
    if (leftOut !== undefined && inodeOf(stats) === leftOut) return undefined;
    return yield* enter(path, at, device, stats);
  }
  if (stats.isFile()) yield { kind: 'file', path, at, stats };
  else if (stats.isSymbolicLink()) {
    if (isAsked) yield problem('unreadable', path, onlyTheLink);
    yield { kind: 'symlink', path, at, stats };
  } else yield problem('special-file', path, `is ${kindOf(stats)} and was left out`);
  return undefined;
}

const isMount = (at: ByteName): boolean => {
  const [mount, around] = [mountAt(at), mountAt(`${at.slice(0, at.lastIndexOf('/'))}/.`)];
  return mount !== undefined && around !== undefined && mount !== around;
};

function* enter(
  path: ByteName,
  at: ByteName,
  device: bigint | undefined,
  before: BigIntStats,
): Generator<Found | Trouble, Level | undefined> {
  const elsewhere = (stats: BigIntStats): boolean => device !== undefined && stats.dev !== device;
  // Not even opened, for that would mount an automount.
  if (elsewhere(before)) {
    yield { kind: 'directory', path, at, stats: before };
    return undefined;
  }
  let folder: FolderHandle | undefined;
  try {
    folder = openFolder(at);
    const stats = fstatSync(folder.fd, { bigint: true });
    yield { kind: 'directory', path, at: folder.at, stats };
    const names = elsewhere(stats)
      ? []
      : readdirSync(systemPath(folder.at), { encoding: 'latin1' }).toSorted();
    if (path.length > longestPath && names.splice(0).length > 0) yield tooDeep(path);
    const level: Level = { folder, path, inode: inodeOf(stats), device: stats.dev, names, next: 0 };
    folder = undefined;
    return level;
  } catch (error) {
    if (folder === undefined && !isGone(error)) yield { kind: 'directory', path, at, stats: before };
    yield failure(path, error);
    return undefined;
  } finally {
    if (folder !== undefined) closeSync(folder.fd);
  }
}

const tooDeep = (path: ByteName): Trouble => ({
  kind: 'problem',
  code: 'unreadable',
  text: `"${textOf(path.slice(0, 100))}..." goes down to a path of ${path.length} bytes, and what lies there is not saved: ${longestPath} are the limit`,
});

/** Of a configured path. */
export const onlyTheLink = 'is a symlink: only the link is saved. Name what it points to as well';

const isGone = (error: unknown): boolean => ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(systemCode(error) ?? '');

/** What an error on a file or folder means for the backup. */
export function failure(path: ByteName, error: unknown): Trouble {
  const code = systemCode(error);
  if (code === 'ENOENT') return problem('file-vanished', path, 'vanished before it was read');
  if (isGone(error)) return becameOther(path);
  return problem('unreadable', path, `cannot be read: ${code ?? messageOf(error)}`);
}

export const becameOther = (path: ByteName): Trouble =>
  problem('file-vanished', path, 'became something else before it was read');

export const problem = (code: ProblemCode, path: ByteName, text: string): Trouble => ({
  kind: 'problem',
  code,
  text: `"${textOf(path)}" ${text}`,
});

function kindOf(stats: BigIntStats): string {
  if (stats.isFIFO()) return 'a named pipe';
  if (stats.isSocket()) return 'a socket';
  return stats.isBlockDevice() || stats.isCharacterDevice() ? 'a device' : 'of an unknown kind';
}
