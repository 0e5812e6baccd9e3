import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Environment } from '../config/environment.ts';
import type { ErrorCode } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Output } from '../output.ts';
import { noProgress, type Progress } from '../progress.ts';

/** What every command is handed: everything outside of it that it may touch. */
export interface Context {
  /** Reads and checks the configuration at the first call. A command that needs none does not call it. */
  readonly config: () => Promise<Config>;
  /** `--config`, as given. */
  readonly configPath: string | undefined;
  readonly environment: Environment;
  readonly log: Log;
  /** Results, to stdout. */
  readonly output: Output;
  /** `--json`: results as one document, or as JSON lines for long runs. */
  readonly json: boolean;
  /** `-q`: no progress. */
  readonly quiet: boolean;
  /** Aborted by SIGINT and SIGTERM; its reason is a SealiftError `interrupted`. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/**
 * How a command ends when it has said everything itself: nothing for success, or the code that decides the exit
 * status (`partial`, `verify-failed`). Whatever was not said is thrown as a SealiftError instead.
 */
// oxlint-disable-next-line typescript/no-invalid-void-type
export type Outcome = ErrorCode | void;

/** Options of the whole program, as commander parses them. */
export interface GlobalOptions {
  readonly config?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: number;
  readonly color: boolean;
}

/** How a long command shows its progress: lines with `--json`, a bar on a terminal, else nothing. */
export async function progressOf(
  { json, quiet, output }: Context,
  verb: string,
  totalBytes?: number,
): Promise<Progress> {
  if (quiet || !(json || process.stderr.isTTY)) return noProgress;
  // Loaded by who needs it: most runs have nobody who looks.
  const { startProgress } = await import('../progress-bar.ts');
  return startProgress({ form: json ? 'json' : 'bar', verb, totalBytes, jsonLine: output.jsonLine });
}
