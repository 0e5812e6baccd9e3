import { mysqlLoader } from './mysql-restore.ts';
import { postgresLoader } from './postgres-restore.ts';
import type { Loader } from './source.ts';
import { sqliteLoader } from './sqlite-restore.ts';

/** By the scheme of the target: `postgres://user@host/db`. A bare path is an SQLite database. */
const loaders: Readonly<Record<string, Loader>> = {
  postgres: postgresLoader,
  postgresql: postgresLoader,
  mysql: mysqlLoader,
  mariadb: mysqlLoader,
  sqlite: sqliteLoader,
};

/** What loads into such a target; undefined if nothing does. */
export function loaderFor(into: string): Loader | undefined {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(into)?.[1]?.toLowerCase() ?? 'sqlite';
  return Object.hasOwn(loaders, scheme) ? loaders[scheme] : undefined;
}

/** For help and hints: one target of every kind. */
export const targetForms = [
  'postgres://user@host:port/database',
  'mysql://user@host:port/database',
  'sqlite:/path or a path',
];
