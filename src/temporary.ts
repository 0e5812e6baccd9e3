import { hash } from 'node:crypto';
import { lstat, mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, SealiftError, systemCode } from './errors.ts';
import { output, type SystemUser } from './process.ts';

/** Private folders for programs that can write nothing but files. */
export interface Temporary extends AsyncDisposable {
  /** A new empty folder of mode 0700. */
  folder(place?: Place): Promise<string>;
}

/**
 * Where a server can write that does not see the system's temporary folder (systemd's PrivateTmp): in a folder of its
 * own. It may be in other hands than ours, so nothing is made or removed there but as the user that owns it.
 */
export interface Place {
  readonly within: string;
  readonly runAs: SystemUser | undefined;
}

const toolLimitMs = 60_000;

/**
 * Folders that go on every path out. What a killed process left is removed by the next one of the same `owner` text,
 * so the caller must hold the lock that makes it the only one; or else be `oneOfSeveral`, whose folders bear the number
 * of their process: then those of processes that run are left alone.
 */
export async function openTemporary(
  owner: string,
  { oneOfSeveral = false }: { readonly oneOfSeveral?: boolean } = {},
): Promise<Temporary> {
  const ours = `sealift-${hash('sha256', oneOfSeveral ? `${owner} ${await pidNamespace()}` : owner).slice(0, 12)}-`;
  const prefix = oneOfSeveral ? `${ours}${process.pid}-` : ours;
  const all = await readdir(tmpdir()).catch((cause: unknown) => {
    throw new SealiftError('failed', `the folder for temporary files cannot be read: ${messageOf(cause)}`, {
      hint: 'make it, or set TMPDIR to one that is there',
      cause,
    });
  });
  for (const name of all) {
    if (!name.startsWith(ours)) continue;
    if (oneOfSeveral && isOfOther(name.slice(ours.length))) continue;
    const path = join(tmpdir(), name);
    const info = await lstat(path).catch(() => undefined);
    // Anybody can make a folder of that name in a shared place; only our own is ours to remove.
    if (info?.isDirectory() && info.uid === process.geteuid?.())
      await rm(path, { recursive: true, force: true });
  }
  /** Each removes a folder that was made. */
  const removals: (() => Promise<void>)[] = [];
  const swept = new Set<string>();
  let isOver = false;
  /** What a run left behind (left-behind.ts) may go on after it. */
  const made = async (remove: () => Promise<void>): Promise<void> => {
    removals.push(remove);
    if (!isOver) return;
    await remove();
    throw new SealiftError('failed', 'the run is over, and its temporary folders are gone');
  };
  return {
    async folder(place) {
      if (place === undefined) {
        const path = await mkdtemp(join(tmpdir(), prefix));
        await made(() => rm(path, { recursive: true, force: true }));
        return path;
      }
      if (!swept.has(place.within)) await sweep(place, prefix);
      swept.add(place.within);
      const { stdout } = await inPlace(place, [
        'mktemp',
        '-d',
        '--',
        join(place.within, `${prefix}XXXXXXXX`),
      ]);
      const path = stdout.replace(/\n$/, '');
      await made(() => removePlaced(path, place));
      return path;
    },
    async [Symbol.asyncDispose]() {
      isOver = true;
      // All of them go, also when one cannot be removed.
      for (const removed of await Promise.allSettled(removals.map((remove) => remove())))
        if (removed.status === 'rejected') throw removed.reason;
    },
  };
}

/** In a container, the same numbers are those of other processes. */
const pidNamespace = (): Promise<string> => readlink('/proc/self/ns/pid').catch(() => '');

/** Whether another process that runs has this number, with which the name goes on. */
function isOfOther(rest: string): boolean {
  const pid = Number(/^\d+(?=-)/.exec(rest)?.[0]);
  return pid !== process.pid && isRunning(pid);
}

/** Whether a process has this number. What is no number might be anything. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/** Removes a folder that `folder` made in that place, if it is still there. */
export async function removePlaced(path: string, place: Place): Promise<void> {
  const remove = () => inPlace(place, ['rm', '-rf', '--', path]);
  // A server that was told to stop may still have laid one more file in there.
  await remove().catch(remove);
}

async function sweep(place: Place, prefix: string): Promise<void> {
  const user = String(place.runAs?.uid ?? process.geteuid!());
  const mine = ['-mindepth', '1', '-maxdepth', '1', '-type', 'd', '-user', user];
  const remove = ['-name', `${prefix}*`, '-exec', 'rm', '-rf', '--', '{}', '+'];
  await inPlace(place, ['find', place.within, ...mine, ...remove]);
}

/** With a limit of its own, as it also clears up after what was interrupted. */
const inPlace = ({ runAs }: Place, argv: string[]) =>
  output({ argv, runAs }, AbortSignal.timeout(toolLimitMs));
