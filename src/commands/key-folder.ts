import { statSync } from 'node:fs';
import { SealiftError } from '../errors.ts';
import { wouldBeFolder } from '../seal/key-files.ts';

/** The folder among the configured paths that new keys go into. It may not exist yet. Throws `usage` if all are files. */
export function keyFolder(paths: readonly string[], setting: 'recipients' | 'hosts'): string {
  const folder = paths.find((path) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats?.isDirectory() ?? wouldBeFolder(path);
  });
  if (folder !== undefined) return folder;
  throw new SealiftError(
    'usage',
    `\`${setting}\` names only files (${paths.join(', ')}), no folder for a new key`,
    { hint: `write the key to a file yourself and add it to \`${setting}\`` },
  );
}
