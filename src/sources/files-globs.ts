/**
 * The globs of `exclude` and `--include`, matched against absolute paths.
 *
 * - A pattern with a leading slash is matched against the whole path; without one it matches at any depth:
 *   `*.bak` and `**` + `/*.bak` are the same.
 * - `*` and `?` stay within one name and match leading dots too; `[a-z]` and `[!a-z]` are one character; `{a,b}` is
 *   either; `**` as a whole name is any number of folders; a backslash takes the next character literally.
 * - A trailing slash says nothing. `/a/**` is what is in `/a`, and not `/a` itself.
 *
 * `path.matchesGlob` is not used: it never matches names with a leading dot by `*` or `**`, and compiles the pattern
 * for each call.
 *
 * Returns the source of a regular expression for the flags `su`, not anchored. Throws SyntaxError for what makes no sense.
 */
export function globSource(pattern: string): string {
  const source = expression(pattern);
  void new RegExp(source, 'su');
  return source;
}

function expression(pattern: string): string {
  const trimmed = pattern.replace(/(?<=[^/\\])\/+$/, '');
  // One `**` after another says nothing, and costs the square of the depth of what is looked at.
  const names = (trimmed.startsWith('/') ? trimmed.slice(1) : `**/${trimmed}`)
    .split('/')
    .filter((name, index, all) => name !== '**' || all[index + 1] !== '**');
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
