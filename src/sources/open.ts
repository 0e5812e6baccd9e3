import type { SourceConfig } from '../config/config.ts';
import { filesSource } from './files.ts';
import { postgresSource } from './postgres.ts';
import type { Source } from './source.ts';
import { sqliteSource } from './sqlite.ts';

/** The source of a configuration. Opening it asks nothing yet. */
export function openSource(config: SourceConfig): Source {
  switch (config.kind) {
    case 'postgres':
      return postgresSource(config);
    case 'sqlite':
      return sqliteSource(config);
    case 'files':
      return filesSource(config);
  }
}
