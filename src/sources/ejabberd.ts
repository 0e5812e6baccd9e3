import type { DatabaseConfig, EjabberdConfig } from '../config/config.ts';
import { mnesiaSource } from './ejabberd-mnesia.ts';
import { parallelOfParts, streamsOfParts } from './parts.ts';
import { serverTree } from './server-tree.ts';
import type { Source } from './source.ts';

/** In the spool: Mnesia's own files, which are saved through the server, and what ejabberd makes anew. */
const notSaved = [
  '*.{DCD,DCL,DAT,LOG,TMP,RET,BUP,BUPTMP}',
  'MnesiaCore.*',
  'queue',
  'translations.cache',
  'sealift-*',
  'erl_crash*.dump',
];

/**
 * An ejabberd server: its Mnesia database, twice (`mnesia.backup`, `mnesia.txt`); `ejabberd.tar` with its configuration,
 * certificates and uploads; and its SQL database, if it has one, as a source of that kind saves it.
 */
export function ejabberdSource(
  config: EjabberdConfig,
  openDatabase: (config: DatabaseConfig) => Source,
): Source {
  const { name, database } = config;
  const tree = serverTree({
    name,
    file: 'ejabberd.tar',
    config: config.config,
    data: config.data,
    // In some packages they are in a folder of the spool that is called as the node is.
    exclude: notSaved.flatMap((glob) => [glob, `*@*/${glob}`]),
    sqlitePaths: config.sqlitePaths,
  });
  const parts = [mnesiaSource(config), tree, ...(database === undefined ? [] : [openDatabase(database)])];
  return {
    name,
    kind: 'ejabberd',
    parallel: parallelOfParts(parts),
    streams: (context) => streamsOfParts(parts, context),
  };
}
