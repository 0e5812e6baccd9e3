import { ldapLoader } from './ldap-restore.ts';
import { mysqlLoader } from './mysql-restore.ts';
import { postgresLoader } from './postgres-restore.ts';
import { redisLoader } from './redis-restore.ts';
import type { Loader } from './source.ts';
import { sqliteLoader } from './sqlite-restore.ts';

/** By the scheme of the target: `postgres://user@host/db`. A bare path is an SQLite database. */
const loaders: Readonly<Record<string, Loader>> = {
  postgres: postgresLoader,
  postgresql: postgresLoader,
  mysql: mysqlLoader,
  mariadb: mysqlLoader,
  sqlite: sqliteLoader,
  redis: redisLoader,
  ldap: ldapLoader,
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
  'redis://user@host:port or redis:/path/dump.rdb',
  'ldap:/etc/ldap/slapd.d',
  'sqlite:/path or a path',
];
