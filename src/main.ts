import { CommanderError } from 'commander';
import { usageError } from './cli-frame.ts';
import { createProgram } from './cli.ts';
import { systemClock } from './clock.ts';
import type { Context, GlobalOptions } from './commands/context.ts';
import type { Config } from './config/config.ts';
import { environment } from './config/environment.ts';
import { exitStatusFor, messageOf, SealiftError, systemCode } from './errors.ts';
import { createLog, type LogLevel } from './log.ts';
import { createOutput } from './output.ts';

/** argv → command → exit status. Nothing else in the program ends the process or sets its status. */
async function main(argv: readonly string[]): Promise<void> {
  outliveOutput();
  let output = createOutput({ write: (text) => process.stdout.write(text), colour: false });
  const signal = listenForSignals();
  // Errors before commander has read the options are in the form that the options ask for, too.
  const flags = {
    json: argv.includes('--json'),
    verbose: argv.some((word) => /^(-v+|--verbose)$/.test(word)),
  };
  try {
    const program = createProgram(async (options, story) => {
      const context = createContext(options, signal);
      output = context.output;
      const outcome = await story(context);
      process.exitCode = typeof outcome === 'string' ? exitStatusFor(outcome) : 0;
    });
    await program.parseAsync([...argv], { from: 'user' });
  } catch (thrown) {
    const error = translate(thrown, signal);
    if (error === undefined) return;
    const { code, message, hint } = error;
    // Where a command is missing, commander has printed the help, which says it all.
    const said = thrown instanceof CommanderError && thrown.code === 'commander.help';
    if (flags.json) output.jsonError({ type: 'error', code, message, hint });
    else if (!said) report(error, flags.verbose ? thrown : undefined);
    process.exitCode = error.exitStatus;
  }
  // Who wants to stop does not wait for somebody to read the rest.
  if (signal.aborted) setTimeout(() => process.exit(), 1000).unref();
}

function createContext(options: GlobalOptions, signal: AbortSignal): Context {
  const env = environment();
  const colourOn = (stream: NodeJS.WriteStream): boolean => stream.isTTY && options.color && !env.noColor;
  let config: Promise<Config> | undefined;
  return {
    config: () =>
      (config ??= import('./config/load.ts').then(({ loadConfig }) => loadConfig(options.config, env))),
    configPath: options.config,
    environment: env,
    log: createLog({
      level: levelOf(options),
      pretty: process.stderr.isTTY,
      colour: colourOn(process.stderr),
    }),
    output: createOutput({
      write: (text) => process.stdout.write(text),
      colour: colourOn(process.stdout),
      width: process.stdout.isTTY ? process.stdout.columns : undefined,
    }),
    json: options.json === true,
    quiet: options.quiet === true,
    signal,
    clock: systemClock,
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
  if (error instanceof SealiftError) return error;
  return new SealiftError('failed', `unexpected error: ${messageOf(error)}`, {
    hint: 'this is a fault in sealift; run again with -v to see where it happened',
    cause: error,
  });
}

function report(error: SealiftError, details: unknown): void {
  const hint = error.hint === undefined ? '' : `hint: ${error.hint}\n`;
  // Of an error that we understood, what lies below it is worth a look; of any other, everything.
  const below = details instanceof SealiftError ? details.cause : details;
  const stack = below === undefined ? '' : `${stackOf(below)}\n`;
  process.stderr.write(`error: ${error.message}\n${hint}${stack}`);
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

/** The first signal asks for an orderly end, the second does not wait for it. */
function listenForSignals(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(exitStatusFor('interrupted'));
    controller.abort(new SealiftError('interrupted', `interrupted by ${name}`));
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, interrupt);
  // Of a terminal that closes. The resident daemon has its own use for it.
  process.on('SIGHUP', (name) => {
    const isMeant = process.listenerCount(name) === 1 && !environment().startedByNohup;
    if (isMeant) interrupt(name);
  });
  return controller.signal;
}

/**
 * A backup goes on when its output cannot be written any more. That nobody reads it (`sealift list | head`, a terminal that
 * is gone) is no failure; a disk that is full is, and is said at the end.
 */
function outliveOutput(): void {
  let lost: Error | undefined;
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error) => {
      if (stream === process.stdout && !['EPIPE', 'EIO'].includes(systemCode(error) ?? '')) lost ??= error;
    });
  process.on('exit', (status) => {
    if (lost === undefined || status !== 0) return;
    const error = new SealiftError('failed', `standard output cannot be written: ${messageOf(lost)}`);
    report(error, undefined);
    process.exitCode = error.exitStatus;
  });
}

await main(process.argv.slice(2));
