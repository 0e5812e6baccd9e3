import type { Command, CommanderError } from 'commander';
import { SealiftError } from './errors.ts';

/** What commander has to complain about, as our own error. Help and version are no errors: undefined. */
export function usageError(error: CommanderError): SealiftError | undefined {
  if (error.exitCode === 0) return undefined;
  if (error.code === 'commander.help')
    return new SealiftError('usage', 'no command was given', { hint: 'see above' });
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  return new SealiftError('usage', message, {
    hint:
      suggestion?.replaceAll(/^\(|\)$/g, '') ??
      '`sealift help` lists the commands, `sealift COMMAND --help` shows its options',
  });
}

/** Subcommands throw as the program does, instead of ending the process. */
export function inherit(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inherit(child);
  }
}

export function count(_value: string, previous: number | undefined): number {
  return (previous ?? 0) + 1;
}

export const afterHelp = `
Configuration:
  --config FILE, else $SEALIFT_CONFIG, ./sealift.yaml,
  $XDG_CONFIG_HOME/sealift/sealift.yaml, /etc/sealift/sealift.yaml

Exit codes:
    0  done, nothing to report
    1  failed
    2  bad usage or configuration
    3  done in part; the output says which
   10  store or snapshot not found, or no file that matches
   11  another run of this job is active
   12  key missing, expired, revoked, wrong, not trusted, or passphrase wrong
   20  audit: a promise is broken
   21  verification failed: data missing, damaged or forged
  130  interrupted
`;
