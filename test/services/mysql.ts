import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

export interface MysqlService {
  /** The Unix socket; root is the superuser there, without a password. */
  readonly socket: string;
  readonly port: number;
  /** TCP asks for the password of this superuser. */
  readonly tcpHost: string;
  readonly user: string;
  readonly password: string;
}

/**
 * MySQL itself, which Debian's stable releases do not have: a folder with a root file system that holds it, as made by
 * `debootstrap --variant=minbase --include=mysql-server-core,mysql-client-core sid DIR`. Undefined where none is named.
 */
export const mysqlRoot = process.env['SEALIFT_TEST_MYSQL'];

/** Writes scripts that run the programs of that root, with its libraries, into a folder. */
export async function mysqlPrograms(root: string, folder: string): Promise<void> {
  const loader = join(root, 'usr/lib64/ld-linux-x86-64.so.2');
  const libraries = join(root, 'usr/lib/x86_64-linux-gnu');
  for (const path of ['usr/bin/mysql', 'usr/bin/mysqldump', 'usr/sbin/mysqld']) {
    const name = path.split('/').at(-1)!;
    const line = `exec '${loader}' --library-path '${libraries}' --argv0 ${name} '${join(root, path)}' "$@"`;
    await writeFile(join(folder, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }
}

/** A MySQL server with all its files below `dir`, which must exist; `programs` is a folder of `mysqlPrograms`. */
export async function startMysql(
  dir: string,
  root: string,
  programs: string,
  settings: readonly string[] = [],
): Promise<MysqlService & AsyncDisposable> {
  const [logDir, dataDir, socketDir, temporaryDir] = ['log', 'data', 'socket', 'tmp'].map((name) =>
    join(dir, name),
  ) as [string, string, string, string];
  await chmod(dir, 0o711);
  for (const path of [logDir, dataDir, socketDir, temporaryDir]) await mkdir(path);
  // The server refuses to run as root.
  execFileSync('chown', ['mysql', dataDir, socketDir, temporaryDir]);
  await chmod(socketDir, 0o755);

  const group = new ServerGroup(logDir);
  try {
    const [port = 0] = await freePorts(1);
    const socket = join(socketDir, 's');
    const command = join(programs, 'mysqld');
    const common = [
      '--no-defaults',
      `--basedir=${join(root, 'usr')}`,
      `--lc-messages-dir=${join(root, 'usr/share/mysql')}`,
      `--character-sets-dir=${join(root, 'usr/share/mysql/charsets')}`,
      `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
      `--datadir=${dataDir}`,
      `--tmpdir=${temporaryDir}`,
    ];
    await group.run({ command, args: [...common, '--initialize-insecure'], user: 'mysql' });
    const args = [
      ...common,
      `--socket=${socket}`,
      `--pid-file=${join(dataDir, 'pid')}`,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      '--mysqlx=OFF',
      '--secure-file-priv=NULL',
      '--innodb-flush-log-at-trx-commit=0',
      ...settings,
    ];
    await group.start('mysqld', { command, args, user: 'mysql' }, 'SIGTERM');
    const [user, password] = ['admin', randomBytes(12).toString('hex')];
    const input = `CREATE USER ${user}@'%' IDENTIFIED BY '${password}'; GRANT ALL ON *.* TO ${user}@'%' WITH GRANT OPTION;`;
    const client = {
      command: join(programs, 'mysql'),
      args: ['--no-defaults', `--socket=${socket}`, '--user=root'],
    };
    await group.until(() => group.run({ ...client, input }));
    const service = { socket, port, tcpHost: '127.0.0.1', user, password };
    return { ...service, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw group.failure('MySQL', error);
  }
}
