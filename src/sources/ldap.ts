import { chmod, chown, stat } from 'node:fs/promises';
import type { LdapConfig } from '../config/config.ts';
import { SealiftError, systemCode } from '../errors.ts';
import { output, readProcess, type SystemUser } from '../process.ts';
import { withEvidence } from './evidence.ts';
import {
  configFile,
  databasesOf,
  describe,
  explain,
  type LdapDatabase,
  sameSuffix,
  slapdUser,
  slapProgram,
  wholeLdif,
} from './ldap-server.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * An OpenLDAP server: `config.ldif` (cn=config, with the schema) and one `.ldif` per database that keeps entries, made
 * by slapcat from the files, so slapd may run or not. It has everything, with operational attributes and password
 * hashes. Each database is consistent in itself: slapcat reads an mdb in one transaction.
 */
export function ldapSource(config: LdapConfig, directories?: readonly string[]): Source {
  return { name: config.name, kind: 'ldap', streams: (context) => streams(config, context, directories) };
}

/** How slapd's programs find one configuration. */
interface Slapd {
  readonly slapcat: string;
  /** The folder slapd.d. */
  readonly folder: string;
  readonly runAs: SystemUser | undefined;
}

async function streams(
  config: LdapConfig,
  context: SourceContext,
  directories: readonly string[] | undefined,
): Promise<SourceStream[]> {
  const { signal } = context;
  const { name: source } = config;
  const slapcat = await slapProgram('slapcat', directories);
  const runAs = await slapdUser(config.config, config.runAs, signal);
  const folder = await configFolder(config.config, runAs, context, directories);
  const slapd: Slapd = { slapcat, folder, runAs };
  const text = await readConfig(slapd, config.config, signal);
  const databases = databasesOf(text).filter(
    ({ suffix = '' }) => !config.exclude.some((excluded) => sameSuffix(suffix, excluded)),
  );
  await context.detail({ type: 'server', source, version: await version(directories, signal) });
  for (const database of databases) await context.detail({ type: 'database', source, ...database });
  return [
    {
      file: configFile,
      async *open() {
        yield Buffer.from(text);
      },
    },
    ...databases.map((database) => ({
      file: database.file,
      open: ({ signal }: SourceContext) => dump(slapd, database, signal),
    })),
  ];
}

/**
 * slapd.d itself; slapd.conf is translated into one, in the way that a move to slapd.d does it. No database but the
 * configuration (0) is opened for that: one that is lost would take its siblings along.
 */
async function configFolder(
  path: string,
  runAs: SystemUser | undefined,
  context: SourceContext,
  directories: readonly string[] | undefined,
): Promise<string> {
  const found = await stat(path).catch((cause: unknown) => {
    const missing = systemCode(cause) === 'ENOENT' || systemCode(cause) === 'ENOTDIR';
    throw new SealiftError(
      missing ? 'source-unavailable' : 'source-denied',
      missing ? `there is no ${path}` : `${path} cannot be read`,
      { hint: 'set config to the folder slapd.d, or to slapd.conf', cause },
    );
  });
  if (found.isDirectory()) return path;
  const folder = await context.temporary();
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  await chmod(folder, 0o700);
  const slaptest = await slapProgram('slaptest', directories);
  await output({ argv: [slaptest, '-n', '0', '-f', path, '-F', folder], runAs }, context.signal).catch(
    (error: unknown) => {
      throw explain(error, path);
    },
  );
  return folder;
}

async function readConfig(
  { slapcat, folder, runAs }: Slapd,
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const argv = [slapcat, '-F', folder, '-n', '0'];
  const { stdout } = await output({ argv, runAs }, signal).catch((error: unknown) => {
    throw explain(error, `the configuration ${path}`);
  });
  if (stdout === '')
    throw new SealiftError(
      'source-empty',
      `the configuration ${path} is empty, although slapcat reported success`,
    );
  if (stdout.startsWith('dn: cn=config\n') && wholeLdif.ends.test(stdout)) return stdout;
  throw new SealiftError(
    'source-damaged',
    `the configuration ${path} is not what it should be, although slapcat reported success`,
  );
}

/** Without `-g`, a database would bring along those that are subordinate to it, which have streams of their own. */
async function* dump(
  { slapcat, folder, runAs }: Slapd,
  database: LdapDatabase,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const argv = [slapcat, '-F', folder, '-g', '-n', String(database.number)];
  const what = describe(database);
  try {
    yield* withEvidence(readProcess({ argv, runAs, buffered: true }, signal), what, wholeLdif);
  } catch (error) {
    if (!(error instanceof SealiftError && error.code === 'source-empty')) throw explain(error, what);
    throw new SealiftError('source-empty', error.message, {
      hint: 'if it has no entries, and is to have none, name its suffix under exclude',
    });
  }
}

/** slapcat does not tell its version; slapd, of the same package, does. */
async function version(
  directories: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const slapd = await slapProgram('slapd', directories).catch(() => undefined);
  if (slapd === undefined) return undefined;
  const said = await output({ argv: [slapd, '-VV'] }, signal).catch(() => undefined);
  signal.throwIfAborted();
  return /slapd (\S+)/.exec(`${said?.stdout}${said?.stderr}`)?.[1];
}
