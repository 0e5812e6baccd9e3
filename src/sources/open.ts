import type { AnySource } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { ejabberdSource } from './ejabberd.ts';
import { filesSource } from './files.ts';
import { postgresSource } from './postgres.ts';
import { prosodySource } from './prosody.ts';
import type { Source } from './source.ts';
import { sqliteSource } from './sqlite.ts';

/** The source of a configuration. Opening it asks nothing yet. */
export function openSource(config: AnySource): Source {
  switch (config.kind) {
    case 'postgres':
      return postgresSource(config);
    case 'sqlite':
      return sqliteSource(config);
    case 'mysql':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'redis':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'ldap':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'ejabberd':
      return ejabberdSource(config, openSource);
    case 'prosody':
      return prosodySource(config, openSource);
    case 'command':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'system':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'files':
      return filesSource(config);
  }
}
