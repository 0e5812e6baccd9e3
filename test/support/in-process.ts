import assert from 'node:assert/strict';
import { type Clock, systemClock } from '../../src/clock.ts';
import { environment } from '../../src/config/environment.ts';
import { runProgram } from '../../src/program.ts';
import { programEnv, type CliResult } from './cli.ts';

/**
 * Runs the program in this process: for less than half of what a process of its own costs, and with another clock, since the
 * product has no switch for time. All of it is real but `main.ts`. What a restore writes to standard output goes past it.
 */
export async function runInProcess(
  args: readonly string[],
  options: { cwd: string; env?: Readonly<Record<string, string>> | undefined; clock?: Clock | undefined },
): Promise<CliResult> {
  const { cwd, env = {}, clock = systemClock } = options;
  assert.ok(!('PATH' in env || 'TMPDIR' in env), 'what is asked of the process itself is not changed here');
  let [stdout, stderr] = ['', ''];
  const toStderr = { write: (text: string) => (stderr += text) };
  const status = await runProgram(args, {
    environment: environment({ ...programEnv(cwd), ...env }, cwd),
    clock,
    signal: new AbortController().signal,
    stdout: { write: (text) => (stdout += text) },
    stderr: toStderr,
    log: toStderr,
  });
  return { status, stdout, stderr };
}
