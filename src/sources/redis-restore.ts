import { readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { countOf } from '../count-of.ts';
import { syncFolder } from '../durable.ts';
import { SealiftError } from '../errors.ts';
import { draftIn } from './drafts.ts';
import { processesNamed, standsIn } from './processes.ts';
import { replicate } from './redis-replicate.ts';
import { checkToLoad } from './redis.ts';
import type { Loader, LoadContext, LoadStream } from './source.ts';
import { targetPath } from './target-url.ts';
import { writeBeside } from './write-beside.ts';

export const redisLoader: Loader = {
  kind: 'redis',
  takesSeveral: false,
  passwordVariable: 'REDISCLI_AUTH',
  load: (into, streams, context) =>
    /^redis:\/\/(?!\/)/i.test(into)
      ? replicate(into, streams[0]!, context)
      : placeRdb(into, streams[0]!, context),
};

/** Debian's, and those that went on from it. Each stands in the folder of its files. */
const servers = /^(redis|valkey|keydb)/;

/**
 * `redis:/var/lib/redis/dump.rdb`: puts the dump where a server that is stopped reads it when it starts. Written and
 * checked beside the target, which is replaced in one step, or not at all.
 *
 * Refused while a server runs in that folder, which would write its own data over it when it ends. An existing file,
 * or a log of changes (AOF) that the server would read instead, is refused with `target-exists` unless forced. The new
 * file has the owner and mode of the old one, or the owner of the folder. Returns what was done and what is to be done.
 */
export async function placeRdb(
  into: string,
  stream: LoadStream,
  { force, signal }: Pick<LoadContext, 'force' | 'signal'>,
): Promise<{ lines: string[] }> {
  const target = resolve(targetPath(into, 'redis'));
  const folder = dirname(target);
  const previous = await stat(target).catch(() => undefined);
  if (previous?.isFile() === false) throw new SealiftError('target-exists', `${target} is not a file`);
  const { uid, gid } = previous ?? (await stat(folder));
  const mode = previous === undefined ? 0o640 : previous.mode;
  const log = await appendOnlyLog(folder);
  if (!force) refuseToOverwrite(target, previous !== undefined, log);
  await refuseWhileRunning(folder);

  const written = draftIn(folder);
  let note: string[];
  try {
    await writeBeside(written, stream.open(), dump, { uid, gid, mode }, signal);
    note = await check(written, signal);
    await refuseWhileRunning(folder);
    signal.throwIfAborted();
    await rename(written, target);
    await syncFolder(folder);
  } finally {
    await rm(written, { force: true });
  }
  return { lines: [`${target} ${previous === undefined ? 'made' : 'replaced'}`, ...note, ...nextSteps(log)] };
}

/** Redis 7 keeps a folder of them, older ones a file. */
async function appendOnlyLog(folder: string): Promise<string | undefined> {
  for (const name of ['appendonlydir', 'appendonly.aof']) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found?.isDirectory() === true ? (await readdir(path)).length > 0 : (found?.size ?? 0) > 0)
      return path;
  }
  return undefined;
}

function refuseToOverwrite(target: string, exists: boolean, log: string | undefined): void {
  if (exists)
    throw new SealiftError('target-exists', `${target} exists`, {
      hint: 'give another path, or use --force',
    });
  if (log !== undefined)
    throw new SealiftError(
      'target-exists',
      `${log} exists, and the server would read it instead of ${target}`,
      { hint: 'move it away first, or use --force and move it away afterwards' },
    );
}

async function refuseWhileRunning(folder: string): Promise<void> {
  for (const server of await processesNamed(servers))
    if (await standsIn(server, folder))
      throw new SealiftError(
        'target-exists',
        `${server.name} (process ${server.pid}) is at work in ${folder}, and when it ends it writes its own data there`,
        { hint: 'stop it first: systemctl stop redis-server' },
      );
}

const dump = { what: 'dump of a Redis server', begins: /^REDIS\d{4}/ };

/** With the redis that is installed here, if one is. */
async function check(path: string, signal: AbortSignal): Promise<string[]> {
  const result = await checkToLoad(path, signal);
  if (result === undefined) return [];
  if (result === 'too-new')
    return ['the dump is of a newer Redis than the one installed here, which cannot read it'];
  return [`redis-check-rdb read all of it: ${countOf(result.keys, 'key')}`];
}

function nextSteps(log: string | undefined): string[] {
  return [
    'start the server; with "appendonly yes" it ignores the file, so then, once:',
    ...(log === undefined ? [] : [`  mv ${log} ${log}.before-restore`]),
    '  set "appendonly no" in redis.conf and start the server',
    '  redis-cli CONFIG SET appendonly yes; wait until INFO persistence says aof_rewrite_in_progress:0',
    '  set "appendonly yes" in redis.conf again',
  ];
}
