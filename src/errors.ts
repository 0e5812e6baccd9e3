/**
 * Every way sealift can fail, in one place: the code that scripts see and the exit status that goes with it.
 * Exit statuses are part of the command-line contract (docs/cli.md).
 */
const exitStatusOf = {
  failed: 1,
  usage: 2,
  'config-invalid': 2,
  'config-not-found': 2,
  'target-exists': 2,
  'snapshot-ambiguous': 2,
  'snapshot-expired': 2,
  'host-ambiguous': 2,
  'job-ambiguous': 2,
  'store-unavailable': 1,
  'store-denied': 1,
  'store-full': 1,
  'store-conflict': 1,
  'object-locked': 1,
  'segments-gone': 1,
  'bucket-unsafe': 1,
  'clock-wrong': 1,
  'run-limit': 1,
  'host-name-taken': 1,
  'tool-missing': 1,
  'tool-failed': 1,
  'tool-too-old': 1,
  'source-unavailable': 1,
  'source-denied': 1,
  'source-empty': 1,
  'source-damaged': 1,
  'source-timeout': 1,
  'hook-failed': 1,
  'restore-failed': 1,
  'nothing-saved': 1,
  partial: 3,
  'store-not-found': 10,
  'snapshot-not-found': 10,
  'files-not-found': 10,
  'lock-held': 11,
  'key-missing': 12,
  'key-unusable': 12,
  'key-wrong': 12,
  'key-untrusted': 12,
  'passphrase-wrong': 12,
  'promise-broken': 20,
  'verify-failed': 21,
  interrupted: 130,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof exitStatusOf;

export const exitStatusFor = (code: ErrorCode): number => exitStatusOf[code];

/** An error that an operator can act on: a code, a sentence that names the object, and what to do next. */
export class SealiftError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, more: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'SealiftError';
    this.code = code;
    this.hint = more.hint;
  }

  get exitStatus(): number {
    return exitStatusOf[this.code];
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What to do about it, if that is known. */
export const hintOf = (error: unknown): string | undefined =>
  error instanceof SealiftError ? error.hint : undefined;

/** Both. */
export function sentenceOf(error: unknown): string {
  const hint = hintOf(error);
  return hint === undefined ? messageOf(error) : `${messageOf(error)} (${hint})`;
}

/** The same, where what to do about it is a sentence of its own. */
export const sentencesOf = ({ message, hint }: SealiftError): string =>
  hint === undefined ? message : `${message}. ${hint}`;

/** What the system refuses about a path is told in its words; what else nobody expected is a fault of the program. */
export function asSealiftError(error: unknown): SealiftError {
  if (error instanceof SealiftError) return error;
  if (error instanceof Error && 'path' in error && systemRefusals.has(systemCode(error) ?? ''))
    return new SealiftError('failed', `the system refuses: ${error.message}`, {
      hint: 'look at this path: whose it is, what is in its place, and whether the disk is full or read-only',
      cause: error,
    });
  return new SealiftError('failed', `unexpected error: ${messageOf(error)}`, {
    hint: 'this is a fault in sealift; run again with -v to see where it happened',
    cause: error,
  });
}

const systemRefusals = new Set(
  'EACCES EPERM EROFS ENOSPC EDQUOT EIO EEXIST ENOENT ENOTDIR EISDIR ENOTEMPTY ELOOP ENAMETOOLONG'.split(' '),
);

/** The `code` property of a system error (`ENOENT`), if it has one. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
