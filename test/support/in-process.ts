import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { createProgram } from '../../src/cli.ts';
import type { Outcome } from '../../src/commands/context.ts';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { createLog } from '../../src/log.ts';
import { createOutput } from '../../src/output.ts';
import type { World } from './world.ts';

export interface InProcess {
  run(...args: string[]): Promise<{ outcome: Outcome; stdout: string }>;
  /** A command that must succeed, with `--json`. */
  json<T>(...args: string[]): Promise<T>;
}

/**
 * Runs commands of the real program in this process: with another clock, since the product has no switch for time, or to
 * spare the start of a process.
 */
export function inProcess(
  t: Pick<TestContext, 'signal'>,
  world: Pick<World, 'dir' | 'configFile'>,
  clock: Clock,
  env: Readonly<Record<string, string>> = {},
): InProcess {
  const run: InProcess['run'] = async (...args) => {
    let stdout = '';
    let outcome: Outcome = undefined;
    const surroundings = environment({ HOME: world.dir, PATH: process.env['PATH'], ...env }, world.dir);
    const program = createProgram(async (options, story) => {
      outcome = await story({
        config: async () => loadConfig(options.config, surroundings),
        configPath: options.config,
        environment: surroundings,
        log: createLog({ level: 'error', pretty: false, colour: false }),
        output: createOutput({ write: (text) => (stdout += text), colour: false }),
        json: true,
        quiet: true,
        signal: t.signal,
        clock,
      });
    });
    await program.parseAsync(['-c', world.configFile, '--json', ...args], { from: 'user' });
    return { outcome, stdout };
  };
  return {
    run,
    async json<T>(...args: string[]): Promise<T> {
      const { outcome, stdout } = await run(...args);
      assert.equal(outcome, undefined, stdout);
      return JSON.parse(stdout) as T;
    },
  };
}
