import { randomUUID } from 'node:crypto';
import { constants, type Dirent, existsSync, type Stats } from 'node:fs';
import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { namePattern } from '../config/fields.ts';
import { nameNew, syncFolder } from '../durable.ts';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { largestObjectBytes, type Store, type StoredObject } from './store.ts';

/** Unfinished writes lie here; the leading dot keeps it apart from every host name. */
const temporaryFolder = '.tmp';
/** Whatever the umask is, no other user may put objects in or take them out. */
const folderMode = 0o775;
/** A temporary file lives for seconds; older ones were left by a process that was killed. */
const abandonedAfterMs = 3600_000;

/**
 * A store in a directory, which must exist: a missing one is more often a disk that is not mounted than a new store.
 * Files are written to a temporary name, fsynced and renamed, so that a crash leaves no half object under its key.
 */
export async function openDirectoryStore(root: string): Promise<Store> {
  const failedTo =
    (what: string) =>
    (error: unknown): never => {
      throw translate(error, what, root);
    };
  const lookAtRoot = () => stat(root).catch(failedTo('open the store'));
  const info = await lookAtRoot();
  /**
   * A directory that went away must not look like an empty store, nor be made anew. Neither does the one below the mount
   * of a disk take its place, or a snapshot would be named there whose segments went with the disk. By device or number
   * alone it may well be the same: some file systems of the network give other numbers after a while, and others come
   * back from a pause as another device. The roots of two disks have the same number, but not the same time of birth.
   */
  const statRoot = async (): Promise<void> => {
    const { dev, ino, birthtimeMs } = await lookAtRoot();
    if (dev !== info.dev && (ino !== info.ino || birthtimeMs !== info.birthtimeMs))
      throw new SealiftError(
        'store-not-found',
        `the store ${root} went away: something else is in its place`,
        { hint: 'Is the disk still mounted?' },
      );
  };
  if (!info.isDirectory()) throw new SealiftError('store-not-found', `the store ${root} is not a directory`);

  const temporary = join(root, temporaryFolder);
  /** Folders with entries that are not yet durable. */
  const unsettled = new Set<string>();
  let swept: Promise<void> | undefined;

  async function write(
    key: string,
    bytes: Uint8Array,
    mayExist: boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted();
    await statRoot();
    // Once, unless it fails: a daemon outlives a disk that was full.
    await (swept ??= prepareTemporary(temporary).catch((error: unknown) => {
      swept = undefined;
      throw error;
    }));
    const path = join(root, key);
    const draft = join(temporary, randomUUID());
    try {
      const file = await open(draft, 'wx', 0o644);
      try {
        for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten;
        await file.datasync();
      } finally {
        await file.close();
      }
      await publish(draft, path, mayExist);
      unsettled.add(dirname(path));
    } finally {
      await unlink(draft).catch(unlessAbsent);
    }
  }

  /**
   * Gives the draft its name. The folder is made where it is missing: for the first object in it, or because a prune
   * removed it just before it was to be filled.
   */
  async function publish(draft: string, path: string, mayExist: boolean, attempt = 0): Promise<void> {
    try {
      if (attempt > 0) await makeFolders(root, dirname(path), unsettled);
      await (mayExist ? rename(draft, path) : publishNew(draft, path));
    } catch (error) {
      // Node's recursive mkdir says ENOTDIR of a folder that it found and that went away meanwhile.
      if (attempt === 20 || !['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) throw error;
      await statRoot();
      await publish(draft, path, mayExist, attempt + 1);
    }
  }

  /** Removes a file, and the folders below that of the host that are empty after it. */
  async function remove(key: string): Promise<void> {
    await statRoot();
    const path = join(root, key);
    await unlink(path).catch(unlessAbsent);
    let folder = dirname(path);
    for (let depth = key.split('/').length - 1; depth > 1 && (await removeEmpty(folder)); depth--) {
      unsettled.delete(folder);
      folder = dirname(folder);
    }
    unsettled.add(folder);
  }

  async function* list(prefix: string, signal?: AbortSignal): AsyncGenerator<StoredObject> {
    await statRoot();
    yield* walk(root, prefix, signal, (error, folder) => failedTo(`list ${folder} in the store`)(error));
  }

  async function folders(prefix: string, signal?: AbortSignal): Promise<string[]> {
    signal?.throwIfAborted();
    await statRoot();
    const entries = await entriesOf(join(root, prefix)).catch(failedTo(`list ${prefix} in the store`));
    return entries
      .filter((entry) => entry.isDirectory() && entry.name !== temporaryFolder)
      .map((entry) => entry.name)
      .toSorted();
  }

  let settled = Promise.resolve();

  async function settleAll(): Promise<void> {
    await statRoot();
    // Not those that others add meanwhile: their writers need not come to an end.
    const folders = new Set(unsettled);
    for (const folder of folders) {
      unsettled.delete(folder);
      await syncFolder(folder)
        .catch(unlessAbsent) // pruned, or never made: nothing is in it to settle
        .catch((error: unknown) => {
          unsettled.add(folder);
          throw error;
        })
        .catch(failedTo(`make ${folder} durable in the store`));
    }
  }

  const failedToList = failedTo(`list ${temporaryFolder} in the store`);

  return {
    address: root,
    put: (key, bytes, signal) =>
      write(key, bytes, false, signal).catch(failedTo(`write ${key} to the store`)),
    replace: (key, bytes, signal) =>
      write(key, bytes, true, signal).catch(failedTo(`write ${key} to the store`)),
    settle(others = []) {
      for (const other of others)
        for (let folder = join(root, other); folder.startsWith(root); folder = dirname(folder))
          unsettled.add(folder);
      // One after the other: what another run has begun to settle, or failed to, may be of this one.
      settled = settled.catch(() => undefined).then(settleAll);
      return settled;
    },
    async *versions(key, signal, mostBytes = largestObjectBytes) {
      signal?.throwIfAborted();
      const bytes = await readAtMost(join(root, key), mostBytes + 1)
        .catch(unlessAbsent)
        .catch(failedTo(`read ${key} from the store`));
      if (bytes) yield bytes;
      else await statRoot();
    },
    list,
    async *listVersions(prefix, signal) {
      for await (const object of list(prefix, signal))
        yield { ...object, version: undefined, latest: true, marker: false };
    },
    async remove({ key }, signal) {
      signal?.throwIfAborted();
      await remove(key).catch(failedTo(`delete ${key} from the store`));
    },
    async *unfinished(signal) {
      await statRoot();
      const entries = await entriesOf(temporary).catch(failedToList);
      for (const entry of entries.filter((one) => one.isFile())) {
        signal?.throwIfAborted();
        const info = await infoOf(join(temporary, entry.name)).catch(failedToList);
        if (info)
          yield { key: `${temporaryFolder}/${entry.name}`, upload: entry.name, startedAt: info.mtime };
      }
    },
    async abandon({ upload }, signal) {
      signal?.throwIfAborted();
      await statRoot();
      await unlink(join(temporary, basename(upload)))
        .catch(unlessAbsent)
        .catch(failedTo(`delete the temporary file ${upload} from the store`));
    },
    folders,
    allFolders: folders,
    async now() {
      await statRoot();
      const failed = failedTo('ask the time of the store');
      try {
        return await probeTime(temporary).catch(failed);
      } catch (error) {
        if (!(error instanceof SealiftError) || error.code === 'store-denied') throw error;
        // What a full disk has no room for must not keep prune from making some.
        if (error.code === 'store-full')
          return touchTime(existsSync(temporary) ? temporary : root).catch(failed);
        if (!['EEXIST', 'ENOTDIR', 'ENOENT', 'ELOOP'].includes(systemCode(error.cause) ?? '')) throw error;
        await statRoot();
        // Nothing that is stored lies there, so it must not hide what is.
        throw new SealiftError(
          'clock-wrong',
          `the store ${root} does not tell its time: ${messageOf(error.cause)}`,
          {
            hint: `Nothing that was stored is in ${temporary}: remove it, and it is made anew.`,
            cause: error.cause,
          },
        );
      }
    },
    async [Symbol.asyncDispose]() {
      // The temporary folder stays: another process may be about to write into it.
    },
  };
}

/** Symbolic links are listed as what they are, and not followed. */
async function* walk(
  root: string,
  prefix: string,
  signal: AbortSignal | undefined,
  fail: (error: unknown, folder: string) => never,
): AsyncGenerator<StoredObject> {
  signal?.throwIfAborted();
  /** What the system keeps for itself on a disk, such as `lost+found`, must not hide the backups beside it. */
  const passOver = (error: unknown): boolean =>
    prefix !== '' &&
    !namePattern.test(prefix.split('/', 1)[0] ?? '') &&
    ['EACCES', 'EPERM'].includes(systemCode(error) ?? '');
  const entries = await entriesOf(join(root, prefix)).catch((error: unknown) =>
    passOver(error) ? [] : fail(error, prefix),
  );
  const names = entries
    .filter((entry) => prefix !== '' || entry.name !== temporaryFolder)
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .toSorted();
  for (const name of names) {
    const key = prefix + name;
    if (name.endsWith('/')) {
      yield* walk(root, key, signal, fail);
      continue;
    }
    const info = await infoOf(join(root, key)).catch((error: unknown) =>
      passOver(error) ? undefined : fail(error, key),
    );
    if (!info) continue;
    const etag = `${info.size}-${info.mtimeMs}-${info.ino}`;
    yield { key, sizeBytes: info.size, lastModified: info.mtime, etag };
  }
}

/** None where there is no such folder. */
const entriesOf = async (folder: string): Promise<Dirent[]> =>
  (await readdir(folder, { withFileTypes: true }).catch(unlessAbsent)) ?? [];

/** Of the name itself, not of what a symbolic link leads to; undefined when it was removed while we were listing. */
const infoOf = (path: string): Promise<Stats | undefined> => lstat(path).catch(unlessAbsent);

/** Undefined for what is no file: a pipe would be waited for without end, also by whoever wants to stop. */
async function readAtMost(path: string, mostBytes: number): Promise<Buffer | undefined> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (!stats.isFile()) return undefined;
  const bytes = Buffer.allocUnsafeSlow(Math.min(stats.size, mostBytes));
  let at = 0;
  while (at < bytes.length) {
    const { bytesRead } = await file.read(bytes, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

/** The time by the clock of whoever keeps the files: that of a new one. */
async function probeTime(temporary: string): Promise<Date> {
  const probe = join(temporary, randomUUID());
  try {
    await mkdir(temporary, { recursive: true, mode: folderMode });
    await using file = await open(probe, 'wx', 0o600);
    return (await file.stat()).mtime;
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

/** The same without a new file: the time of a change of mode, which changes nothing. */
async function touchTime(folder: string): Promise<Date> {
  await chmod(folder, (await stat(folder)).mode & 0o7777);
  return (await stat(folder)).ctime;
}

async function prepareTemporary(temporary: string): Promise<void> {
  await mkdir(temporary, { recursive: true, mode: folderMode });
  for (const name of await readdir(temporary)) {
    const path = join(temporary, name);
    const info = await stat(path).catch(() => undefined);
    if (info?.isFile() && Date.now() - info.mtimeMs > abandonedAfterMs) await rm(path, { force: true });
  }
}

/** Makes the folders down to `path` and notes each one whose parent has a new entry. */
async function makeFolders(root: string, path: string, unsettled: Set<string>): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: folderMode });
  if (first === undefined) return;
  for (let folder = path; folder !== root && folder.length >= first.length; folder = dirname(folder))
    unsettled.add(dirname(folder));
}

/** Gives the draft its name, unless there is such an object: then it must be the same. */
async function publishNew(draft: string, path: string): Promise<void> {
  if (!(await nameNew(draft, path))) await confirmSame(path, await readFile(draft));
}

async function confirmSame(path: string, bytes: Uint8Array): Promise<void> {
  if (!(await readAtMost(path, bytes.length + 1))?.equals(bytes))
    throw new SealiftError('store-conflict', `${path} is already there with other content`);
}

const unlessAbsent = (error: unknown): undefined => {
  if (!['ENOENT', 'ENOTDIR', 'EISDIR', 'ELOOP', 'ENXIO'].includes(systemCode(error) ?? '')) throw error;
};

/** Whether the folder is gone now. One that is not empty, or may not be removed, stays. */
async function removeEmpty(folder: string): Promise<boolean> {
  return rmdir(folder).then(
    () => true,
    (error: unknown) => systemCode(error) === 'ENOENT',
  );
}

function translate(error: unknown, what: string, root: string): unknown {
  if (error instanceof SealiftError || (error instanceof Error && error.name === 'AbortError')) return error;
  const at = `cannot ${what} (${root})`;
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new SealiftError('store-not-found', `${at}: the directory does not exist`, {
        hint: 'Is the disk mounted? A new store needs its directory made once, with mkdir.',
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new SealiftError('store-denied', `${at}: not allowed`, {
        hint: 'Check the owner and mode of the directory, and whether the file system is mounted read-only.',
        cause: error,
      });
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new SealiftError('store-full', `${at}: no space left`, {
        hint: 'Free space in the store, or give it more. Nothing that was stored before is harmed.',
        cause: error,
      });
    default:
      return new SealiftError('store-unavailable', `${at}: ${String(systemCode(error) ?? error)}`, {
        cause: error,
      });
  }
}
