import { closeSync, fstatSync, readdirSync, readlinkSync, rmdirSync, unlinkSync } from 'node:fs';
import { SealiftError, systemCode } from '../errors.ts';
import { type ByteName, bytesOf, systemPath } from './byte-name.ts';
import { type FolderHandle, inside, openFolder, openWay } from './folder-handle.ts';

/** Where a folder is, or is to be. */
export interface FoundFolder {
  /** The one around it; of several that are missing, around the first. */
  readonly around: FolderHandle;
  /** What it is called there: of several that are missing, from the first on. */
  readonly names: readonly ByteName[];
  /** Undefined if it is not there. */
  readonly folder: FolderHandle | undefined;
  /** To root: whether a link led here that somebody else can have made, to lead root where that user may do nothing. */
  readonly ledByOthers: boolean;
}

/** As many as the kernel follows. */
const mostLinks = 40;

/**
 * Goes down to a folder, with one open handle per level, so that what was found out stays true of what is open,
 * whoever moves folders or puts links in the way meanwhile. `opened` closes them.
 */
export function findFolder(path: string, opened: DisposableStack): FoundFolder {
  const root = keepOpen(openWay('/'), opened);
  const ahead = namesIn(bytesOf(path));
  let found: FoundFolder = { around: root, names: ['.'], folder: root, ledByOthers: false };
  let links = 0;
  for (let name = ahead.shift(); name !== undefined; name = ahead.shift()) {
    const around = found.folder!;
    const at = inside(around, name);
    try {
      found = { ...found, around, names: [name], folder: keepOpen(openWay(at), opened) };
    } catch (error) {
      if (systemCode(error) === 'ENOENT')
        return { ...found, around, names: [name, ...ahead], folder: undefined };
      const target = linkTarget(at);
      if (target === undefined || (links += 1) > mostLinks) throw noFolder(path, error);
      ahead.unshift(...namesIn(target));
      found = {
        ...found,
        folder: target.startsWith('/') ? root : around,
        ledByOthers: found.ledByOthers || !isRootsAlone(around),
      };
    }
  }
  return found;
}

const namesIn = (path: ByteName): ByteName[] => path.split('/').filter((name) => name !== '' && name !== '.');

export function keepOpen(folder: FolderHandle, opened: DisposableStack): FolderHandle {
  opened.defer(() => closeSync(folder.fd));
  return folder;
}

/** Undefined if it is no link. */
function linkTarget(at: ByteName): ByteName | undefined {
  try {
    return readlinkSync(systemPath(at), 'latin1');
  } catch (error) {
    if (systemCode(error) === 'EINVAL') return undefined;
    throw error;
  }
}

function noFolder(path: string, cause: unknown): unknown {
  if (!['ENOTDIR', 'ELOOP'].includes(systemCode(cause) ?? '')) return cause;
  return new SealiftError('target-exists', `${path} is there already and is no folder`, { cause });
}

/** Who is not root gives nothing away by following a link. */
function isRootsAlone({ fd }: FolderHandle): boolean {
  const { uid, mode } = fstatSync(fd);
  return process.geteuid?.() !== 0 || (uid === 0 && (mode & 0o022) === 0);
}

/** Removes what is in a folder, and never through a link: whose folder it is may be at work there meanwhile. */
export function clearFolder(folder: FolderHandle): void {
  for (const name of readdirSync(folder.at, 'latin1')) {
    const at = inside(folder, name);
    try {
      unlinkSync(systemPath(at));
    } catch (error) {
      if (systemCode(error) !== 'EISDIR') throw error;
      using opened = new DisposableStack();
      clearFolder(keepOpen(openFolder(at), opened));
      rmdirSync(systemPath(at));
    }
  }
}
