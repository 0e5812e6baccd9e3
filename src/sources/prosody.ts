import type { DatabaseConfig, ProsodyConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { answer, findProgram, searchPath } from '../process.ts';
import { parallelOfParts, streamsOfParts } from './parts.ts';
import { serverTree } from './server-tree.ts';
import type { Source, SourceContext } from './source.ts';
import { isWithin, real } from './within.ts';

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
      const about = await askProsody(context);
      await tellVersion(name, about, context);
      await tellOtherData(config, about, context);
      return streams;
    },
  };
}

/** What Prosody says of itself. Whatever is wrong with the program is no more than a note, so then it is nothing. */
async function askProsody({ signal }: SourceContext): Promise<string> {
  const prosodyctl = await findProgram('prosodyctl', [...searchPath(), '/usr/bin', '/usr/local/bin']);
  if (prosodyctl === undefined) return '';
  return answer({ argv: [prosodyctl, 'about'] }, signal).then(
    ({ stdout }) => stdout,
    (error: unknown) => {
      if (!(error instanceof SealiftError)) throw error;
      return '';
    },
  );
}

async function tellVersion(source: string, about: string, { detail, problem }: SourceContext): Promise<void> {
  const version = /^Prosody (?!was )(\S.*)$/m.exec(about)?.[1];
  if (version === undefined)
    return problem('tool-missing', 'prosodyctl does not tell the version of Prosody');
  await detail({ type: 'server', source, software: 'Prosody', version });
}

/** The folder in the configuration of Prosody (`data_path`) and that in ours are two statements about one thing. */
async function tellOtherData(
  { config, data }: ProsodyConfig,
  about: string,
  { problem }: SourceContext,
): Promise<void> {
  const folderOf = (what: string) =>
    real(new RegExp(`^${what} directory: +(/.*)$`, 'm').exec(about)?.[1] ?? '');
  const [itsConfig, itsData] = await Promise.all([folderOf('Config'), folderOf('Data')]);
  // That of another Prosody on this machine is none of ours.
  if (itsConfig !== (await real(config)) || isWithin(itsData, await real(data))) return;
  problem('unreadable', `Prosody keeps its data in "${itsData}", which is not saved: \`data\` is "${data}"`);
}
