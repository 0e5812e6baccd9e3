import { SealiftError } from '../errors.ts';
import { ToolFailure } from '../process.ts';
import { excluder } from './files-exclude.ts';
import type { Ask, Fact } from './system-facts.ts';

/** Not labels of SELinux, which the policy of the new machine sets, and not what file systems keep for themselves. */
const kept = '^(user\\.|security\\.capability$|system\\.posix_acl_)';

/**
 * What a tree's tar is without: access control lists, capabilities and attributes of users, in the form that
 * `setfattr --restore` takes back (getfattr(1)). Sorted by path; like the tree without other file systems and what is
 * excluded.
 */
export function attributesFact(paths: readonly string[], exclude: readonly string[]): Fact {
  const excluded = excluder(exclude);
  const dump = ['getfattr', '--no-dereference', '--dump', `--match=${kept}`, '--encoding=hex'];
  const look = {
    at: 'getfattr',
    text: async (ask: Ask): Promise<string> => {
      const each = ['-exec', ...dump, '--absolute-names', '--', '{}', '+'];
      const files = (await ask(['find', ...paths, '-xdev', ...each]).catch(toldSoFar)).split('\n\n');
      const told = files.filter((file) => file !== '' && !foldersTo(pathOf(file)).some(excluded));
      return told.length === 0 ? '(nothing)\n' : told.toSorted().join('\n\n');
    },
  };
  return { file: 'attributes.txt', isBare: true, parts: [{ look }] };
}

/** What vanishes or may not be read is a problem of the tree, and is named there. */
function toldSoFar(error: unknown): string {
  if (error instanceof SealiftError && error.cause instanceof ToolFailure && error.cause.status === 1)
    return error.cause.stdout;
  throw error;
}

/** getfattr writes control characters and backslashes as three octal digits. */
const pathOf = (file: string): string =>
  (/^# file: (.*)/.exec(file)?.[1] ?? '').replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(parseInt(digits, 8)),
  );

/** `/a/b` as `/a`, `/a/b`. */
const foldersTo = (path: string): string[] =>
  path.split('/').flatMap((_, at, names) => (at === 0 ? [] : names.slice(0, at + 1).join('/')));
