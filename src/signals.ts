import { environment } from './config/environment.ts';
import { exitStatusFor, SealiftError } from './errors.ts';
import { exitNow } from './left-behind.ts';

/** timeout(1) and others send a signal to the program and to its group: what comes so soon is the same one. */
const oneSignalMs = 1000;

/**
 * The first signal asks for an orderly end, the second does not wait for it. The reason of the result is a SealiftError
 * `interrupted`.
 */
export function listenForSignals(): AbortSignal {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const interrupt = (name: NodeJS.Signals): void => {
    firstMs ??= performance.now();
    if (performance.now() - firstMs > oneSignalMs) {
      process.exitCode = exitStatusFor('interrupted');
      exitNow();
    }
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
