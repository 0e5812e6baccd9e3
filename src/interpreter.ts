import { open } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { SealiftError } from './errors.ts';
import { findProgram, searchPath } from './process.ts';

/** The kernel reads no more of a first line. */
const firstLineBytes = 256;

/**
 * The file that a command starts (`findCommand`), ready to be started. Throws `tool-missing` if it is a script whose first
 * line names what is not there: the system would say of the script itself that it is not there.
 */
export async function findStartable(
  program: string,
  cwd = '/',
  directories: readonly string[] = searchPath(),
): Promise<string | undefined> {
  const path = await findCommand(program, cwd, directories);
  if (path === undefined) return undefined;
  const [interpreter = '', ...rest] = await firstLine(path);
  const named = /(^|\/)env$/.test(interpreter) ? [interpreter, startedByEnv(rest.join(' '))] : [interpreter];
  for (const name of named) {
    if (name === '') continue;
    // Only env looks along the PATH.
    const place = name === interpreter ? resolve(cwd, name) : name;
    if ((await findCommand(place, cwd, directories)) !== undefined) continue;
    throw new SealiftError(
      'tool-missing',
      `${program} cannot be started: its first line names ${JSON.stringify(name)}, which is not there`,
      {
        hint: name.endsWith('\r')
          ? "its lines end as on Windows, in CR LF: sed -i 's/\\r$//' makes them plain"
          : 'install it, or correct the line',
      },
    );
  }
  return path;
}

/** The program that a command starts: a path, from the folder that it stands in, or a name on the PATH. */
const findCommand = (
  program: string,
  cwd: string,
  directories: readonly string[],
): Promise<string | undefined> =>
  program.includes('/')
    ? findProgram(basename(program), [resolve(cwd, dirname(program))])
    : findProgram(program, directories);

/** The words of a `#!` line; none where there is none, or it cannot be read: the user that it runs as may well. */
async function firstLine(path: string): Promise<string[]> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return [];
  await using _ = file;
  const { buffer, bytesRead } = await file.read(Buffer.alloc(firstLineBytes), 0, firstLineBytes, 0);
  const [, line = ''] = /^#![ \t]*([^\n]*)/.exec(buffer.toString('utf8', 0, bytesRead)) ?? [];
  // What is not UTF-8 cannot be looked for by that text.
  return line.includes('\uFFFD') ? [] : line.split(/[ \t]+/).filter((word) => word !== '');
}

/** The kernel hands all that follows over as one argument, which env takes apart with -S alone. Empty if that is not plain. */
function startedByEnv(argument: string): string {
  const [, split, name = ''] = /^(-S ?)?([^-=\s'"\\$][^=]*)$/.exec(argument) ?? [];
  return split === undefined ? name : (/^[^ ]+/.exec(name)?.[0] ?? '');
}
