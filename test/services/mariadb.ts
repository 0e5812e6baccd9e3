import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

export interface MariadbService {
  /** The Unix socket; the system user root, or whoever runs the tests, is the superuser there. */
  socket: string;
  port: number;
  /** TCP asks for the password. */
  tcpHost: string;
  /** A superuser with a password. */
  user: string;
  password: string;
}

/** A MariaDB server with all its files below `dir`, which must exist. */
export async function startMariadb(
  dir: string,
  signal?: AbortSignal,
  settings: readonly string[] = [],
): Promise<MariadbService & AsyncDisposable> {
  // The server refuses to run as root.
  const owner = process.getuid?.() === 0 ? 'mysql' : undefined;
  const logDir = join(dir, 'log');
  const dataDir = join(dir, 'data');
  const socketDir = join(dir, 'socket');
  await chmod(dir, 0o711);
  // A server that starts removes the temporary tables of all others from a folder that they share.
  const TMPDIR = join(dir, 'tmp');
  for (const path of [logDir, dataDir, socketDir, TMPDIR]) await mkdir(path);
  if (owner) execFileSync('chown', [owner, dataDir, socketDir, TMPDIR]);
  // Tests may connect as any user.
  await chmod(socketDir, 0o755);

  const group = new ServerGroup(logDir, signal);
  try {
    const [port = 0] = await freePorts(1);
    const [user, password] = ['admin', randomBytes(12).toString('hex')];
    const socket = join(socketDir, 's');
    await group.run({
      command: 'mariadb-install-db',
      args: [
        '--no-defaults',
        `--datadir=${dataDir}`,
        '--auth-root-authentication-method=socket',
        `--auth-root-socket-user=${owner ?? userInfo().username}`,
        '--skip-test-db',
      ],
      user: owner,
      env: { TMPDIR },
    });
    const args = [
      '--no-defaults',
      `--datadir=${dataDir}`,
      `--socket=${socket}`,
      `--pid-file=${join(dataDir, 'pid')}`,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      // Nothing here outlives the run.
      '--innodb-flush-log-at-trx-commit=0',
      '--innodb-doublewrite=0',
      '--innodb-fast-shutdown=3',
      ...settings,
    ];
    await group.start('mariadbd', { command: 'mariadbd', args, user: owner, env: { TMPDIR } }, 'SIGTERM');
    // By stdin, because ps shows arguments to everybody.
    const input = `CREATE USER IF NOT EXISTS ${user}@'%' IDENTIFIED BY '${password}'; GRANT ALL ON *.* TO ${user}@'%' WITH GRANT OPTION; GRANT PROXY ON ''@'%' TO ${user}@'%' WITH GRANT OPTION;`;
    const client = { command: 'mariadb', args: ['--no-defaults', `--socket=${socket}`] };
    await group.until(() => group.run({ ...client, user: owner, input }));
    const service = { socket, port, tcpHost: '127.0.0.1', user, password };
    return { ...service, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw group.failure('MariaDB', error);
  }
}
