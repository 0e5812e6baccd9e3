import { createHash } from 'node:crypto';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Private folders for programs that can write nothing but files. */
export interface Temporary extends AsyncDisposable {
  /** A new empty folder of mode 0700. */
  folder(): Promise<string>;
}

/**
 * Folders that go on every path out. What a killed process left is removed by the next one of the same `owner` text,
 * so the caller must hold the lock that makes it the only one.
 */
export async function openTemporary(owner: string): Promise<Temporary> {
  const prefix = `sealift-${createHash('sha256').update(owner).digest('hex').slice(0, 12)}-`;
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(prefix)) continue;
    const path = join(tmpdir(), name);
    const info = await lstat(path).catch(() => undefined);
    // Anybody can make a folder of that name in a shared place; only our own is ours to remove.
    if (info?.isDirectory() && info.uid === process.geteuid?.())
      await rm(path, { recursive: true, force: true });
  }
  const made: string[] = [];
  return {
    async folder() {
      const path = await mkdtemp(join(tmpdir(), prefix));
      made.push(path);
      return path;
    },
    async [Symbol.asyncDispose]() {
      for (const path of made) await rm(path, { recursive: true, force: true });
    },
  };
}
