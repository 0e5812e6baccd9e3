import {
  chmodSync,
  closeSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { systemCode } from '../errors.ts';
import { type ByteName, systemPath } from './byte-name.ts';
import {
  closeLevel,
  closeOuter,
  type FolderHandle,
  folderHandle,
  inside,
  openFolder,
  type OpenLevel,
  openWay,
} from './folder-handle.ts';

export interface FoldersOptions {
  /** Something else gives way to a folder. */
  readonly overwrite: boolean;
  /** Of folders that are made; default: 0700. */
  readonly mode?: number;
  /** What does not give way. */
  readonly isKept?: (at: ByteName, names: readonly ByteName[]) => boolean;
  /** Hears of each symlink that gave way. */
  readonly onUnlinked: (names: readonly ByteName[]) => void;
}

/**
 * The way from the target down to the folder that is being filled, by open handles. Each step is taken
 * from the handle above it and never through a symlink, so no name in an archive and nobody who moves folders
 * meanwhile can lead outside.
 */
export class UnpackFolders implements Disposable {
  readonly #target: FolderHandle;
  readonly #options: FoldersOptions;
  #levels: (OpenLevel & { readonly name: ByteName })[] = [];

  constructor(target: string, options: FoldersOptions) {
    this.#target = folderHandle(openSync(target, 'r'), target);
    this.#options = options;
  }

  /**
   * The folder of these names below the target; valid until the next call. One that is not there is made, by default with
   * mode 0700: nobody else comes in before its own entry has said who may. Something else in its place is removed if
   * `overwrite`, else it is an error.
   */
  enter(names: readonly ByteName[]): FolderHandle {
    let common = 0;
    while (common < names.length && this.#levels[common]?.name === names[common]) common += 1;
    // Then the way is gone anew from the target.
    if (common > 0 && this.#levels[common - 1]?.folder === undefined) common = 0;
    for (const level of this.#levels.splice(common)) closeLevel(level);
    let folder = this.#levels.at(-1)?.folder ?? this.#target;
    for (const [index, name] of names.slice(common).entries()) {
      folder = this.#step(inside(folder, name), names.slice(0, common + index + 1));
      this.#levels.push({ name, folder });
      closeOuter(this.#levels);
    }
    return folder;
  }

  #step(at: ByteName, names: readonly ByteName[]): FolderHandle {
    const { overwrite, mode = 0o700, isKept, onUnlinked } = this.#options;
    try {
      return overwrite ? openWritable(at) : openFolder(at);
    } catch (error) {
      const code = systemCode(error);
      const other = code === 'ENOTDIR' || code === 'ELOOP';
      if (code !== 'ENOENT' && !(other && overwrite)) throw error;
      if (other) {
        if (isKept?.(at, names) === true) throw error;
        if (lstatSync(systemPath(at)).isSymbolicLink()) onUnlinked(names);
        unlinkSync(systemPath(at));
      }
    }
    mkdirSync(systemPath(at), { mode });
    return openFolder(at);
  }

  [Symbol.dispose](): void {
    for (const level of this.#levels.splice(0)) closeLevel(level);
    closeSync(this.#target.fd);
  }
}

/** A folder of an earlier restore may be closed even to its owner. Its own entry sets its mode again. */
function openWritable(at: ByteName): FolderHandle {
  const way = openWay(at);
  try {
    const { mode, uid } = fstatSync(way.fd);
    const user = process.geteuid?.();
    if (user !== 0 && user === uid && (mode & 0o700) !== 0o700)
      chmodSync(systemPath(way.at), (mode & 0o7777) | 0o700);
    return openFolder(inside(way, '.'));
  } finally {
    closeSync(way.fd);
  }
}

/** Puts what was written aside in its place, at once, whatever is there. What is in a folder is never removed. */
export function moveOver(from: ByteName, to: ByteName): void {
  try {
    renameSync(systemPath(from), systemPath(to));
  } catch (error) {
    if (systemCode(error) !== 'EISDIR') throw error;
    rmdirSync(systemPath(to));
    renameSync(systemPath(from), systemPath(to));
  }
}
