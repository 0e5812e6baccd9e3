import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * The processes of this machine, as far as /proc shows them to this user: enough to refuse what would go wrong, never
 * a proof that nothing runs.
 */
export interface Process {
  readonly pid: number;
  readonly name: string;
  readonly argv: readonly string[];
}

export async function processesNamed(name: RegExp): Promise<Process[]> {
  const found: Process[] = [];
  for (const entry of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(entry)) continue;
    // It may end while it is looked at.
    const comm = (await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '')).trimEnd();
    if (!name.test(comm)) continue;
    const cmdline = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    found.push({ pid: Number(entry), name: comm, argv: cmdline.split('\0').slice(0, -1) });
  }
  return found;
}

/** Whether it stands in this folder. By what the folder is, not by its name: a container has another root. */
export async function standsIn({ pid }: Process, folder: string): Promise<boolean> {
  return isSame(`/proc/${pid}/cwd`, folder);
}

/** Whether it has a file of this folder open. */
export async function hasOpenIn({ pid }: Process, folder: string): Promise<boolean> {
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const file = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    if (file.startsWith('/') && (await isSame(dirname(file), folder))) return true;
  }
  return false;
}

export async function isSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => stat(path).catch(() => undefined)));
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}
