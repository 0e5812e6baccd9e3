import { lstat, readFile } from 'node:fs/promises';
import type { Config, SourceConfig } from '../config/config.ts';
import { findProgram, readProcess, searchPath } from '../process.ts';
import { excluder } from '../sources/files-exclude.ts';
import { foldersTo, isWithin } from '../sources/within.ts';
import type { Checkup } from './doctor-checkup.ts';

/** A large tree may take longer; then no more is said of its subvolumes. */
const patienceMs = 60_000;

/** Warns of file systems below the paths of trees, which are not gone into unless that is asked for. */
export async function checkMounts(checkup: Checkup, { jobs }: Config, signal: AbortSignal): Promise<void> {
  const mounts = await Promise.all(
    mountsIn(await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')).map(byItsSubvolume),
  );
  for (const job of jobs)
    for (const source of job.sources)
      for (const path of await leftOut(source, mounts, signal))
        checkup.add(
          'source',
          `${job.name}/${source.name}`,
          'warning',
          `${path} is a file system of its own, and not saved`,
          'name it among `paths`, set oneFileSystem: false, or exclude it',
        );
}

async function leftOut(
  source: SourceConfig,
  mounts: readonly Mount[],
  signal: AbortSignal,
): Promise<Set<string>> {
  if (source.kind !== 'system' && !(source.kind === 'files' && source.oneFileSystem)) return new Set();
  const { paths, exclude } = source;
  const subvolumes = await subvolumesBelow(paths, mounts, signal);
  return new Set([...mountsBelow(paths, exclude, mounts), ...saved(subvolumes, paths, exclude)]);
}

export interface Mount {
  readonly path: string;
  readonly type: string;
  readonly device: string;
}

/** By `/proc/self/mountinfo` (proc(5)). */
export const mountsIn = (mountInfo: string): Mount[] =>
  mountInfo.split('\n').flatMap((line) => {
    const [, , device, , point] = line.split(' ');
    const type = / - (\S+)/.exec(line)?.[1];
    if (device === undefined || point === undefined || type === undefined) return [];
    const path = point.replaceAll(/\\(\d{3})/g, (_, octal: string) =>
      String.fromCharCode(parseInt(octal, 8)),
    );
    return [{ device, path, type }];
  });

/** All of one btrfs are the same device there, and to who looks at their files each is its own. */
async function byItsSubvolume(mount: Mount): Promise<Mount> {
  if (mount.type !== 'btrfs') return mount;
  const found = await lstat(mount.path).catch(() => undefined);
  return found === undefined ? mount : { ...mount, device: `btrfs ${found.dev}` };
}

/** What holds data, lies below one of the paths, and is on another device than that. */
export function mountsBelow(
  paths: readonly string[],
  exclude: readonly string[],
  mounts: readonly Mount[],
): string[] {
  const found = paths.flatMap((from) =>
    mounts.filter(
      ({ path, type, device }) =>
        isBelow(path, from) && !virtual.has(type) && device !== mountOf(from, mounts)?.device,
    ),
  );
  return saved(
    found.map(({ path }) => path),
    paths,
    exclude,
  );
}

const mountOf = (path: string, mounts: readonly Mount[]): Mount | undefined =>
  mounts
    .filter((mount) => isWithin(path, mount.path))
    .toSorted((a, b) => a.path.length - b.path.length)
    .at(-1);

/** Subvolumes of btrfs are on devices of their own, mounted or not. Their uppermost folder has the number 256. */
async function subvolumesBelow(
  paths: readonly string[],
  mounts: readonly Mount[],
  signal: AbortSignal,
): Promise<string[]> {
  const from = paths.filter((path) => mountOf(path, mounts)?.type === 'btrfs');
  const find = await findProgram('find', searchPath());
  if (from.length === 0 || find === undefined) return [];
  const argv = [find, ...from, '-xdev', '-mindepth', '1', '-type', 'd', '-inum', '256', '-print0'];
  let text = '';
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
    for await (const chunk of readProcess({ argv }, limited)) text += chunk.toString('latin1');
  } catch {
    signal.throwIfAborted();
  }
  return text
    .split('\0')
    .slice(0, -1)
    .map((path) => Buffer.from(path, 'latin1').toString());
}

/** Those that would be saved if they were no file system of their own. */
function saved(found: readonly string[], paths: readonly string[], exclude: readonly string[]): string[] {
  const excluded = excluder(exclude);
  const isMeant = (path: string): boolean =>
    !paths.includes(path) &&
    paths.some(
      (from) =>
        isBelow(path, from) && !foldersTo(path).some((folder) => isBelow(folder, from) && excluded(folder)),
    );
  return [...new Set(found.filter(isMeant))];
}

const isBelow = (path: string, folder: string): boolean => path !== folder && isWithin(path, folder);

/** What nobody keeps data in, or what is only another view of it. */
const virtual = new Set(
  (
    'autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs overlay ' +
    'proc pstore rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs'
  ).split(' '),
);
