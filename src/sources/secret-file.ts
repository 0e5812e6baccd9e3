import { chmod, chown, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SealiftError } from '../errors.ts';
import { output, type SystemUser } from '../process.ts';
import type { Surroundings } from './source.ts';

/**
 * Lays a secret down where only the programs of a server can read it, in a folder of its own. Throws `config-invalid` where
 * the user that they run as cannot get there: they pass over what they cannot see, and the server would then complain of a
 * missing password.
 */
export async function writeSecretFile(
  name: string,
  text: string,
  runAs: SystemUser | undefined,
  { signal, temporary }: Surroundings,
): Promise<string> {
  const directory = await temporary();
  const path = join(directory, name);
  await writeFile(path, text, { mode: 0o600, flag: 'wx' });
  if (runAs === undefined || runAs.uid === process.geteuid?.()) return path;
  await chown(path, runAs.uid, runAs.gid);
  await chown(directory, runAs.uid, runAs.gid);
  await chmod(directory, 0o700);
  await output({ argv: ['test', '-r', path], runAs }, signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new SealiftError('config-invalid', `the user ${runAs.name} cannot enter ${directory}`, {
      hint: 'leave out runAs where a password is given, or let that user pass through the folders above it',
      cause,
    });
  });
  return path;
}
