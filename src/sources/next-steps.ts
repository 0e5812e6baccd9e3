import { shellWord } from '../shell.ts';

/** A stream as it was restored to disk: a file, or the folder that a tree was unpacked in. */
export interface RestoredStream {
  readonly snapshot: string;
  readonly name: string;
  /** Of the name, what comes after the source. */
  readonly file: string;
  readonly kind: string;
  readonly path: string;
}

/**
 * What is left to do by hand after `restore --to`, for what cannot be loaded into its server by sealift: lines for a
 * terminal, the commands indented. docs/operations.md has the same with all that belongs to it. `access` are the options
 * by which another restore reads the same.
 */
export function nextSteps(streams: readonly RestoredStream[], access: readonly string[]): string[] {
  return streams.flatMap((stream) => {
    const { kind, file } = stream;
    switch (kind === 'files' ? file : `${kind} ${file}`) {
      case 'ejabberd mnesia.backup':
        return [
          `To load ${stream.name} into a running ejabberd that is empty, with the same name of its node:`,
          `  install -o ejabberd -m 600 ${shellWord(stream.path)} /var/lib/ejabberd/mnesia.backup`,
          '  ejabberdctl --no-timeout restore /var/lib/ejabberd/mnesia.backup',
          '  rm /var/lib/ejabberd/mnesia.backup',
        ];
      case 'ejabberd.tar':
      case 'prosody.tar':
        return [
          `To lay ${stream.name} down where it was, with its owners, while ${file.replace('.tar', '')} is stopped:`,
          `  ${['sealift restore', stream.snapshot, '--source', stream.name, ...access.map(shellWord), '--stdout'].join(' ')} | tar -xC /`,
        ];
      default:
        return [];
    }
  });
}
