import { fileName, nameOf } from './source.ts';

/** How the streams of a `mysql` source are named, and how one is known to be whole: for the source and the loader. */

export const usersFile = 'users.sql';

/** A database named "users" must not take the place of the users. */
export const fileOf = (database: string): string =>
  database === 'users' ? '%75sers.sql' : fileName(database, '.sql');

export const databaseOf = (file: string): string => nameOf(file, '.sql');

/** What newer dump programs of MariaDB write first: a command for the client, which older ones refuse. */
export const sandboxLine = '/*M!999999\\- enable the sandbox mode */ \n';

/**
 * The first statement is the source's own, if the database was there when it was asked. The comment in it may have many
 * lines.
 */
export const dumpBegins =
  /^(ALTER DATABASE CHARACTER SET \w+ COLLATE \w+(?: COMMENT '(?:[^'\\]|\\[^])*')?;\n)?(\/\*M!999999\\- enable the sandbox mode \*\/ *\n)?-- (MariaDB|MySQL) dump /;

export const dumpEnds = /\n-- Dump completed\n$/;
