import { setTimeout as delay } from 'node:timers/promises';
import { countOf } from '../count-of.ts';
import { SealiftError } from '../errors.ts';
import { ask, type Server } from './postgres-connection.ts';

/** What a dump of a database would be without although pg_dump succeeds; pg_dump itself says little of it, or nothing. */
export interface Gaps {
  /** Settings by which the server passes over damage instead of failing. */
  readonly settings: readonly string[];
  /** What is left out, a sentence each. */
  readonly leftOut: readonly string[];
}

/** None of a database that does not let us in, or is too old to be asked: its dump tells what there is to tell. */
export async function findGaps(server: Server, database: string, signal: AbortSignal): Promise<Gaps> {
  for (let attempt = 1; ; attempt++)
    try {
      const found = (await ask(server, database, query, signal)) as Found;
      return { settings: found.settings, leftOut: leftOut(database, found) };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SealiftError)) throw error;
      if (attempt === attempts || !noConnection.test(error.message)) return { settings: [], leftOut: [] };
      await delay(pauseMs, undefined, { signal });
    }
}

/** The server takes a moment to see that our last question is over, and a login may have no second connection. */
const noConnection = /too many (connections|clients)|remaining connection slots/;
const attempts = 20;
const pauseMs = 250;

interface Found {
  readonly settings: string[];
  readonly superuser: boolean;
  readonly subscriptions: number;
  readonly mappings: number;
  readonly unlogged: number;
}

function leftOut(database: string, { superuser, subscriptions, mappings, unlogged }: Found): string[] {
  const where = `database ${JSON.stringify(database)}`;
  const texts: string[] = [];
  if (!superuser && subscriptions > 0)
    texts.push(
      `${where}: ${countOf(subscriptions, 'subscription')}, which only a superuser can save, is not in the dump`,
    );
  if (!superuser && mappings > 0)
    texts.push(
      `${where}: ${countOf(mappings, 'user mapping')} of foreign servers may have options (user, password) that the login cannot see`,
    );
  if (unlogged > 0)
    texts.push(
      `${where}: ${countOf(unlogged, 'unlogged table')} saved without rows, which a standby does not have`,
    );
  return texts;
}

const query = `
  SELECT json_build_object(
    'settings', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_catalog.pg_settings
      WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND setting = 'on'),
    'superuser', (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
    'subscriptions', (SELECT count(subdbid) FROM pg_catalog.pg_subscription
      WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())),
    'mappings', (SELECT count(*) FROM pg_catalog.pg_user_mappings WHERE umoptions IS NULL
      AND NOT (usename = current_user AND pg_catalog.has_server_privilege(srvid, 'USAGE'))),
    'unlogged', (SELECT count(*) FROM pg_catalog.pg_class
      WHERE relpersistence = 'u' AND relkind = 'r' AND pg_catalog.pg_is_in_recovery()))`;
