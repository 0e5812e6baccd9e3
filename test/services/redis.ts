import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

export interface RedisService {
  port: number;
  socket: string;
  /** Where it keeps dump.rdb and its logs of changes. */
  dataDir: string;
  /** Of the user `default`. */
  password: string;
  /** What redis-cli prints; the password goes by its environment. */
  cli(args: readonly string[], input?: string | Buffer): Buffer;
}

/** A Redis server with its files below `dir`, in a data folder that may hold a dump to start from. */
export async function startRedis(
  dir: string,
  { appendOnly = false, settings = [] as readonly string[] } = {},
): Promise<RedisService & AsyncDisposable> {
  const owner = process.getuid?.() === 0 ? 'redis' : undefined;
  const dataDir = join(dir, 'data');
  const logDir = join(dir, 'log');
  const socket = join(dir, 'socket');
  await chmod(dir, 0o755);
  for (const path of [dataDir, logDir]) await mkdir(path, { recursive: true });
  if (owner) execFileSync('chown', ['-R', owner, dataDir, dir]);

  const [port = 0] = await freePorts(1);
  const password = randomBytes(12).toString('hex');
  const conf = join(dir, 'redis.conf');
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `unixsocket ${socket}`,
    `dir ${dataDir}`,
    `requirepass ${password}`,
    `appendonly ${appendOnly ? 'yes' : 'no'}`,
    'save 3600 1',
    // Otherwise a dump waits for more replicas to come: for five seconds, or with 0 for the next second.
    'repl-diskless-sync no',
    'repl-diskless-sync-delay 0',
    'enable-debug-command yes',
    ...settings,
  ];
  await writeFile(conf, `${lines.join('\n')}\n`, { mode: 0o644 });
  const cli: RedisService['cli'] = (args, input) =>
    execFileSync('redis-cli', ['-s', socket, ...args], {
      env: { PATH: process.env['PATH'], REDISCLI_AUTH: password },
      maxBuffer: 2 ** 28,
      ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
    });
  const group = new ServerGroup(logDir);
  try {
    await group.start('redis', { command: 'redis-server', args: [conf], user: owner }, 'SIGTERM');
    await group.until(async () => {
      if (cli(['PING']).toString() !== 'PONG\n') throw new Error('it does not answer yet');
    });
    return {
      port,
      socket,
      dataDir,
      password,
      cli,
      [Symbol.asyncDispose]: () => group[Symbol.asyncDispose](),
    };
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw group.failure('Redis', error);
  }
}
