import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, programEnv } from './cli.ts';
import type { World } from './world.ts';

/** A `sealift daemon` of a world that runs until the test stops it. */
export interface Running {
  readonly pid: number;
  /** Everything that it has logged so far. */
  log(): string;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the exit status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
  /** Waits until the log has this; returns what it has after it. */
  logs(pattern: RegExp, seconds?: number): Promise<void>;
}

/** Temporary files of the daemon lie in the folder `tmp` of the world. */
export function startDaemon(t: TestContext, world: World, ...args: string[]): Running {
  const temporary = join(world.dir, 'tmp');
  mkdirSync(temporary, { recursive: true });
  const child = spawn(launcher, ['-c', world.configFile, 'daemon', ...args], {
    cwd: world.dir,
    env: { ...programEnv(world.dir), TMPDIR: temporary },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => (text += more));
  let hasEnded = false;
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) =>
    child.on('close', (status, signal) => {
      hasEnded = true;
      resolve(signal ?? status);
    }),
  );
  const log = (): string => text;
  return {
    pid: child.pid!,
    log,
    ended,
    kill: (signal) => void child.kill(signal),
    logs: (pattern, seconds) =>
      until(
        () => {
          if (pattern.test(text)) return true;
          assert.ok(!hasEnded, `the daemon ended before it logged ${pattern}: ${text}`);
          return false;
        },
        () => `${pattern} was not logged: ${text}`,
        seconds,
      ),
  };
}

/** Waits for a condition; fails after a while. */
export async function until(condition: () => boolean, otherwise: () => string, seconds = 30): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, otherwise());
    await delay(20);
  }
}
