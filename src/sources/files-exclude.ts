import { SealiftError } from '../errors.ts';

/**
 * The globs of `exclude`.
 *
 * - A pattern with a leading slash is matched against the absolute path; without one it matches at any depth:
 *   `*.bak` and `**` + `/*.bak` are the same.
 * - `*` and `?` stay within one name and match leading dots too; `[a-z]` and `[!a-z]` are one character; `{a,b}` is
 *   either; `**` as a whole name is any number of folders; a backslash takes the next character literally.
 * - A trailing slash says nothing: what matches is left out, and a folder that is left out is not entered. `/a/**`
 *   leaves out what is in `/a` and keeps the empty folder.
 *
 * `path.matchesGlob` is not used: it never matches names with a leading dot by `*` or `**`, and compiles the pattern
 * for each call.
 */
export function excluder(patterns: readonly string[]): (path: string) => boolean {
  if (patterns.length === 0) return () => false;
  const any = new RegExp(patterns.map((pattern) => compile(pattern).source).join('|'), 'su');
  return (path) => any.test(path);
}

/** The pattern that matches this path and nothing else. */
export const literalPattern = (path: string): string => path.replace(/[\\*?[\]{},]/g, '\\$&');

function compile(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${expression(pattern)})$`, 'su');
  } catch (cause) {
    throw new SealiftError('config-invalid', `exclude: "${pattern}" is not a pattern`, { cause });
  }
}

function expression(pattern: string): string {
  const trimmed = pattern.replace(/(?<=[^/\\])\/+$/, '');
  const names = (trimmed.startsWith('/') ? trimmed.slice(1) : `**/${trimmed}`).split('/');
  return names
    .map((name, index) => {
      if (name !== '**') return `/${nameExpression(name)}`;
      // In the middle: any number of folders, also none. At the end: anything below.
      return index === names.length - 1 ? '/.+' : '(?:/[^/]+)*?';
    })
    .join('');
}

function nameExpression(name: string): string {
  let out = '';
  let braces = 0;
  for (let at = 0; at < name.length; at += 1) {
    const char = name[at]!;
    const set = char === '[' ? /^\[(!|\^)?(\]?[^\]]*)\]/.exec(name.slice(at)) : null;
    if (set !== null && set[2] !== '') {
      out += `${set[1] === undefined ? '[' : '[^/'}${set[2]!.replace(/[\\[\]^]/g, '\\$&')}]`;
      at += set[0].length - 1;
    } else if (char === '\\' && at + 1 < name.length) {
      at += 1;
      out += literal(name[at]!);
    } else if (char === '*') out += '[^/]*';
    else if (char === '?') out += '[^/]';
    else if (char === '{' && name.indexOf('}', at) > at) {
      braces += 1;
      out += '(?:';
    } else if (char === '}' && braces > 0) {
      braces -= 1;
      out += ')';
    } else if (char === ',' && braces > 0) out += '|';
    else out += literal(char);
  }
  return out + ')'.repeat(braces);
}

const literal = (char: string): string => char.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');
