import { SealiftError } from '../errors.ts';
import { findProgram, readProcess, ToolFailure } from '../process.ts';
import { type ByteName, textOf } from './byte-name.ts';
import { excluder } from './files-exclude.ts';
import { foldersTo } from './within.ts';

/** Not labels of SELinux, which the policy of the new machine sets, and not what file systems keep for themselves. */
const kept = '^(user\\.|security\\.capability$|system\\.posix_acl_)';

export interface FileAttributes {
  readonly path: string;
  /** One character per byte, with the blank line at its end. */
  readonly text: ByteName;
}

/**
 * What a tree's tar is without: access control lists, capabilities and attributes of users, in the form that
 * `setfattr --restore` takes back (getfattr(1)). In the order in which the folders have their files; like the tree
 * without other file systems and what is excluded.
 */
export async function* attributesBelow(
  paths: readonly string[],
  exclude: readonly string[],
  directories: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<FileAttributes, void, void> {
  const excluded = excluder(exclude);
  const find = (await findProgram('find', directories)) ?? 'find';
  const dump = ['getfattr', '--no-dereference', '--dump', `--match=${kept}`, '--encoding=hex'];
  const argv = [find, ...paths, '-xdev', '-exec', ...dump, '--absolute-names', '--', '{}', '+'];
  let rest = '';
  try {
    for await (const chunk of readProcess({ argv }, signal)) {
      const files = (rest + chunk.toString('latin1')).split(/(?<=\n\n)/);
      rest = files.at(-1)!.endsWith('\n\n') ? '' : files.pop()!;
      for (const text of files) {
        const path = pathOf(text);
        if (!foldersTo(path).some(excluded)) yield { path, text };
      }
    }
  } catch (error) {
    // What vanishes or may not be read is a problem of the tree, and is named there.
    if (!(error instanceof SealiftError && error.cause instanceof ToolFailure && error.cause.status === 1))
      throw error;
  }
}

/** getfattr writes control characters and backslashes as three octal digits. */
const pathOf = (text: ByteName): string =>
  textOf(
    (/^# file: (.*)/.exec(text)?.[1] ?? '').replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(parseInt(digits, 8)),
    ),
  );
