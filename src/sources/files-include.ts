import { SealiftError } from '../errors.ts';
import { globSource } from './files-globs.ts';

/** The globs of `--include` (files-globs.ts). A folder that matches brings everything below it. */
export interface Includer {
  /** Whether an absolute path is meant. */
  covers(path: string): boolean;
  /** The patterns that have covered nothing so far. */
  unmatched(): string[];
}

/** Throws `usage` for a pattern that makes no sense. */
export function includer(patterns: readonly string[]): Includer {
  const each = patterns.map((pattern) => ({ pattern, regExp: compile(pattern) }));
  const any = new RegExp(each.map(({ regExp }) => regExp.source).join('|'), 'su');
  let unmatched = each;
  return {
    covers(path) {
      if (!any.test(path)) return false;
      if (unmatched.length > 0) unmatched = unmatched.filter(({ regExp }) => !regExp.test(path));
      return true;
    },
    unmatched: () => unmatched.map(({ pattern }) => pattern),
  };
}

function compile(pattern: string): RegExp {
  const wrong = (cause?: unknown): SealiftError =>
    new SealiftError('usage', `--include "${pattern}" is not a pattern`, {
      hint: 'Write it as in `exclude`: /etc/nginx, *.conf, /home/*/.ssh',
      cause,
    });
  if (pattern === '') throw wrong();
  if (/^\/+$/.test(pattern)) return /^\//su; // the root has everything below it
  try {
    return new RegExp(`^(?:${globSource(pattern)})(?:/.*)?$`, 'su');
  } catch (cause) {
    throw wrong(cause);
  }
}
