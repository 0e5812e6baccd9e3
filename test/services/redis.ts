import assert from 'node:assert/strict';
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

/** What changes when any key, value or time to live does: the server's own digest, and what it leaves out. */
export function contentOf({ cli }: RedisService): string[] {
  return [0, 3, 15]
    .flatMap((db) => [
      cli(['-n', String(db), 'DEBUG', 'DIGEST']).toString(),
      cli(['-n', String(db), 'DBSIZE']).toString(),
    ])
    .concat(
      cli(['-n', '3', 'PEXPIRETIME', 'session']).toString(),
      cli(['XINFO', 'STREAM', 'events', 'FULL']).toString(),
      cli(['--raw', 'GET', binaryKey]).toString('hex'),
      cli(['FUNCTION', 'LIST']).toString(),
    );
}

const binaryKey = 'kéy "with" spaces\n%41';

const resp = (...parts: (string | Buffer)[]): Buffer =>
  Buffer.concat([
    Buffer.from(`*${parts.length}\r\n`),
    ...parts.flatMap((part) => [
      Buffer.from(`$${Buffer.byteLength(part)}\r\n`),
      Buffer.from(part),
      Buffer.from('\r\n'),
    ]),
  ]);

export function fill({ cli }: RedisService): void {
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const library = '#!lua name=lib\nredis.register_function("f", function() return 1 end)';
  const commands = [
    resp('SET', 'string', 'value'),
    resp('SET', binaryKey, every),
    resp('SET', every, 'a key of every byte'),
    resp('HSET', 'hash', 'a', '1', 'b', every),
    resp('RPUSH', 'list', ...Array.from({ length: 2000 }, (_, n) => `item ${n}`)),
    resp('SADD', 'set', 'x', 'y', every),
    resp('ZADD', 'sorted', '1.5', 'one', '-inf', 'least'),
    resp('XADD', 'events', '1-1', 'field', 'value'),
    resp('XADD', 'events', '1-2', 'field', 'value 2'),
    resp('XGROUP', 'CREATE', 'events', 'group', '0'),
    resp('XREADGROUP', 'GROUP', 'group', 'me', 'COUNT', '1', 'STREAMS', 'events', '>'),
    resp('PFADD', 'count', 'a', 'b'),
    resp('FUNCTION', 'LOAD', library),
    resp('SELECT', '3'),
    resp('SET', 'session', 'token', 'EX', '100000'),
    resp('SELECT', '15'),
    ...Array.from({ length: 3000 }, (_, n) => resp('SET', `key:${n}`, `value ${n}`)),
  ];
  const said = cli(['--pipe'], Buffer.concat(commands)).toString();
  assert.match(said, /errors: 0, /);
}
