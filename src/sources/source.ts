import type { Secret } from '../config/secrets.ts';
import type { SealiftError } from '../errors.ts';
import type { ProblemCode } from '../problems.ts';
import type { Place } from '../temporary.ts';

/**
 * A source yields the streams of one thing that is backed up: a database server, a file, a tree.
 *
 * The contract that every kind keeps:
 * - A stream's bytes end naturally only if what they came from has proved success (exit status 0, no signal,
 *   the format's own end). In every other case the iterator throws, and the stream is not committed.
 * - A chunk belongs to the consumer until it asks for the next one; its memory is used again then.
 * - Nothing is read ahead of what the consumer asks for beyond a fixed buffer.
 * - Plaintext touches a disk only where the program can write nothing but files, then in `context.temporary`.
 * - When the signal aborts, children are ended and temporary files removed before the iterator throws.
 */
export interface Source {
  readonly name: string;
  readonly kind: string;
  /**
   * How many of its streams may be read at once; default 1. With more, what they say in details and problems is kept in
   * memory until all are saved, to be told in the order of the streams.
   */
  readonly parallel?: number | undefined;
  /** What is there to save now. Throws a SealiftError if that cannot be found out; an empty source throws too. */
  streams(context: SourceContext): Promise<SourceStream[]>;
}

export interface SourceStream {
  /** The part of the stream's name after the source, made with `fileName`. Public in the index. */
  readonly file: string;
  /**
   * What the stream is, where that is not the kind of its source: a `prosody` source yields trees (`files`) and the dumps
   * of its database (`postgres`), and both are restored as such.
   */
  readonly kind?: string | undefined;
  /** About how much room `context.temporary` has to have while it is read, where that is known. */
  readonly temporaryBytes?: number | undefined;
  /** What is known already to be missing from it when it is read, a sentence each. */
  readonly lacks?: readonly string[] | undefined;
  open(context: SourceContext): AsyncIterable<Uint8Array>;
}

export interface SourceContext {
  readonly signal: AbortSignal;
  /** Something went wrong that does not end the stream (or, in `streams`, the source). */
  problem(code: ProblemCode, text: string): void;
  /** A private fact for the sealed details: a JSON object with a `type` (`entry`, `server`, ...). Resolves when there is room. */
  detail(record: { readonly type: string; readonly [key: string]: unknown }): Promise<void>;
  /** Makes a new empty directory of mode 0700 that the run removes on every path out. */
  temporary(place?: Place): Promise<string>;
}

/** A stream that is to be loaded into a server. */
export interface LoadStream {
  readonly file: string;
  /** May be called more than once. Throws at its end what is wrong with the bytes, so nothing is good before then. */
  open(): AsyncIterable<Uint8Array>;
}

/** What loading into a server is handed. */
export interface LoadContext {
  readonly signal: AbortSignal;
  /** Load into what is not empty: it is replaced. */
  readonly force: boolean;
  /** Typed at a prompt, or from the variable that the loader names. */
  readonly password: Secret | undefined;
  /** A variable of the environment (`PGPASSFILE`). */
  variable(name: string): string | undefined;
  /** As in `SourceContext`. */
  temporary(): Promise<string>;
}

/** What is needed to reach a server, be it to save it or to load it. */
export type Surroundings = Pick<LoadContext, 'signal' | 'temporary'>;

/**
 * How one kind of server is loaded. Refuses a target that is not empty with `target-exists`, unless forced, before it
 * changes anything; a load that fails leaves the target as it was, or its error says what it is now.
 */
export interface Loader {
  /** The kind of streams that it takes. */
  readonly kind: string;
  /** Whether one target takes several streams, as a server takes several databases. */
  readonly takesSeveral: boolean;
  /** The usual variable for the password; `source-denied` without one makes a terminal ask. */
  readonly passwordVariable?: string;
  /** `into` is the whole target as it was given. */
  load(into: string, streams: readonly LoadStream[], context: LoadContext): Promise<Loaded>;
}

export interface Loaded {
  /** What was done, one line each. */
  readonly lines: readonly string[];
  /** What the store does not have whole, and why: of several streams, the others are loaded all the same. */
  readonly damaged?: readonly Damaged[];
}

export interface Damaged {
  readonly file: string;
  readonly error: SealiftError;
}

/**
 * A file name for a stream that is safe in every store and index: letters, digits, `_`, `-` and inner dots stay, every
 * other byte of its UTF-8 form becomes `%XX`. Two different names never give the same result.
 */
export function fileName(name: string, extension: string): string {
  let out = '';
  for (const byte of Buffer.from(name, 'utf8')) {
    const char = String.fromCharCode(byte);
    const plain = /[A-Za-z0-9_-]/.test(char) || (char === '.' && out !== '');
    out += plain ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out + extension;
}

/** The inverse of `fileName`: the name, for a file with that extension. */
export function nameOf(file: string, extension: string): string {
  return decodeURIComponent(file.slice(0, file.length - extension.length));
}
