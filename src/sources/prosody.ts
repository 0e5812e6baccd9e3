import type { DatabaseConfig, ProsodyConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { findProgram, output, searchPath } from '../process.ts';
import { parallelOfParts, streamsOfParts } from './parts.ts';
import { serverTree } from './server-tree.ts';
import type { Source, SourceContext } from './source.ts';

/**
 * A Prosody server: `prosody.tar` with its configuration, certificates and data directory, and its SQL database, if it
 * has one, as a source of that kind saves it.
 *
 * Prosody writes a file of its internal storage anew beside the old one and renames it, so each is whole as it is read
 * (lists, such as offline messages, are appended to in place). Two files are not of the same instant.
 */
export function prosodySource(
  config: ProsodyConfig,
  openDatabase: (config: DatabaseConfig) => Source,
): Source {
  const { name, database } = config;
  const tree = serverTree({
    name,
    file: 'prosody.tar',
    config: config.config,
    data: config.data,
    // What is about to be renamed (Prosody's own names, and not every upload's that ends so), and the socket of its shell.
    exclude: ['**/*.{dat,list,bin}~', 'prosody.sock'],
    sqlitePaths: config.sqlitePaths,
  });
  const parts = [tree, ...(database === undefined ? [] : [openDatabase(database)])];
  return {
    name,
    kind: 'prosody',
    parallel: parallelOfParts(parts),
    async streams(context) {
      const streams = await streamsOfParts(parts, context);
      await tellVersion(name, context);
      return streams;
    },
  };
}

/** Only a fact for the details, so whatever is wrong with the program is no more than a note. */
async function tellVersion(name: string, { detail, problem, signal }: SourceContext): Promise<void> {
  const prosodyctl = await findProgram('prosodyctl', [...searchPath(), '/usr/bin', '/usr/local/bin']);
  const about =
    prosodyctl === undefined
      ? ''
      : await output({ argv: [prosodyctl, 'about'] }, signal).then(
          ({ stdout }) => stdout,
          (error: unknown) => {
            if (!(error instanceof SealiftError)) throw error;
            return '';
          },
        );
  const version = /^Prosody (\S.*)$/m.exec(about)?.[1];
  if (version === undefined)
    return problem('tool-missing', 'prosodyctl does not tell the version of Prosody');
  await detail({ type: 'server', source: name, software: 'Prosody', version });
}
