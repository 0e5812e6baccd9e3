import { inspect } from 'node:util';

/**
 * A password or key that is read when it is used and never printed: text, JSON and `console.log` show `[redacted]`.
 * Reading late means that `list` on an auditor's machine does not ask for the database's password.
 */
export class Secret {
  readonly #read: () => string;
  /** The file that it lies in: its own, or the configuration. */
  readonly file: string | undefined;

  constructor(read: () => string, file?: string) {
    this.#read = read;
    this.file = file;
  }

  /** The secret itself. Throws `config-invalid` when the variable or file that holds it is not there. */
  reveal(): string {
    return this.#read();
  }

  toString(): string {
    return '[redacted]';
  }

  toJSON(): string {
    return '[redacted]';
  }

  [inspect.custom](): string {
    return '[redacted]';
  }
}
