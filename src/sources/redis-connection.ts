import type { Secret } from '../config/secrets.ts';
import { SealiftError } from '../errors.ts';
import { findProgram, output, searchPath, ToolFailure } from '../process.ts';
import type { Explanation } from './explanation.ts';
import { type Tls, withTls } from './tls.ts';

/** How redis-cli reaches one server. */
export interface Server {
  /** A host name, or the path of a socket; 127.0.0.1 if there is none. */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  /** A user of its access control list; without one the password is that of the user `default`. */
  readonly user?: string | undefined;
  readonly password?: Secret | undefined;
  readonly tls?: Tls | undefined;
}

/** The oldest redis-cli that knows users, and takes the password from where only it can read it. */
const oldestMajor = 6;

/** redis-cli, from the first directory that has one. */
export async function redisCli(
  signal: AbortSignal,
  directories: readonly string[] = searchPath(),
): Promise<{ path: string; version: string }> {
  const hint = 'apt-get install redis-tools';
  const path = await findProgram('redis-cli', directories);
  if (path === undefined) throw new SealiftError('tool-missing', 'redis-cli is not installed', { hint });
  const { stdout } = await output({ argv: [path, '--version'] }, signal);
  const version = /\d+[.\w]*/.exec(stdout)?.[0] ?? '0';
  if (parseInt(version, 10) >= oldestMajor) return { path, version };
  throw new SealiftError(
    'tool-too-old',
    `redis-cli is ${version}, and ${oldestMajor} is the oldest that will do`,
    { hint: `${hint} (from a newer Debian, or packages.redis.io)` },
  );
}

/** A call of redis-cli. The password is in its environment alone, which nobody but its user and root can read. */
export function command(redisCli: string, server: Server, args: readonly string[], input?: string) {
  const { host, port, user, password, tls } = server;
  const where = host?.startsWith('/') ? ['-s', host] : [...option('-h', host), ...option('-p', port)];
  const secured = tls === undefined ? [] : ['--tls', '--cacert', tls.ca];
  const env = password === undefined ? {} : { REDISCLI_AUTH: forEnvironment(password) };
  return { argv: [redisCli, ...where, ...secured, ...option('--user', user), ...args], env, input };
}

/** Node would repeat the value that it cannot pass on. */
function forEnvironment(password: Secret): string {
  const text = password.reveal();
  if (!text.includes('\0')) return text;
  throw new SealiftError('config-invalid', 'a password for Redis cannot hold a NUL byte');
}

const option = (flag: string, value: string | number | undefined): string[] =>
  value === undefined ? [] : [flag, String(value)];

/** What the server says of itself (https://redis.io/commands/info), by its names. */
export async function info(
  redisCli: string,
  server: Server,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const patience = server.tls === undefined ? undefined : AbortSignal.timeout(answerMs);
  const within = patience === undefined ? signal : AbortSignal.any([signal, patience]);
  const asking = output(command(redisCli, server, ['INFO']), within);
  const { stdout, stderr } = await asking.catch((error: unknown) => {
    throw patience?.aborted === true && !signal.aborted ? silent(server) : explain(error, server);
  });
  const facts = new Map(
    stdout.split(/\r?\n/).flatMap((line) => {
      const colon = line.startsWith('#') ? -1 : line.indexOf(':');
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const];
    }),
  );
  // Where the server lets in anybody, redis-cli goes on without the login that was refused; for a dump it does not.
  const [refused] = /^AUTH failed.*$/m.exec(stderr) ?? [];
  if (refused !== undefined) throw explained(refused, server, undefined);
  if (facts.has('redis_version')) return facts;
  // An error that the server answers is printed like an answer, with exit status 0.
  const words = `${stderr}\n${stdout}`
    .trim()
    .split(/\s*\n\s*/)
    .slice(-2)
    .join('; ');
  throw explained(words || 'it answered nothing', server, undefined);
}

/** A server that is asked by TLS where it speaks none waits for more, and redis-cli for an answer. */
const answerMs = 20_000;

const silent = (server: Server): SealiftError =>
  new SealiftError('source-unavailable', `${describe(server)} did not answer within ${answerMs / 1000} s`, {
    hint: 'does it speak TLS on that port (tls-port in redis.conf), or is it busy?',
  });

const explanations: readonly Explanation[] = [
  {
    says: /without any password configured/,
    code: 'source-denied',
    hint: 'the server asks for no password: leave it out, or set one there',
  },
  {
    says: /NOPERM/,
    code: 'source-denied',
    hint: 'ACL SETUSER name +info +sync +replconf, and ACL SAVE or the same in redis.conf',
  },
  {
    says: /unknown command/,
    code: 'source-denied',
    hint: 'rename-command in redis.conf has taken away what is needed (for a dump: INFO and SYNC), or this is no Redis',
  },
  {
    says: /NOAUTH|WRONGPASS|invalid (username|password)|AUTH failed/,
    code: 'source-denied',
    hint: 'check user and password: requirepass in redis.conf, or ACL LIST',
  },
  {
    says: /DENIED|Permission denied/,
    code: 'source-denied',
    hint: 'the server is in protected mode, or this user may not open its socket',
  },
  {
    says: /No space left|Error writing data to file|fsync/i,
    code: 'failed',
    hint: 'the temporary folder needs as much free room as the dump is large',
  },
  {
    says: /NOMASTERLINK|MASTERDOWN/,
    code: 'source-unavailable',
    hint: 'it is a replica that has lost its master: see INFO replication',
  },
  {
    says: /LOADING|Could not connect|Connection re|closed the connection|I\/O Error|Error reading|SYNC with master failed/i,
    code: 'source-unavailable',
    hint: 'is the server running, and are host and port right? Its log may say more',
  },
];

const tlsRefused = /SSL_connect failed|negotiate a TLS connection/;

/** It takes the connection, and drops it once no certificate has come. */
const clientCertificate: Explanation = {
  says: /Connection reset|closed the connection/,
  code: 'source-unavailable',
  hint: 'does it ask for a certificate of the client, of which sealift has none? Then: tls-auth-clients no, in redis.conf',
};

/** Tells what redis-cli's messages mean. Anything that is not a program's failure is given back as it is. */
export function explain(error: unknown, server: Server): unknown {
  if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) return error;
  return explained(error.message, server, error.cause);
}

function explained(words: string, server: Server, cause: ToolFailure | undefined): SealiftError {
  const others = server.tls === undefined ? explanations : [clientCertificate, ...explanations];
  const possible = withTls(server.tls, tlsRefused, others);
  const known = possible.find(({ says }) => says.test(cause?.stderr ?? words));
  return new SealiftError(known?.code ?? 'tool-failed', `${describe(server)}: ${words}`, {
    hint: known?.hint,
    cause,
  });
}

export function describe({ host = '127.0.0.1', port }: Server): string {
  return `the Redis server at ${host}${port === undefined ? '' : `, port ${port}`}`;
}
