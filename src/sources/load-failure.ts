import { SealiftError } from '../errors.ts';
import { ToolFailure } from '../process.ts';

/**
 * For what a load throws: tells what was being loaded, if the error does not, and what had been done before, a line each.
 */
export const failedLoad =
  (what: string, done: readonly string[] = []) =>
  (error: unknown): never => {
    if (!(error instanceof SealiftError)) throw error;
    const saysWhat = !(error.cause instanceof ToolFailure) || error.code.startsWith('source-');
    const message = saysWhat ? error.message : `loading ${what} failed: ${error.message}`;
    throw new SealiftError(
      saysWhat ? error.code : 'restore-failed',
      done.length === 0 ? message : `${message}; done before: ${done.join('; ')}`,
      { hint: error.hint, cause: error.cause },
    );
  };

/** What was thrown, and then what was thrown in undoing it. */
export const inOrder = (error: unknown): unknown[] =>
  error instanceof SuppressedError ? [error.suppressed, error.error].flatMap(inOrder) : [error];
