import { SealiftError } from '../errors.ts';

/** What to do about what a server or pg_restore says of a load; the first that fits. */
const advice: readonly (readonly [RegExp, string])[] = [
  [
    /role "pg_\w+" does not exist/,
    'the server is older than the saved one and lacks a role that came later: make the roles by hand, and load each dump with --source SOURCE/FILE',
  ],
  [
    /role .* does not exist/,
    'load the roles first (a URL without a database, with globals.sql), or create them: CREATE ROLE',
  ],
  [
    /directory ".*" (does not exist|already in use)|could not (create|set permissions on) directory/,
    'the folders of the tablespaces have to be there, empty, and belong to the user of the server; roles that were made before stay, and do not hinder another load',
  ],
  [
    /ablespace ".*" does not exist/s,
    'load the tablespaces first (a URL without a database, with globals.sql), or make it: CREATE TABLESPACE',
  ],
  [
    /relation .* does not exist|violates foreign key constraint/,
    'if tables were excluded from the dump, this refers to one of them (`sealift show SNAPSHOT --files` names it): ' +
      'use --to, and load what is there with pg_restore --use-list',
  ],
  [
    /function .* does not exist.*(SQL|PL\/pgSQL) function/s,
    'a dump is loaded with an empty search_path, and a function of it calls another without its schema: ' +
      'ALTER FUNCTION ... SET search_path where it is saved; this dump goes through --to and pg_restore --use-list',
  ],
  [
    /at RAISE; Command was: (ALTER|COMMENT|CREATE|DROP|GRANT|REVOKE) /,
    'is it an event trigger of the database that refuses such statements? ALTER EVENT TRIGGER ... DISABLE there for the time of the load',
  ],
  [
    /DROP SUBSCRIPTION cannot run inside/,
    'no transaction can drop a subscription that has a slot: there, before the load, ALTER SUBSCRIPTION ... DISABLE, ' +
      'ALTER SUBSCRIPTION ... SET (slot_name = NONE) and DROP SUBSCRIPTION; the slot stays on the other server',
  ],
  [
    /max_locks_per_transaction/,
    'a load is one transaction, and locks every table and large object until its end: raise max_locks_per_transaction ' +
      'of the server (to their number divided by max_connections) and start it again, or use --to and pg_restore',
  ],
  [
    /read-only transaction/,
    'it is a standby, or default_transaction_read_only is on there (ALTER SYSTEM, DATABASE or ROLE ... SET): load where one may write',
  ],
  [
    /invalid (LC_\w+ |LC_\w+ setting|)locale name|locale "?.*"? does not exist/,
    'the machine of the server lacks the locale of the saved database: dpkg-reconfigure locales and start the server again, ' +
      'or make the database there with another (CREATE DATABASE) and load into it by its name in the URL',
  ],
  [
    /unsupported version .* in file header/,
    'a newer pg_dump made it: install a newer postgresql-client here',
  ],
];

/** For what a load throws: gives it the hint that fits its message, or leaves it its own. */
export function withAdvice(error: unknown): never {
  if (!(error instanceof SealiftError)) throw error;
  const [, hint = error.hint] = advice.find(([says]) => says.test(error.message)) ?? [];
  throw new SealiftError(error.code, error.message, { hint, cause: error.cause });
}
