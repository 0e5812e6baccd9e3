import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Machine, Stage } from './stage.ts';

/** `bin/sealift`, as it is installed. */
export const program = fileURLToPath(new URL('../bin/sealift', import.meta.url));

/**
 * Shows the command as one types it in the machine's folder, and runs it there for everybody to see. The parts of the
 * command are what shall stay together on a line. Throws if it fails.
 */
export async function run(stage: Stage, machine: Machine, parts: readonly Part[]): Promise<void> {
  show(stage, machine, parts);
  await start(stage, machine, parts.flat(), 'inherit');
}

/** The same for a command that says more than the story needs: what it says comes back, to quote from. */
export async function runToQuote(stage: Stage, machine: Machine, parts: readonly Part[]): Promise<string[]> {
  show(stage, machine, parts);
  return (await start(stage, machine, parts.flat(), 'pipe')).split('\n');
}

/** Asks the program for facts, unseen. */
export async function ask(stage: Stage, machine: Machine, words: readonly string[]): Promise<unknown> {
  return JSON.parse(await start(stage, machine, ['--json', ...words], 'pipe'));
}

/** A word, or words that belong together. */
export type Part = string | readonly string[];

function show({ tell }: Stage, { prompt }: Machine, parts: readonly Part[]): void {
  tell.command(
    prompt,
    ['sealift', ...parts].map((part) => [part].flat().map(shellWord).join(' ')),
  );
}

export const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

/** The configuration is the one that would be found in the folder anyway; naming it keeps `$SEALIFT_CONFIG` out. */
async function start(
  { env, signal }: Stage,
  { folder }: Machine,
  words: readonly string[],
  stdout: 'inherit' | 'pipe',
): Promise<string> {
  const argv = ['-c', join(folder, 'sealift.yaml'), ...words];
  return execute({ argv: [program, ...argv], cwd: folder, env, stdout, signal });
}

export interface Execution {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdout: 'inherit' | 'pipe';
  readonly signal: AbortSignal;
}

/** Resolves with what it printed, if that was to be caught. Rejects unless it ends with status 0. */
export async function execute({ argv, cwd, env, stdout, signal }: Execution): Promise<string> {
  const [command, ...words] = argv;
  const child = spawn(command, words, { cwd, env, signal, stdio: ['ignore', stdout, 'inherit'] });
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, by) => resolve(by ?? String(status)));
  });
  const [printed, status] = await Promise.all([child.stdout ? text(child.stdout) : '', ended]);
  if (status !== '0') throw new Error(`this ended with ${status}: ${argv.map(shellWord).join(' ')}`);
  return printed;
}
