import { readFile } from 'node:fs/promises';
import type { Config, SourceConfig } from '../config/config.ts';
import { excluder } from '../sources/files-exclude.ts';
import { foldersTo, isWithin } from '../sources/within.ts';
import type { Checkup } from './doctor-checkup.ts';

/** Warns of file systems that are mounted below the paths of trees, which are not gone into unless that is asked for. */
export async function checkMounts(checkup: Checkup, { jobs }: Config): Promise<void> {
  const mountInfo = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  for (const job of jobs)
    for (const source of job.sources)
      for (const mount of leftOut(source, mountInfo))
        checkup.add(
          'source',
          `${job.name}/${source.name}`,
          'warning',
          `${mount} is a file system of its own, and not saved`,
          'name it among `paths`, set oneFileSystem: false, or exclude it',
        );
}

function leftOut(source: SourceConfig, mountInfo: string): string[] {
  if (source.kind !== 'system' && !(source.kind === 'files' && source.oneFileSystem)) return [];
  return mountsBelow(source.paths, source.exclude, mountInfo);
}

/** By `/proc/self/mountinfo` (proc(5)): what holds data, lies below one of the paths, and is on another device than that. */
export function mountsBelow(
  paths: readonly string[],
  exclude: readonly string[],
  mountInfo: string,
): string[] {
  const mounts = mountInfo.split('\n').flatMap((line) => {
    const [, , device, , point] = line.split(' ');
    const type = / - (\S+)/.exec(line)?.[1];
    if (device === undefined || point === undefined || type === undefined) return [];
    const path = point.replaceAll(/\\(\d{3})/g, (_, octal: string) =>
      String.fromCharCode(parseInt(octal, 8)),
    );
    return [{ device, path, type }];
  });
  const deviceOf = (path: string): string | undefined =>
    mounts
      .filter((mount) => isWithin(path, mount.path))
      .toSorted((a, b) => a.path.length - b.path.length)
      .at(-1)?.device;
  const excluded = excluder(exclude);
  const found = paths.flatMap((from) =>
    mounts
      .filter(
        ({ path, type, device }) => isBelow(path, from) && !virtual.has(type) && device !== deviceOf(from),
      )
      .filter(
        ({ path }) =>
          !paths.includes(path) &&
          !foldersTo(path).some((folder) => isBelow(folder, from) && excluded(folder)),
      )
      .map(({ path }) => path),
  );
  return [...new Set(found)];
}

const isBelow = (path: string, folder: string): boolean => path !== folder && isWithin(path, folder);

/** What nobody keeps data in, or what is only another view of it. */
const virtual = new Set(
  (
    'autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs overlay ' +
    'proc pstore rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs'
  ).split(' '),
);
