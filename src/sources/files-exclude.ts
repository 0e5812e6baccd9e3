import { SealiftError } from '../errors.ts';
import { globSource } from './files-globs.ts';

/** The globs of `exclude` (files-globs.ts): what matches is left out, and a folder that is left out is not entered. */
export function excluder(patterns: readonly string[]): (path: string) => boolean {
  if (patterns.length === 0) return () => false;
  const any = new RegExp(`^(?:${patterns.map(compile).join('|')})$`, 'su');
  return (path) => any.test(path);
}

/** The pattern that matches this path and nothing else. */
export const literalPattern = (path: string): string => path.replace(/[\\*?[\]{},]/g, '\\$&');

function compile(pattern: string): string {
  try {
    return globSource(pattern);
  } catch (cause) {
    throw new SealiftError('config-invalid', `exclude: "${pattern}" is not a pattern`, { cause });
  }
}
