import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
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
  return (await start(stage, machine, parts.flat(), 'pipe')).stdout.split('\n');
}

/** Asks the program for facts, unseen. */
export async function ask(stage: Stage, machine: Machine, words: readonly string[]): Promise<unknown> {
  return JSON.parse((await start(stage, machine, ['--json', ...words], 'pipe')).stdout);
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
  output: Execution['output'],
): Promise<Printed> {
  const argv = ['-c', join(folder, 'sealift.yaml'), ...words];
  return execute({ argv: [program, ...argv], cwd: folder, env, output, signal });
}

export interface Execution {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** To the terminal, or to be caught. */
  readonly output: 'inherit' | 'pipe';
  readonly signal: AbortSignal;
}

/** What was caught. */
export interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}

const caught = async (stream: Readable | null): Promise<string> => (stream === null ? '' : text(stream));

/** Rejects unless the program ends with status 0; what was caught on stderr is in the error then. */
export async function execute({ argv, cwd, env, output, signal }: Execution): Promise<Printed> {
  const [command, ...words] = argv;
  const child = spawn(command, words, { cwd, env, signal, stdio: ['ignore', output, output] });
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, by) => resolve(by ?? String(status)));
  });
  const [status, stdout, stderr] = await Promise.all([ended, caught(child.stdout), caught(child.stderr)]);
  if (status !== '0') throw new Error(`${stderr}this ended with ${status}: ${argv.map(shellWord).join(' ')}`);
  return { stdout, stderr };
}
