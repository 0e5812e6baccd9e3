import { systemClock } from './clock.ts';
import { environment } from './config/environment.ts';
import { exitStatusFor, messageOf, SealiftError, systemCode } from './errors.ts';
import { describe, runProgram } from './program.ts';

/** The program as a process. Nothing else ends the process or sets its status. */
async function main(): Promise<void> {
  outliveOutput();
  const signal = listenForSignals();
  const { argv, stdout, stderr } = process;
  process.exitCode = await runProgram(argv.slice(2), {
    // Read in there, where errors are told.
    get environment() {
      return environment();
    },
    clock: systemClock,
    signal,
    stdout,
    stderr,
  });
  // Who wants to stop does not wait for somebody to read the rest.
  if (signal.aborted) setTimeout(() => process.exit(), 1000).unref();
  // Else Node.js takes itself apart first, and a signal that comes meanwhile kills the process whatever its status.
  process.once('beforeExit', () => process.exit());
}

/** timeout(1) and others send a signal to the program and to its group: what comes so soon is the same one. */
const oneSignalMs = 1000;

/** The first signal asks for an orderly end, the second does not wait for it. */
function listenForSignals(): AbortSignal {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const interrupt = (name: NodeJS.Signals): void => {
    firstMs ??= performance.now();
    if (performance.now() - firstMs > oneSignalMs) process.exit(exitStatusFor('interrupted'));
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
    process.stderr.write(describe(error));
    process.exitCode = error.exitStatus;
  });
}

await main();
