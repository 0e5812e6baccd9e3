import { systemClock } from './clock.ts';
import { environment } from './config/environment.ts';
import { messageOf, SealiftError, systemCode } from './errors.ts';
import { exitNow, isAnythingLeft } from './left-behind.ts';
import { describe, runProgram } from './program.ts';
import { listenForSignals } from './signals.ts';

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
  // Who wants to stop, now or later, does not wait for somebody to read the rest.
  if (signal.aborted) leave();
  else signal.addEventListener('abort', leave);
  // Nobody waits for what was left behind, but whoever reads slowly has the rest. Only then: an error is told after this.
  if (isAnythingLeft()) stdout.write('', leave);
  // Else Node.js takes itself apart first, and a signal that comes meanwhile kills the process whatever its status.
  process.once('beforeExit', () => process.exit());
}

const leave = (): void => void setTimeout(exitNow, 1000).unref();

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
