import { existsSync } from 'node:fs';

/** What `init` made and what it found. */
export class Ledger {
  readonly created: string[] = [];
  readonly kept: string[] = [];

  /**
   * Makes the file or folder `path` unless it is there, and writes down which of the two it was. With `always`, `make`
   * also runs on what is there, to complete it. Undefined if `make` did not run.
   */
  async make<T>(
    path: string,
    make: () => Promise<T>,
    when: 'missing' | 'always' = 'missing',
  ): Promise<T | undefined> {
    const existed = existsSync(path);
    const result = existed && when === 'missing' ? undefined : await make();
    (existed ? this.kept : this.created).push(path);
    return result;
  }
}
