import { messageOf } from '../src/errors.ts';
import { createStage, type Stage } from './stage.ts';

/**
 * `npm run demo`: the real program at its real work, on a small world that it makes for itself. Needs no service and
 * nothing that `npm ci` did not install. Everything it makes lies in one new folder, which stays for a look around.
 * Exit status 1 if any step, or any comparison, fails.
 */
async function main(): Promise<void> {
  // Of folders that others can write to, sealift refuses configurations and keys.
  process.umask(0o022);
  quietExperimentalWarnings();
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => interrupt.abort(new Error(`interrupted by ${name}`)));

  const stage = createStage(interrupt.signal);
  try {
    // Not before the line above has its effect: it loads node:sqlite.
    const { tour } = await import('./tour.ts');
    await tour(stage);
  } catch (error) {
    fail(stage, interrupt.signal.aborted ? interrupt.signal.reason : error);
  }
}

function fail({ tell, folder }: Stage, error: unknown): void {
  tell.failure(messageOf(error));
  tell.failure(`What was made so far is in ${folder}`);
  process.exitCode = 1;
}

/** Early releases of Node.js 24 call node:sqlite experimental, in a line that would tell the reader nothing. */
function quietExperimentalWarnings(): void {
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (warning.name !== 'ExperimentalWarning') console.error(`${warning.name}: ${warning.message}`);
  });
}

await main();
