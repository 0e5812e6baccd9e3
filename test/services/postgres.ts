import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { appendFile, chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

export interface PostgresService {
  /** The directory of the Unix socket; whoever connects there is trusted. */
  host: string;
  port: number;
  /** TCP asks for the password (scram-sha-256). */
  tcpHost: string;
  /** A superuser. */
  user: string;
  password: string;
  /** Where this server's psql, pg_dump and pg_restore are. */
  binDir: string;
}

/**
 * A PostgreSQL server of the newest installed version, with all its files below `dir`, which must exist; on a free port
 * unless one is given.
 */
export async function startPostgres(
  dir: string,
  signal?: AbortSignal,
  wantedPort?: number,
): Promise<PostgresService & AsyncDisposable> {
  // The server and initdb refuse to run as root.
  const owner = process.getuid?.() === 0 ? 'postgres' : undefined;
  const logDir = join(dir, 'log');
  const dataDir = join(dir, 'data');
  const socketDir = join(dir, 'socket');
  await chmod(dir, 0o711);
  for (const path of [logDir, dataDir, socketDir]) await mkdir(path);
  if (owner) execFileSync('chown', [owner, dataDir, socketDir]);
  // Tests may connect as any user.
  await chmod(socketDir, 0o755);

  const group = new ServerGroup(logDir, signal);
  try {
    const binDir = newestBinDir();
    const port = wantedPort ?? (await freePorts(1))[0]!;
    const user = 'postgres';
    const password = randomBytes(12).toString('hex');

    const cluster = ['--pgdata', dataDir, '--username', user, '--encoding=UTF8', '--locale=C.UTF-8'];
    const authentication = ['--auth-local=trust', '--auth-host=scram-sha-256'];
    const args = [...cluster, ...authentication, '--no-sync', '--no-instructions'];
    await group.run({ command: join(binDir, 'initdb'), args, user: owner });
    await appendFile(
      join(dataDir, 'postgresql.conf'),
      [
        `port = ${port}`,
        `listen_addresses = '127.0.0.1'`,
        `unix_socket_directories = '${socketDir}'`,
        // Nothing here outlives the run.
        'fsync = off',
        'full_page_writes = off',
        '',
      ].join('\n'),
    );
    const server = { command: join(binDir, 'postgres'), args: ['-D', dataDir], user: owner };
    // SIGINT is the fast shutdown: connections are cut, shared memory is given back.
    await group.start('postgres', server, 'SIGINT');

    const connection = ['--host', socketDir, '--port', String(port), '--username', user, '--no-psqlrc'];
    const psql = { command: join(binDir, 'psql'), args: [...connection, '--quiet', 'postgres'] };
    // By stdin, because ps shows arguments to everybody.
    await group.until(() => group.run({ ...psql, input: `ALTER USER ${user} PASSWORD '${password}';` }));
    const service = { host: socketDir, port, tcpHost: '127.0.0.1', user, password, binDir };
    return { ...service, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw group.failure('PostgreSQL', error);
  }
}

function newestBinDir(): string {
  const root = '/usr/lib/postgresql';
  const versions = (existsSync(root) ? readdirSync(root) : [])
    .map(Number)
    .filter((version) => existsSync(join(root, String(version), 'bin', 'initdb')));
  if (versions.length === 0) throw new Error(`no initdb below ${root}`);
  return join(root, String(Math.max(...versions)), 'bin');
}
