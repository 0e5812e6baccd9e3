import { linkSync, lstatSync, symlinkSync } from 'node:fs';
import { SealiftError, messageOf, systemCode } from '../errors.ts';
import { type ByteName, systemPath, textOf } from './byte-name.ts';
import { draftName, removeAbandoned } from './drafts.ts';
import { inside } from './folder-handle.ts';
import { Inodes } from './inode.ts';
import type { TarEntry } from './tar-records.ts';
import { type Given, setAttributes, setSymlinkAttributes } from './unpack-attributes.ts';
import { discard, tryName, writeFile } from './unpack-file.ts';
import { type FoldersOptions, UnpackFolders, moveOver } from './unpack-folders.ts';
import type { UnpackOptions, Unpacked } from './unpack.ts';

type Named = TarEntry & { readonly names: readonly ByteName[] };
type Place = Pick<Named, 'kind' | 'name' | 'names'>;

/** Puts the entries of an archive in their places below the target. */
export class TreeWriter implements Disposable {
  readonly result: Unpacked = {
    files: 0,
    bytes: 0,
    skipped: [],
    lost: [],
    withoutSetuid: [],
    withoutAttributes: 0,
    unlinked: [],
  };
  readonly #options: UnpackOptions;
  readonly #folders: UnpackFolders;
  /** A second way down, for the other end of a hard link. */
  readonly #firsts: UnpackFolders;
  readonly #written = new Set<ByteName>();
  /** What lies under these names. */
  readonly #inodes = new Inodes();
  readonly #directories = new Map<ByteName, Named>();
  readonly #symlinks: Named[] = [];
  /** Names of what could not be read. */
  readonly #unread = new Set<ByteName>();
  /** Names of files that were skipped. */
  readonly #lost = new Set<ByteName>();
  /** Hard links to them, and what they link to: there may be as many as files, so no more is kept than that. */
  readonly #orphans = new Map<ByteName, ByteName>();
  #isSecondPass = false;

  constructor(target: string, options: UnpackOptions) {
    this.#options = options;
    const folders: FoldersOptions = {
      overwrite: options.overwrite,
      isKept: (at, names) => this.#isTaken(at, names),
      onUnlinked: (names) => this.result.unlinked.push(textOf(names.join('/'))),
    };
    this.#folders = new UnpackFolders(target, folders);
    this.#firsts = new UnpackFolders(target, folders);
  }

  async add(entry: TarEntry | undefined, shownName: string, body: AsyncIterable<Uint8Array>): Promise<void> {
    if (entry === undefined) return this.#skip(shownName, 'neither a file nor a folder nor a link');
    const names = namesOf(entry.name);
    if (typeof names === 'string') return this.#skip(textOf(entry.name), names);
    const named = { ...entry, names };
    const first = this.#orphans.get(names.join('/'));
    if (this.#isSecondPass && !this.#orphans.delete(names.join('/'))) return undefined;
    if (entry.kind !== 'directory' && names.length === 0)
      return this.#skip(textOf(entry.name), 'has no name');
    try {
      if (entry.kind === 'directory') this.#addDirectory(named);
      else if (entry.kind === 'file') await this.#addFile(named, body);
      else if (entry.kind === 'link') this.#addLink(named);
      else this.#symlinks.push(named);
    } catch (error) {
      // It may come once more.
      if (first !== undefined) this.#orphans.set(names.join('/'), first);
      this.#skipImpossible(named, error);
      this.#orphans.delete(names.join('/'));
    }
    return undefined;
  }

  /** What the archive had of this name cannot be read. */
  lose(name: ByteName): void {
    this.#unread.add(name);
    this.#orphans.delete(name);
    this.result.lost.push(textOf(name));
  }

  /** The paths of hard links to files that were skipped. From now on only these are added: what has their content. */
  beginSecondPass(): Set<string> {
    this.#isSecondPass = true;
    // The first of each file gets the content: it must be one that can be made.
    const possible = new Set<ByteName>();
    for (const [name, first] of this.#orphans) {
      if (possible.has(first)) continue;
      if (this.#isPossible(name)) possible.add(first);
      else this.#orphans.delete(name);
    }
    const paths = new Set<string>();
    for (const name of this.#orphans.keys()) paths.add(`/${textOf(name)}`);
    return paths;
  }

  /** Symlinks, then the attributes of folders, those within before those around them. */
  finish(): void {
    for (const name of this.#orphans.keys())
      this.#skip(textOf(name), 'a hard link to a file that was skipped');
    for (const entry of this.#symlinks) {
      try {
        attempt(entry, () => this.#addSymlink(entry));
      } catch (error) {
        // Two entries of one archive for one place: this is how a hostile one tries to write through a symlink.
        if (this.#isOurs(entry.names.join('/')))
          this.#skip(textOf(entry.name), 'another entry of the archive has its place');
        else this.#skipImpossible(entry, error);
      }
    }
    const byName = [...this.#directories.values()].toSorted((a, b) => compareNames(a.names, b.names));
    for (const entry of byName.toReversed()) {
      attempt(entry, () => {
        this.#note(entry, setAttributes(this.#folders.enter(entry.names).fd, entry, this.#options));
      });
    }
  }

  #addDirectory(entry: Named): void {
    if (entry.names.length === 0) return;
    attempt(entry, () => {
      const folder = this.#folders.enter(entry.names);
      if (this.#options.overwrite) removeAbandoned(folder);
    });
    this.#directories.set(entry.names.join('/'), entry);
  }

  async #addFile(entry: Named, body: AsyncIterable<Uint8Array>): Promise<void> {
    const at = attempt(entry, () => this.#pathOf(entry));
    if (attempt(entry, () => this.#isTaken(at, entry.names))) return this.#lose(entry, sameName);
    try {
      const { inode, given } = this.#options.overwrite
        ? await this.#replaceFile(at, entry, body)
        : await writeFile(at, entry, body, this.#options);
      this.#inodes.add(inode);
      this.#note(entry, given);
    } catch (error) {
      throw failed(entry, error);
    }
    this.#written.add(entry.names.join('/'));
    this.result.files += 1;
    this.result.bytes += entry.sizeBytes;
    return undefined;
  }

  /** What is there stays until the new file is whole. */
  async #replaceFile(
    at: ByteName,
    entry: Named,
    body: AsyncIterable<Uint8Array>,
  ): ReturnType<typeof writeFile> {
    const draft = draftBeside(at);
    const written = await writeFile(draft, entry, body, this.#options);
    try {
      this.#moveOver(draft, at, entry);
    } catch (error) {
      discard(draft);
      throw error;
    }
    return written;
  }

  #moveOver(draft: ByteName, at: ByteName, entry: Named): void {
    moveOver(draft, at);
    this.#directories.delete(entry.names.join('/')); // an empty folder of the archive itself
  }

  #addLink(entry: Named): void {
    const first = namesOf(entry.target ?? '');
    if (typeof first === 'string' || !this.#written.has(first.join('/'))) {
      if (typeof first !== 'string' && this.#unread.has(first.join('/'))) this.lose(entry.names.join('/'));
      else if (typeof first !== 'string' && this.#lost.has(first.join('/')))
        this.#orphans.set(entry.names.join('/'), first.join('/'));
      else this.#skip(textOf(entry.name), 'a hard link to a file that is not in the archive before it');
      return undefined;
    }
    if (attempt(entry, () => this.#isTaken(this.#pathOf(entry), entry.names)))
      return this.#skip(textOf(entry.name), sameName);
    attempt(entry, () => {
      const existing = inside(this.#firsts.enter(first.slice(0, -1)), first.at(-1)!);
      this.#make(entry, (at) => linkSync(systemPath(existing), systemPath(at)));
    });
    this.#written.add(entry.names.join('/'));
    this.result.files += 1;
    return undefined;
  }

  /** Whether a file can have this name. If not, it is skipped. */
  #isPossible(name: ByteName): boolean {
    const entry = { kind: 'link', name, names: name.split('/') } as const;
    try {
      const isTaken = attempt(entry, () => {
        const at = this.#pathOf(entry);
        if (this.#isTaken(at, entry.names)) return true;
        tryName(at);
        return false;
      });
      if (isTaken) this.#skip(textOf(entry.name), sameName);
      return !isTaken;
    } catch (error) {
      this.#skipImpossible(entry, error);
      return false;
    }
  }

  #addSymlink(entry: Named): void {
    if (this.#isTaken(this.#pathOf(entry), entry.names)) return this.#skip(textOf(entry.name), sameName);
    let given = false;
    this.#make(entry, (at) => {
      symlinkSync(systemPath(entry.target ?? ''), systemPath(at));
      given = setSymlinkAttributes(at, entry, this.#options.sameOwner);
      this.#inodes.add(lstatSync(systemPath(at), { bigint: true }));
    });
    this.#note(entry, { all: given, setuid: true });
    this.#written.add(entry.names.join('/'));
    this.result.files += 1;
    return undefined;
  }

  /** Whether an entry of another name has this place already, as on a file system that knows no upper and lower case. */
  #isTaken(at: ByteName, names: readonly ByteName[]): boolean {
    if (this.#written.has(names.join('/'))) return false;
    const found = lstatSync(systemPath(at), { bigint: true, throwIfNoEntry: false });
    return found !== undefined && this.#inodes.has(found);
  }

  /** Where it goes, with its folder made. */
  #pathOf(entry: Place): ByteName {
    return inside(this.#folders.enter(entry.names.slice(0, -1)), entry.names.at(-1)!);
  }

  /** Makes a link in its place; what is there stays if it cannot be made. */
  #make(entry: Named, make: (at: ByteName) => void): void {
    const at = this.#pathOf(entry);
    if (!this.#options.overwrite) return make(at);
    const draft = draftBeside(at);
    try {
      make(draft);
      return this.#moveOver(draft, at, entry);
    } finally {
      discard(draft); // which stays, too, where it is renamed to another name of the same file
    }
  }

  #isOurs(name: ByteName): boolean {
    if (this.#written.has(name) || this.#directories.has(name)) return true;
    return [...this.#written].some((written) => written.startsWith(`${name}/`));
  }

  #note(entry: TarEntry, given: Given): void {
    if (!given.setuid) this.result.withoutSetuid.push(textOf(entry.name));
    if (!given.all) this.result.withoutAttributes += 1;
  }

  /** What the target can hold none of shall not keep the others from coming back. */
  #skipImpossible(entry: Place, error: unknown): void {
    if (!(error instanceof SealiftError && isImpossible(error.cause))) throw error;
    const code = systemCode(error.cause);
    const reason = `cannot be made here: ${code}`;
    if (code === 'EFBIG') return this.#skip(textOf(entry.name), reason);
    return this.#lose(entry, reason);
  }

  /** A file may still come back under another name. */
  #lose(entry: Place, reason: string): void {
    if (entry.kind === 'file') this.#lost.add(entry.names.join('/'));
    this.#skip(textOf(entry.name), reason);
  }

  #skip(path: string, reason: string): void {
    this.result.skipped.push({ path, reason });
  }

  [Symbol.dispose](): void {
    this.#folders[Symbol.dispose]();
    this.#firsts[Symbol.dispose]();
  }
}

const draftBeside = (at: ByteName): ByteName => `${at.slice(0, at.lastIndexOf('/'))}/${draftName()}`;

/** Whether the file system has no such name, size, kind or link. */
function isImpossible(cause: unknown): boolean {
  const { code = '', syscall = '' } = cause as NodeJS.ErrnoException;
  if (code === 'EPERM') return syscall === 'link' || syscall === 'symlink';
  const codes = ['ENAMETOOLONG', 'EILSEQ', 'EINVAL', 'EFBIG', 'ENOTSUP', 'ENOSYS', 'EXDEV', 'EMLINK'];
  return codes.includes(code);
}

const sameName = 'the target takes its name for that of another file of the archive';

/** The names on the way down, or why this way is not taken. */
function namesOf(path: ByteName): ByteName[] | string {
  if (path.startsWith('/')) return 'an absolute path';
  if (path.includes('\0')) return 'a zero byte in the name';
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  return names.includes('..') ? 'a path that leads outside' : names;
}

/** A folder before what is in it. */
function compareNames(a: readonly ByteName[], b: readonly ByteName[]): number {
  const [left, right] = [a.join('\0'), b.join('\0')];
  return left < right ? -1 : Number(left > right);
}

function attempt<T>(entry: Pick<TarEntry, 'name'>, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failed(entry, error);
  }
}

function failed(entry: Pick<TarEntry, 'name'>, cause: unknown): SealiftError {
  const code = systemCode(cause);
  if (code === undefined)
    return new SealiftError('verify-failed', `"${textOf(entry.name)}": ${messageOf(cause)}`, { cause });
  const occupied = ['EEXIST', 'ENOTDIR', 'ELOOP', 'ENOTEMPTY'].includes(code);
  const hint = occupied ? 'Choose an empty folder, or overwrite with --force' : undefined;
  return new SealiftError('restore-failed', `"${textOf(entry.name)}": ${code}`, { hint, cause });
}
