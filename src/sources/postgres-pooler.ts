import { setTimeout as delay } from 'node:timers/promises';
import { SealiftError } from '../errors.ts';
import { feedProcess, output } from '../process.ts';
import { anyProgram, command, describe, psqlOptions, type Server } from './postgres-connection.ts';

/**
 * Throws for a pooler that gives each transaction a connection of its own choice (pgbouncer's `pool_mode = transaction`).
 * pg_dump makes its settings before its transaction begins: on another connection they are not in force, so numbers are
 * rounded and intervals written in a form of the database's own, and they stay behind in what others use.
 *
 * One session is asked for its process again and again, while another keeps the connection for itself that was free.
 */
export async function refusePooler(server: Server, database: string, signal: AbortSignal): Promise<void> {
  const psql = await anyProgram(server, 'psql');
  const argv = [psql, ...psqlOptions(server, database)];
  const question = Buffer.from('SELECT pg_catalog.pg_backend_pid();\n');
  async function* questions(): AsyncGenerator<Uint8Array, void, void> {
    // Twice, since it may take another one at the very moment of a question.
    for (const _ of [1, 2]) {
      const sleep = '--command=SELECT pg_catalog.pg_sleep(0.15)';
      const other = output(command(server, [...argv, sleep]), signal).then(
        () => true,
        () => true,
      );
      let isOver = false;
      while (!isOver) {
        yield question;
        isOver = await Promise.race([other, delay(30, false)]);
      }
    }
    yield question;
  }
  const asking = feedProcess(command(server, [...argv, '--file=-']), questions(), signal);
  // What cannot be asked, as by a login that may have one connection only, is no pooler: the dump says what is wrong.
  const { stdout } = await asking.catch(() => ({ stdout: '' }));
  signal.throwIfAborted();
  if (new Set(stdout.trim().split('\n')).size === 1) return;
  throw new SealiftError(
    'source-unavailable',
    `${describe(server)} is a pooler that gives each transaction another connection: a dump through it may be altered`,
    { hint: 'name host and port of the server itself, or of a pool in session mode' },
  );
}
