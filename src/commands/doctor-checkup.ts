import { hintOf, messageOf } from '../errors.ts';
import { printable, type Output, type Style } from '../output.ts';

/** One thing that was looked at. */
export interface Check {
  readonly area: Area;
  /** A file, the store, `JOB/before`, `JOB/SOURCE`. */
  readonly subject: string;
  /** `bad` keeps backups from running, or from being what they should be. */
  readonly state: State;
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string | undefined;
}

export type Area = 'config' | 'host' | 'keys' | 'store' | 'bucket' | 'hook' | 'source';
export type State = 'good' | 'warning' | 'bad';

/** What was found so far; each check is told as soon as it is made. */
export class Checkup {
  readonly checks: Check[] = [];
  readonly #tell: (check: Check) => void;
  readonly #signal: AbortSignal;

  constructor(tell: (check: Check) => void, signal: AbortSignal) {
    this.#tell = tell;
    this.#signal = signal;
  }

  add(area: Area, subject: string, state: State, message: string, hint?: string): void {
    const check = { area, subject, state, message, hint };
    this.checks.push(check);
    this.#tell(check);
  }

  /** An error becomes a bad check, and undefined; but an interruption ends everything. */
  async attempt<T>(area: Area, subject: string, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (error) {
      this.#signal.throwIfAborted();
      this.add(area, subject, 'bad', messageOf(error), hintOf(error));
      return undefined;
    }
  }

  count(state: State): number {
    return this.checks.filter((check) => check.state === state).length;
  }
}

const styles: Record<State, Style> = { good: 'good', warning: 'warning', bad: 'bad' };

export function printCheck(output: Output, { area, subject, state, message, hint }: Check): void {
  const mark = output.paint(styles[state], state.padEnd(7));
  output.text(`${mark}  ${area.padEnd(6)}  ${printable(`${subject}: ${message}`)}`);
  if (hint !== undefined) output.text(`${' '.repeat(17)}${output.paint('faint', printable(hint))}`);
}
