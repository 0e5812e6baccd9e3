import { SealiftError } from '../errors.ts';

/** A part of a URL that was given on the command line, without its percent-encoding. Throws `usage`. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new SealiftError('usage', 'the URL holds a % that is not followed by two hex digits', { cause });
  }
}
