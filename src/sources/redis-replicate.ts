import { connect } from 'node:net';
import { once } from 'node:events';
import { countOf } from '../count-of.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { output } from '../process.ts';
import { isAtLeast } from './at-least.ts';
import { inOrder } from './load-failure.ts';
import { command, describe, explain, info, redisCli, type Server } from './redis-connection.ts';
import { RedisMaster } from './redis-master.ts';
import { checkToLoad } from './redis.ts';
import type { LoadContext, LoadStream } from './source.ts';
import { parseTargetUrl, type TargetForm } from './target-url.ts';

/** A replica connects within a second; a firewall swallows for ever. */
const connectWaitMs = 30_000;

/**
 * `redis://user@host:port`, or `redis://?host=/run/redis/redis.sock&user=NAME`: loads a dump into a server that runs, which for
 * this replicates once from sealift, and is a master again then. Nothing is written to a disk of this machine, and it
 * does not matter whether the server keeps a log of changes (AOF).
 *
 * The server has to reach this machine, over the address by which this machine reaches the server. Refused with
 * `target-exists` if it holds a key, unless forced: then all of its data is replaced. If the dump does not arrive whole,
 * the server is as it was; an error says what it is. Returns what was done.
 */
export async function replicate(
  into: string,
  stream: LoadStream,
  { force, signal, password }: Pick<LoadContext, 'force' | 'signal' | 'password'>,
): Promise<{ lines: string[] }> {
  const server = { ...parseTarget(into), password };
  const cli = (await redisCli(signal)).path;
  const facts = await info(cli, server, signal);
  const before = keysOf(facts);
  refuse(server, facts, { force, keys: before });
  await refuseNewer(server, stream, facts);
  const ask = (words: readonly string[], how = signal) => say(cli, server, words, how);
  if ((await ask(['CONFIG', 'GET', 'tls-replication'])).endsWith('yes'))
    throw new SealiftError('usage', `${describe(server)} replicates over TLS, which sealift does not speak`, {
      hint: `CONFIG SET tls-replication no for as long as the load takes; or ${byFile}`,
    });
  // Of a master it changes nothing; one that refuses it is left before anything has to be undone.
  await ask(['REPLICAOF', 'NO', 'ONE']);
  const has = Number((await ask(['CONFIG', 'GET', 'databases'])).split('\n')[1]);
  const notes = await refuseLarger(server, stream, has, signal);

  await using master = new RedisMaster(() => stream.open());
  const address = await addressTowards(server, signal);
  const port = await master.listen(address);
  // Until here it may have been in use for hours.
  const asMaster = await info(cli, server, signal);
  try {
    await using undo = new AsyncDisposableStack();
    // Has a signal of its own: an interrupted load has to be cleaned up too. In reverse order.
    for (const name of ['masterauth', 'masteruser', 'repl-timeout']) {
      const value = (await ask(['CONFIG', 'GET', name])).slice(name.length + 1);
      undo.defer(async () => void (await ask(['CONFIG', 'SET', name, value], AbortSignal.timeout(60_000))));
    }
    await ask(['CONFIG', 'SET', 'masteruser', '']);
    await ask(['CONFIG', 'SET', 'masterauth', master.secret]);
    // It gives up on a master that is silent for longer, as while a slow store is waited for.
    await ask(['CONFIG', 'SET', 'repl-timeout', String(24 * 60 * 60)]);
    undo.defer(async () => void (await ask(['REPLICAOF', 'NO', 'ONE'], AbortSignal.timeout(60_000))));
    // Before that: what has not arrived by now shall not arrive.
    undo.defer(() => master[Symbol.asyncDispose]());
    await ask(['REPLICAOF', address, String(port)]);
    await master.fetched(connectWaitMs, signal);
  } catch (error) {
    throw await withState(error, before, server, cli, `${address}, port ${port}`);
  }
  const now = await info(cli, server, signal);
  const loaded = `${describe(server)} loaded: it holds ${countOf(keysOf(now), 'key')} now`;
  return { lines: [loaded, ...evicted(asMaster, now), ...notes] };
}

/** As a replica it takes all of a dump; as a master again it keeps to its `maxmemory`. */
function evicted(before: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): string[] {
  const [had = 0, has = 0] = [before, now].map((facts) => Number(facts.get('evicted_keys') ?? 0));
  if (has <= had) return [];
  const limit = `maxmemory ${now.get('maxmemory_human')}, ${now.get('maxmemory_policy')}`;
  return [
    `it has no room for all of the dump (${limit}), and evicts: ${countOf(has - had, 'key')} so far; raise maxmemory, and load again`,
  ];
}

const form: TargetForm = {
  schemes: ['redis'],
  example: 'redis://user@host:port',
  hint: 'for a socket: redis://?host=/run/redis/redis-server.sock&user=NAME; all databases of the dump are loaded',
  parameters: ['host', 'user'],
  passwordFrom: 'REDISCLI_AUTH',
};

export function parseTarget(into: string): Server {
  const { host, port, user, database } = parseTargetUrl(into, form);
  if (database === undefined) return { host, port, user };
  throw new SealiftError('usage', `the URL must look like ${form.example}`, { hint: form.hint });
}

const keysOf = (facts: ReadonlyMap<string, string>): number =>
  [...facts]
    .filter(([name]) => /^db\d+$/.test(name))
    .reduce((sum, [, value]) => sum + Number(/keys=(\d+)/.exec(value)?.[1] ?? 0), 0);

const byFile = 'stop it and load the file instead: --into redis:/var/lib/redis/dump.rdb';

const ofKilledLoad =
  'its master does not answer: if that was a restore that was killed, then redis-cli REPLICAOF NO ONE, and ' +
  'CONFIG SET masterauth, masteruser and repl-timeout to what redis.conf has';

function refuse(
  server: Server,
  facts: ReadonlyMap<string, string>,
  { force, keys }: { force: boolean; keys: number },
): void {
  if (facts.get('redis_mode') === 'cluster')
    throw new SealiftError('usage', `${describe(server)} is a node of a cluster`, { hint: byFile });
  if (facts.get('role') !== 'master')
    throw new SealiftError('usage', `${describe(server)} is a replica: load into its master`, {
      hint: facts.get('master_link_status') === 'down' ? ofKilledLoad : undefined,
    });
  if (keys > 0 && !force)
    throw new SealiftError(
      'target-exists',
      `${describe(server)} is not empty: it holds ${countOf(keys, 'key')}`,
      { hint: 'use --force: all of its data is replaced' },
    );
}

/** A server that meets a format it does not know has given up its own data by then. */
async function refuseNewer(
  server: Server,
  stream: LoadStream,
  facts: ReadonlyMap<string, string>,
): Promise<void> {
  let head = '';
  for await (const chunk of stream.open()) {
    head += Buffer.from(chunk.subarray(0, 200)).toString('latin1');
    if (head.length >= 100) break;
  }
  if (!/^REDIS\d{4}/.test(head))
    throw new SealiftError('restore-failed', 'the stream is no dump of a Redis server');
  const dumped = /redis-ver.(\d+\.\d+)/.exec(head)?.[1] ?? '0.0';
  const version = facts.get('redis_version') ?? '0.0';
  const [major = 0, minor = 0] = dumped.split('.').map(Number);
  if (isAtLeast(version, major, minor)) return;
  throw new SealiftError(
    'restore-failed',
    `the dump is of Redis ${dumped}, and ${describe(server)} is the older ${version}, which may not read it`,
    { hint: `load it into a Redis ${dumped} or newer` },
  );
}

/**
 * A server that meets the number of a database which it does not have ends itself, without its own data. Only the whole
 * dump tells the numbers, so it is read once more than for the load, and one that is damaged is noticed here too. Returns
 * what could not be found out.
 */
async function refuseLarger(
  server: Server,
  stream: LoadStream,
  has: number,
  signal: AbortSignal,
): Promise<string[]> {
  const counts = await checkToLoad(stream.open(), signal);
  if (counts === undefined) return ['redis-check-rdb is not installed here: the dump was not checked before'];
  if (counts === 'too-new')
    return ['the dump is of a newer format than redis-check-rdb here knows, and was not checked before'];
  if (counts.databases <= has) return [];
  throw new SealiftError(
    'restore-failed',
    `the dump has a database ${counts.databases - 1}, and ${describe(server)} has only ${has} databases, from 0 on`,
    { hint: `set "databases ${counts.databases}" in redis.conf and restart it` },
  );
}

/** Our own address as the server sees it; over a socket it is on this machine. */
async function addressTowards(server: Server, signal: AbortSignal): Promise<string> {
  const { host = '127.0.0.1', port = 6379 } = server;
  if (host.startsWith('/')) return '127.0.0.1';
  const socket = connect({ host, port });
  try {
    await once(socket, 'connect', { signal });
    return socket.localAddress ?? '127.0.0.1';
  } finally {
    socket.destroy();
  }
}

const hex = (word: string): string => `"${Buffer.from(word).toString('hex').replace(/../g, '\\x$&')}"`;

/** Each word as hex, on standard input: whatever is in it, it is one word, and it is in no argument. */
async function say(
  cli: string,
  server: Server,
  words: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const { stdout } = await output(command(cli, server, [], `${words.map(hex).join(' ')}\n`), signal).catch(
    (error: unknown) => {
      throw explain(error, server);
    },
  );
  const answer = stdout.replace(/\n$/, '');
  // Errors are printed like answers. A setting that this server does not have has none.
  if (words[1] === 'GET' ? answer === '' || answer.startsWith(words[2]!) : answer.startsWith('OK'))
    return answer;
  throw new SealiftError(
    /^(NOAUTH|NOPERM|WRONGPASS)/.test(answer) ? 'source-denied' : 'restore-failed',
    `${describe(server)} refuses ${words.slice(0, 2).join(' ')}: ${answer.split('\n')[0]}`,
    { hint: `the login has to be allowed CONFIG and REPLICAOF; or ${byFile}` },
  );
}

/** Adds what the server is after a load that failed. */
async function withState(
  failure: unknown,
  before: number,
  server: Server,
  cli: string,
  place: string,
): Promise<unknown> {
  const [error, undoing] = inOrder(failure);
  if (!(error instanceof SealiftError)) return error;
  const keys = await info(cli, server, AbortSignal.timeout(10_000)).then(keysOf, () => undefined);
  const state =
    keys === undefined
      ? 'it does not answer now'
      : keys === before
        ? `it holds ${countOf(keys, 'key')}, as before`
        : `it held ${countOf(before, 'key')}, and holds ${keys} now`;
  const left =
    undoing === undefined
      ? ''
      : `; it still has to be told REPLICAOF NO ONE, and its masterauth, masteruser and repl-timeout set again: ${messageOf(undoing)}`;
  return new SealiftError(
    error.code,
    `loading into ${describe(server)} failed: ${error.message}; ${state}${left}`,
    { hint: error.hint ?? `it has to reach this machine at ${place}; or ${byFile}`, cause: error.cause },
  );
}
