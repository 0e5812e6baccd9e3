import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, type CliResult } from '../support/cli.ts';

/** What /proc told of a process while it was one and the same program. */
export interface SeenProcess {
  readonly pid: number;
  /** Name of the program. */
  readonly comm: string;
  readonly cmdline: string;
  readonly environ: string;
}

/**
 * Runs the program, and calls `look` over and over until it has ended, with itself and with the programs that it, or
 * one of them, started. One that ended, or became another, while it was looked at is left for the next time.
 */
export async function watched(
  args: readonly string[],
  env: Record<string, string>,
  look: (started: readonly SeenProcess[], self: SeenProcess) => void,
): Promise<CliResult> {
  const child = spawn(launcher, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  while (child.exitCode === null && child.signalCode === null) {
    const self = seen(child.pid ?? 0);
    // Before it becomes the program, the launcher asks for the version of Node.js, in its caller's environment.
    if (self && /main\.[jt]s/.test(self.cmdline)) {
      const started = below(self.pid).flatMap((pid) => seen(pid) ?? []);
      // For a moment a new process is still a copy of its parent.
      look(
        started.filter(({ cmdline }) => cmdline !== self.cmdline),
        self,
      );
    }
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

/** Nothing where the process ended meanwhile, or became another program. */
function seen(pid: number): SeenProcess | undefined {
  const name = () => ({ comm: aboutProcess(pid, 'comm').trim(), cmdline: aboutProcess(pid, 'cmdline') });
  const before = name();
  const environ = aboutProcess(pid, 'environ');
  const after = name();
  const isSame = before.comm === after.comm && before.cmdline === after.cmdline;
  return isSame && after.cmdline !== '' ? { pid, ...after, environ } : undefined;
}

/** A file of /proc/PID; empty once the process is gone. */
export function aboutProcess(pid: number, file: 'stat' | 'comm' | 'io' | 'cmdline' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}
