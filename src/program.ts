import { CommanderError } from 'commander';
import { usageError } from './cli-frame.ts';
import { createProgram } from './cli.ts';
import type { Clock } from './clock.ts';
import type { Context, GlobalOptions } from './commands/context.ts';
import type { Config } from './config/config.ts';
import type { Environment } from './config/environment.ts';
import { asSealiftError, exitStatusFor, SealiftError } from './errors.ts';
import { createLog, journalLines, type LogLevel, type LogOptions } from './log.ts';
import { createOutput, printableLines } from './output.ts';

/** What the program is started in. */
export interface Surroundings {
  readonly environment: Environment;
  readonly clock: Clock;
  /** Its reason is a SealiftError `interrupted`. */
  readonly signal: AbortSignal;
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Where log lines go; default: stderr, at once. */
  readonly log?: LogOptions['sink'];
}

/** A stream that text is written to. */
export interface Sink {
  write(text: string, taken?: () => void): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** argv → command → exit status. */
export async function runProgram(argv: readonly string[], around: Surroundings): Promise<number> {
  const { stdout, stderr, signal } = around;
  let output = createOutput({ write: (text) => stdout.write(text), colour: false });
  let status = 0;
  let tellError = (text: string): unknown => stderr.write(text);
  // Errors before commander has read the options are in the form that the options ask for, too.
  const flags = {
    json: argv.includes('--json'),
    verbose: argv.some((word) => /^(-v+|--verbose)$/.test(word)),
  };
  try {
    const program = createProgram(
      async (options, story) => {
        const context = createContext(options, around);
        output = context.output;
        if (context.environment.stderrIsJournal)
          tellError = (text) => stderr.write(journalLines('error', text));
        const outcome = await story(context);
        if (typeof outcome === 'string') status = exitStatusFor(outcome);
      },
      { writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(text) },
    );
    await program.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (thrown) {
    const error = translate(thrown, signal);
    if (error === undefined) return 0;
    const { code, message, hint } = error;
    // Where a command is missing, commander has printed the help, which says it all.
    const said = thrown instanceof CommanderError && thrown.code === 'commander.help';
    if (flags.json) output.jsonError({ type: 'error', code, message, hint });
    else if (!said) tellError(describe(error, flags.verbose ? thrown : undefined));
    return error.exitStatus;
  }
}

function createContext(
  options: GlobalOptions,
  { environment, clock, signal, stdout, stderr, log }: Surroundings,
): Context {
  const colourOn = ({ isTTY }: Sink): boolean => isTTY === true && options.color && !environment.noColor;
  let config: Promise<Config> | undefined;
  return {
    config: () =>
      (config ??= import('./config/load.ts').then(({ loadConfig }) =>
        loadConfig(options.config, environment),
      )),
    configPath: options.config,
    environment,
    log: createLog({
      level: levelOf(options),
      form: stderr.isTTY === true ? 'terminal' : environment.stderrIsJournal ? 'journal' : 'json',
      colour: colourOn(stderr),
      sink: log,
    }),
    output: createOutput({
      write: (text, taken) => stdout.write(text, taken),
      colour: colourOn(stdout),
      width: stdout.isTTY === true ? stdout.columns : undefined,
    }),
    json: options.json === true,
    quiet: options.quiet === true,
    signal,
    clock,
  };
}

function levelOf(options: GlobalOptions): LogLevel {
  if (options.quiet === true) return 'warn';
  return (['info', 'debug'] as const)[options.verbose ?? 0] ?? 'trace';
}

function translate(error: unknown, signal: AbortSignal): SealiftError | undefined {
  if (error instanceof CommanderError) return usageError(error);
  // Whatever breaks after Ctrl-C breaks because of it; some say more of it than that it came.
  const saysMore = error instanceof SealiftError && error.code === 'interrupted';
  if (signal.aborted && !saysMore) return signal.reason as SealiftError;
  return asSealiftError(error);
}

/** For people. `details` is what to show the origin of. */
export function describe(error: SealiftError, details?: unknown): string {
  const hint = error.hint === undefined ? '' : `hint: ${error.hint}\n`;
  // Of an error that we understood, what lies below it is worth a look; of any other, everything.
  const below = details instanceof SealiftError ? details.cause : details;
  const stack = below === undefined ? '' : `${stackOf(below)}\n`;
  return printableLines(`error: ${error.message}\n${hint}${stack}`);
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
