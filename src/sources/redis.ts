import { createReadStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RedisConfig } from '../config/config.ts';
import { SealiftError, systemCode } from '../errors.ts';
import { feedProcess, findProgram, output, searchPath, ToolFailure } from '../process.ts';
import { withEvidence } from './evidence.ts';
import { command, describe, explain, info, redisCli, type Server } from './redis-connection.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * A Redis server: `dump.rdb`, all its databases and functions as they were at one instant. redis-cli asks for it as a
 * replica would, so nothing on the server is changed; only where `repl-diskless-sync no` is set, it writes its own
 * dump.rdb for that.
 *
 * The dump is plaintext on disk for a while, in `context.temporary`: the server would cut off a replica that a slow
 * store keeps waiting, and would stay forked as long. It is checked there before its first byte is saved.
 */
export function redisSource(config: RedisConfig, directories?: readonly string[]): Source {
  return { name: config.name, kind: 'redis', streams: (context) => streams(config, context, directories) };
}

/** "REDIS", the version of the format; at the end the opcode EOF and a CRC-64 (zeros if `rdbchecksum no`). */
const whole = { begins: /^REDIS\d{4}/, ends: /\xff[^]{8}$/ };

async function streams(
  config: RedisConfig,
  context: SourceContext,
  directories: readonly string[] = searchPath(),
): Promise<SourceStream[]> {
  const { signal } = context;
  const { name: source, host, port, user, password, tls } = config;
  const server: Server = { host, port, user, password, tls };
  const cli = await redisCli(signal, directories);
  const facts = await info(cli.path, server, signal);
  await context.detail({ type: 'server', source, ...selfPortrait(facts), dumpedBy: cli.version });
  for (const [key, value] of facts)
    if (/^db\d+$/.test(key))
      await context.detail({ type: 'database', source, name: key.slice(2), ...numbers(value) });
  if (facts.get('redis_mode') === 'cluster')
    context.problem(
      'not-consistent',
      `${describe(server)} is one node of a cluster: its own share of the keys is saved, the other nodes need sources of their own`,
    );
  return [{ file: 'dump.rdb', open: (context) => dump(config.name, server, cli.path, directories, context) }];
}

const selfPortrait = (facts: ReadonlyMap<string, string>) => ({
  version: facts.get('redis_version'),
  mode: facts.get('redis_mode'),
  role: facts.get('role'),
  // The server that the dump goes back to needs the same ones.
  modules: facts.get('module'),
});

/** `keys=2,expires=1` */
const numbers = (value: string) =>
  Object.fromEntries(
    [...value.matchAll(/(keys|expires)=(\d+)/g)].map(([, key, count]) => [key, Number(count)]),
  );

async function* dump(
  source: string,
  server: Server,
  redisCli: string,
  directories: readonly string[],
  context: SourceContext,
): AsyncGenerator<Uint8Array, void, void> {
  const { signal } = context;
  const directory = await context.temporary();
  const path = join(directory, 'dump.rdb');
  const what = `the dump of ${describe(server)}`;
  try {
    await output(command(redisCli, server, ['--rdb', path]), signal);
    if (!(await hasBytes(path)))
      throw new SealiftError('source-empty', `${what} is empty, although redis-cli reported success`);
    const counted = await checkRdb(path, directories, signal);
    if (typeof counted === 'object') await context.detail({ type: 'redis', source, ...counted });
    const bytes = createReadStream(path, { highWaterMark: 1024 * 1024, signal }) as AsyncIterable<Buffer>;
    yield* withEvidence(bytes, what, whole);
  } catch (error) {
    signal.throwIfAborted();
    throw explain(error, server);
  } finally {
    // Early, to give the room back. The run removes it too, so a failure here shall not hide another error.
    await rm(directory, { recursive: true, force: true }).catch(() => {});
  }
}

const hasBytes = (path: string): Promise<boolean> =>
  stat(path).then(
    ({ size }) => size > 0,
    (error: unknown) => {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    },
  );

/** What redis-check-rdb tells of a dump. `databases`: how many a server has to have for it, by the number of the last. */
interface Counts {
  readonly keys: number;
  readonly expires: number;
  readonly databases: number;
}

/**
 * Has redis-check-rdb, where there is one, read the whole dump (a file, or its bytes): structure and checksum. Throws
 * `source-damaged`. Undefined if it is missing; `too-new` if the dump is of a newer format than it knows.
 */
async function checkRdb(
  dump: string | AsyncIterable<Uint8Array>,
  directories: readonly string[],
  signal: AbortSignal,
): Promise<Counts | 'too-new' | undefined> {
  const program = await findProgram('redis-check-rdb', directories);
  if (program === undefined) return undefined;
  try {
    const { stdout } =
      typeof dump === 'string'
        ? await output({ argv: [program, dump] }, signal)
        : // It opens what it reads by a name, which Node's pipes, being sockets, do not allow.
          await feedProcess({ argv: ['sh', '-c', 'cat | "$0" /dev/stdin', program] }, dump, signal);
    const count = (what: string) => Number(new RegExp(`(\\d+) ${what}`).exec(stdout)?.[1] ?? 0);
    const numbers = [...stdout.matchAll(/Selecting DB ID (\d+)$/gm)].map(([, number]) => Number(number));
    const databases = numbers.reduce((most, number) => Math.max(most, number + 1), 0);
    return { keys: count('keys read'), expires: count('expires'), databases };
  } catch (cause) {
    signal.throwIfAborted();
    if (!(cause instanceof SealiftError && cause.cause instanceof ToolFailure)) throw cause;
    const said = cause.cause.stdout;
    if (/Can't handle RDB format version/.test(said)) return 'too-new';
    const [, reason = 'it does not say why'] =
      /ERROR DETECTED ---\n(?:\[offset \d+\] )?(.*)/.exec(said) ?? [];
    throw new SealiftError('source-damaged', `redis-check-rdb finds the dump damaged: ${reason}`, { cause });
  }
}

/** The same before a load, of the dump that comes from a snapshot. */
export function checkToLoad(
  dump: string | AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): ReturnType<typeof checkRdb> {
  return checkRdb(dump, searchPath(), signal).catch((error: unknown) => {
    if (!(error instanceof SealiftError && error.code === 'source-damaged')) throw error;
    throw new SealiftError('restore-failed', error.message, { cause: error.cause });
  });
}
