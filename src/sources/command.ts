import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { CommandConfig } from '../config/config.ts';
import type { Secret } from '../config/secrets.ts';
import { SealiftError } from '../errors.ts';
import { findStartable } from '../interpreter.ts';
import { type Command, output, readProcess, type SystemUser, systemUser, ToolFailure } from '../process.ts';
import { withEvidence } from './evidence.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * Whatever a program writes to its standard output, as one stream. It counts only if the program ended with status 0,
 * and the output begins and is as long as configured. How consistent it is depends on the program alone.
 *
 * `shell` is a line for bash that fails with the first of its commands, and with any part of a pipe.
 */
export function commandSource(config: CommandConfig): Source {
  return { name: config.name, kind: 'command', streams: (context) => streams(config, context) };
}

/** Status 128 + 13: what bash says of a part of a pipe that was ended by SIGPIPE. */
const brokenPipeStatus = 141;

async function streams(config: CommandConfig, context: SourceContext): Promise<SourceStream[]> {
  const command = await prepare(config, context.signal);
  const { name, argv, shell, cwd, runAs, file } = config;
  await context.detail({ type: 'command', source: name, argv, shell, cwd, runAs });
  return [{ file, open: ({ signal }) => run(config, command, signal) }];
}

async function prepare(
  { argv, shell, cwd, env, runAs }: CommandConfig,
  signal: AbortSignal,
): Promise<Command> {
  if (cwd !== undefined) await demandFolder(cwd);
  const variables = Object.fromEntries(Object.entries(env).map(([key, value]) => [key, reveal(key, value)]));
  const [program = ''] = argv ?? bash;
  const found = await demandProgram(program, cwd, variables['PATH']).catch((error: unknown) => {
    throw explain(error, argv === undefined);
  });
  const user = runAs === undefined ? undefined : await systemUser(runAs, signal);
  if (user !== undefined) await demandRight(program, found, user, signal);
  return {
    argv: argv ?? [...bash, shell ?? ''],
    env: variables,
    cwd,
    runAs: user,
    // Shorter ones are words like `1` or `on`, and hiding those would only garble messages.
    secrets: Object.values(variables).filter(({ length }) => length >= 4),
  };
}

/** No start-up files: bash reads one where it believes that it was started by a remote shell. */
const bash = ['bash', '--norc', '--noprofile', '-O', 'inherit_errexit', '-euo', 'pipefail', '-c'];

function reveal(key: string, secret: Secret): string {
  const value = secret.reveal();
  if (!value.includes('\0')) return value;
  throw new SealiftError('config-invalid', `env.${key} holds a zero byte, which no variable can`);
}

/** The file that will be started. */
async function demandProgram(program: string, cwd = '/', path?: string): Promise<string> {
  const found = await findStartable(program, cwd, path?.split(':'));
  if (found !== undefined) return found;
  if (program.includes('/') && existsSync(resolve(cwd, program)))
    throw new SealiftError('tool-failed', `${program} could not be started`, {
      hint: 'it has to be a file that may be executed (chmod +x)',
    });
  throw new SealiftError('tool-missing', `${program} is not installed`);
}

/** It was found with the rights of this process. */
async function demandRight(
  program: string,
  path: string,
  runAs: SystemUser,
  signal: AbortSignal,
): Promise<void> {
  await output({ argv: ['test', '-x', path], runAs }, signal).catch((error: unknown) => {
    if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) throw error;
    throw new SealiftError('tool-failed', `${program} could not be started by the user ${runAs.name}`, {
      hint: 'that user has to be able to read and execute it, and to enter its folder',
      cause: error,
    });
  });
}

/** A folder that is missing would be told as a missing program. */
async function demandFolder(cwd: string): Promise<void> {
  const found = await stat(cwd).catch((cause: unknown) => {
    throw new SealiftError('config-invalid', `cwd: ${cwd} is not there`, { cause });
  });
  if (!found.isDirectory()) throw new SealiftError('config-invalid', `cwd: ${cwd} is not a folder`);
}

async function* run(
  { argv, magic, minBytes }: CommandConfig,
  command: Command,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const what = `the output of ${argv === undefined ? 'the shell line' : basename(argv[0] ?? '')}`;
  try {
    yield* withEvidence(readProcess(command, signal), what, { begins: magic && beginsWith(magic), minBytes });
  } catch (error) {
    throw explain(error, argv === undefined);
  }
}

/** For text of one character per byte. */
const beginsWith = (bytes: Uint8Array): RegExp =>
  new RegExp(`^${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`);

function explain(error: unknown, inShell: boolean): unknown {
  if (!(error instanceof SealiftError)) return error;
  const withHint = (hint: string) =>
    new SealiftError(error.code, error.message, { hint, cause: error.cause });
  const { cause } = error;
  if (error.code === 'tool-missing' && error.hint === undefined)
    return withHint(
      inShell ? '`shell` needs bash: apt-get install bash' : 'give argv the whole path of the program',
    );
  if (inShell && cause instanceof ToolFailure && cause.status === brokenPipeStatus)
    return withHint('a part of the pipe was still writing when the part after it had ended');
  return error;
}
