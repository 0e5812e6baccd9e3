import { lstat, readdir, readFile, readlink, stat } from 'node:fs/promises';
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
export async function hasOpenIn(process: Process, folder: string): Promise<boolean> {
  for await (const { path } of openFiles(process)) if (await isSame(dirname(path), folder)) return true;
  return false;
}

/** Files below this folder that any process has open for writing, by their real paths. */
export async function writtenBelow(folder: string): Promise<Set<string>> {
  const found = new Set<string>();
  for (const process of await processesNamed(/^/))
    for await (const { path, link } of openFiles(process))
      if (path.startsWith(`${folder}/`) && (await isForWriting(link))) found.add(path);
  return found;
}

/** Whether any process has this file open for writing, under whatever name. */
export async function isWritten(file: string): Promise<boolean> {
  for (const process of await processesNamed(/^/))
    for await (const { link } of openFiles(process))
      if ((await isForWriting(link)) && (await isSame(link, file))) return true;
  return false;
}

/** The mode of the link is how the file was opened. */
async function isForWriting(link: string): Promise<boolean> {
  const { mode } = await lstat(link).catch(() => ({ mode: 0 }));
  return (mode & 0o200) !== 0;
}

async function* openFiles({ pid }: Process): AsyncGenerator<{ path: string; link: string }, void, void> {
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const link = `/proc/${pid}/fd/${fd}`;
    const path = await readlink(link).catch(() => '');
    if (path.startsWith('/')) yield { path, link };
  }
}

export async function isSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => stat(path).catch(() => undefined)));
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}
