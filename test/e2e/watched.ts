import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, type CliResult } from '../support/cli.ts';

/** Runs the program, and calls `look` with the processes below it, over and over until it has ended. */
export async function watched(
  args: readonly string[],
  env: Record<string, string>,
  look: (below: readonly number[], self: number) => void,
): Promise<CliResult> {
  const child = spawn(launcher, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const self = child.pid ?? 0;
  while (child.exitCode === null && child.signalCode === null) {
    // Before it becomes the program, the launcher asks for the version of Node.js, in its caller's environment.
    if (/main\.[jt]s/.test(aboutProcess(self, 'cmdline'))) look(below(self), self);
    await delay(2);
  }
  const [stdout = '', stderr = ''] = (await texts).map((chunks) => Buffer.concat(chunks).toString());
  return { status: await ended, stdout, stderr };
}

/** Children, and theirs. */
function below(ancestor: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const [, parent] = aboutProcess(Number(name), 'stat')
      .replace(/^.*\) /s, '')
      .split(' ');
    parents.set(Number(name), Number(parent));
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid) ?? 0;
    return parent === ancestor || (parent > 1 && isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow);
}

/** A file of /proc/PID; empty once the process is gone. */
export function aboutProcess(pid: number, file: 'stat' | 'comm' | 'io' | 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}
