import { SealiftError, systemCode } from '../errors.ts';

/** What the system said of writing to the target, for people. Everything else is left as it is. */
export function explainTarget(error: unknown, path: string): unknown {
  const known = error instanceof SealiftError;
  const failed = (what: string, hint: string): SealiftError =>
    new SealiftError('restore-failed', `${what} ${path}${known ? `: ${error.message}` : ''}`, {
      hint,
      cause: error,
    });
  // Of other errors that were understood, a cause such as ENOENT speaks of something else: a missing program.
  if (known && error.code !== 'restore-failed') return error;
  const code = systemCode(known ? error.cause : error);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return failed(
        'no space left for',
        'Restore to a larger disk, or choose less with --source or --include.',
      );
    case 'EROFS':
    case 'EACCES':
      return failed('not allowed to write', 'Choose another target, or run as its owner.');
    case 'EPERM':
      return failed(
        'not allowed to write',
        'Choose another target, or run as its owner; to root, what is immutable or only appended to says so (lsattr, chattr -ia).',
      );
    case 'ENOENT':
    case 'ENOTDIR':
      return failed('cannot make', 'Choose another target.');
    case 'EEXIST':
    case 'EISDIR':
    case 'ENOTEMPTY':
      return new SealiftError(
        'target-exists',
        known
          ? `something else is in the way below ${path}: ${error.message}`
          : `something else is in the place of ${path}`,
        { hint: 'Choose another target, or clear this one.', cause: error },
      );
    default:
      return known || code === undefined
        ? error
        : failed('cannot write', `The system says ${code}. Choose another target.`);
  }
}

/** The same, thrown. */
export const failedAt =
  (path: string) =>
  (error: unknown): never => {
    throw explainTarget(error, path);
  };
