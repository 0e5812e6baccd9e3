import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { link, lstat, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SealiftError, systemCode } from './errors.ts';

/**
 * Writing small files that must survive a power cut: the bytes are synced before the name appears, and the folder
 * after. A reader sees the whole file or none.
 */

/** Makes a new file and never replaces one. Throws `target-exists` if the name is taken, by whatever. */
export async function writeNew(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await throughTemporary(path, data, mode, async (temporary) => {
    try {
      if (await nameNew(temporary, path)) return;
    } finally {
      await rm(temporary, { force: true });
    }
    throw new SealiftError('target-exists', `${path} is there already and is not overwritten`);
  });
}

/**
 * Gives a file its name, unless that is taken; the draft may keep its own. Where the file system knows no hard links, as that
 * of a USB stick, a name that is taken in this very moment is replaced.
 */
export async function nameNew(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
  } catch (error) {
    const code = systemCode(error) ?? '';
    if (code === 'EEXIST') return false;
    if (!['EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
    if (await isThere(path)) return false;
    await rename(draft, path);
  }
  return true;
}

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: unknown) => {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    },
  );

/** Writes a file, in place of an older one if there is one. */
export async function replaceFile(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await throughTemporary(path, data, mode, (temporary) => rename(temporary, path));
}

/**
 * Makes a folder and its parents if they are missing; only folders that are new get the mode. Step by step, because
 * Node's recursive mkdir never returns where the system says ENOENT below a folder that exists (as in `/proc`).
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    const parent = dirname(path);
    if (systemCode(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (systemCode(error) !== 'ENOENT' || parent === path || existsSync(parent)) throw error;
    await makeFolder(parent, mode);
    await mkdir(path, { mode });
  }
}

async function throughTemporary(
  path: string,
  data: string | Uint8Array,
  mode: number,
  publish: (temporary: string) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(data);
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await publish(temporary);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Makes the entries of a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
