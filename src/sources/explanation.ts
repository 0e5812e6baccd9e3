import { type ErrorCode, SealiftError } from '../errors.ts';
import { ToolFailure } from '../process.ts';

/** What a tool means by what it says on standard error. */
export interface Explanation {
  readonly says: RegExp;
  readonly code: ErrorCode;
  readonly hint?: string;
}

/** Tells what a tool's messages mean; the first explanation that fits counts. What is no tool's failure is given back as it is. */
export function explained(
  error: unknown,
  explanations: readonly Explanation[],
  words: (message: string) => string,
): unknown {
  if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) return error;
  const { message, cause } = error;
  const known = explanations.find(({ says }) => says.test(cause.stderr));
  return new SealiftError(known?.code ?? 'tool-failed', words(message), { hint: known?.hint, cause });
}
