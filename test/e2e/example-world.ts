import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { startPostgres } from '../services/postgres.ts';
import { bucketStore } from '../support/world.ts';
import { launcher, programEnv, sealift, type CliResult } from '../support/cli.ts';
import { put } from '../support/temporary.ts';

/**
 * A machine below `root` (`root/etc`, `root/var/lib`, ...) on which somebody has set sealift up by one of the shipped
 * examples. Nothing of the example is changed but where things are.
 */
export interface ExampleMachine {
  /** The operator's private key, without a passphrase. */
  readonly key: string;
  run(...args: string[]): Promise<CliResult>;
  /** Carries out shell commands of docs/operations.md: the block that follows this line of text in it. */
  follow(introduction: string): Promise<string>;
}

const repository = join(import.meta.dirname, '../..');

export async function exampleMachine(
  root: string,
  example: string,
  { binDir, edit = (text) => text }: { binDir: string; edit?: ((text: string) => string) | undefined },
): Promise<ExampleMachine> {
  const { store } = await bucketStore();
  const below = (text: string) => text.replaceAll(/\/(etc|var|srv|run)(?=[/\s,\]}]|$)/gm, `${root}$&`);
  const config = join(root, 'etc/sealift/sealift.yaml');
  mkdirSync(join(root, 'etc/sealift'), { recursive: true });
  put(join(root, 'etc/sealift/s3-access-key'), store.accessKeyId, 0o600);
  put(join(root, 'etc/sealift/s3-secret-key'), store.secretAccessKey, 0o600);
  const text = readFileSync(join(repository, 'examples', example), 'utf8');
  const there = below(text)
    .replace('https://s3.example.org', store.endpoint)
    .replace('region: eu', `region: ${store.region}`)
    .replace('bucket: backups', `bucket: ${store.bucket}`);
  put(config, edit(there), 0o600);

  const env = { ...programEnv(root), PATH: `${binDir}:${process.env['PATH']}` };
  const run = (...args: string[]) => sealift(['-c', config, ...args], { cwd: root, env });
  const must = async (...args: string[]) => {
    const { status, stdout, stderr } = await run(...args);
    assert.equal(status, 0, `sealift ${args.join(' ')}: ${stdout}${stderr}`);
  };
  const keys = ['--user-id', 'Ops <ops@example.org>', '--out', join(root, 'op'), '--no-passphrase'];
  await must('keys', 'generate', ...keys);
  await must('init', '--recipient', join(root, 'op', 'ops.pub.asc'));
  // As `sealift` is found by the documented commands.
  put(join(binDir, 'sealift'), `#!/bin/sh\nexec ${launcher} -c ${config} "$@"\n`, 0o755);

  return {
    key: join(root, 'op', 'ops.key.asc'),
    run,
    async follow(introduction) {
      const steps = below(stepsAfter(introduction)).replaceAll('ops.key.asc', join(root, 'op/ops.key.asc'));
      const shell = ['-euo', 'pipefail', '-c', steps];
      const { stdout } = await promisify(execFile)('bash', shell, { cwd: root, env, timeout: 90_000 });
      return stdout;
    },
  };
}

/** The first block of commands after this text. */
function stepsAfter(introduction: string): string {
  const text = readFileSync(join(repository, 'docs/operations.md'), 'utf8');
  const at = text.indexOf(introduction);
  assert.ok(at >= 0, `docs/operations.md does not say: ${introduction}`);
  const [, steps] = /```sh\n(.*?)```/s.exec(text.slice(at)) ?? [];
  assert.ok(steps, 'no commands follow');
  return steps;
}

/**
 * A new PostgreSQL server of the machine below `root`, at the socket where Debian's would be, and at `port` if that is
 * given; ends with `stack`. `psql` runs SQL, with more options if need be, and returns what comes out.
 */
export async function databaseServer(
  stack: AsyncDisposableStack,
  root: string,
  port?: number,
): Promise<{ port: number; psql: (sql: string, ...options: string[]) => Promise<string> }> {
  chmodSync(root, 0o755); // for PostgreSQL's user
  mkdirSync(join(root, 'postgres'), { recursive: true });
  const dir = mkdtempSync(join(root, 'postgres/'));
  const server = stack.use(await startPostgres(dir, undefined, port));
  const socket = join(root, 'run/postgresql/.s.PGSQL.5432');
  mkdirSync(dirname(socket), { recursive: true });
  rmSync(socket, { force: true });
  symlinkSync(join(server.host, `.s.PGSQL.${server.port}`), socket);
  const connection = ['--host', server.host, '--port', String(server.port), '--username', server.user];
  const psql = async (sql: string, ...options: string[]): Promise<string> => {
    const arguments_ = [...connection, '--no-psqlrc', '-qAt', '--command', sql, ...options];
    return (await promisify(execFile)(join(server.binDir, 'psql'), arguments_)).stdout.trim();
  };
  return { port: server.port, psql };
}
