import type { AnySource } from '../config/config.ts';
import { commandSource } from './command.ts';
import { ejabberdSource } from './ejabberd.ts';
import { filesSource } from './files.ts';
import { ldapSource } from './ldap.ts';
import { mysqlSource } from './mysql.ts';
import { postgresSource } from './postgres.ts';
import { redisSource } from './redis.ts';
import { prosodySource } from './prosody.ts';
import type { Source } from './source.ts';
import { sqliteSource } from './sqlite.ts';
import { systemSource } from './system.ts';

/** The source of a configuration. Opening it asks nothing yet. */
export function openSource(config: AnySource): Source {
  switch (config.kind) {
    case 'postgres':
      return postgresSource(config);
    case 'sqlite':
      return sqliteSource(config);
    case 'mysql':
      return mysqlSource(config);
    case 'redis':
      return redisSource(config);
    case 'ldap':
      return ldapSource(config);
    case 'ejabberd':
      return ejabberdSource(config, openSource);
    case 'prosody':
      return prosodySource(config, openSource);
    case 'command':
      return commandSource(config);
    case 'system':
      return systemSource(config);
    case 'files':
      return filesSource(config);
  }
}
