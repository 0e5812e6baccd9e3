import type { SourceConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { commandSource } from './command.ts';
import { filesSource } from './files.ts';
import { postgresSource } from './postgres.ts';
import type { Source } from './source.ts';
import { sqliteSource } from './sqlite.ts';
import { systemSource } from './system.ts';

/** The source of a configuration. Opening it asks nothing yet. */
export function openSource(config: SourceConfig): Source {
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
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'prosody':
      throw new SealiftError('config-invalid', `the kind ${config.kind} is not there yet`);
    case 'command':
      return commandSource(config);
    case 'system':
      return systemSource(config);
    case 'files':
      return filesSource(config);
  }
}
