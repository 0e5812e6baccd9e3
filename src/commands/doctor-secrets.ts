import type { Config } from '../config/config.ts';
import { isOpenToAll } from '../permissions.ts';
import { inQuotes } from '../shell.ts';
import type { Checkup } from './doctor-checkup.ts';

/** Where Docker mounts secrets, readable by all in the container: who is in there, is meant to read them. */
const ofContainer = '/run/secrets/';

/** Whether the files that passwords lie in are closed to the other users of the machine. */
export function checkSecrets(checkup: Checkup, config: Config): void {
  const files = new Set(secretsOf(config).flatMap((secret) => secret?.file ?? []));
  for (const file of files)
    if (isOpenToAll(file) && !file.startsWith(ofContainer))
      checkup.add(
        'config',
        file,
        'warning',
        'it holds a password, and every user of this machine can read it',
        `chmod o-r ${inQuotes(file)}`,
      );
}

/** Not the variables of commands, most of which are none. */
const secretsOf = ({ store, jobs }: Config) => [
  store.kind === 's3' ? store.secretAccessKey : undefined,
  ...jobs
    .flatMap(({ sources }) => sources)
    .flatMap((source) => ['database' in source && source.database ? source.database : source])
    .map((server) => ('password' in server ? server.password : undefined)),
];
