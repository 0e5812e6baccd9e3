import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { SealiftError } from '../errors.ts';
import { findProgram, searchPath, type SystemUser, systemUser } from '../process.ts';
import { explained, type Explanation } from './explanation.ts';
import { ldifEntries, type LdifEntry } from './ldif.ts';
import { fileName } from './source.ts';

/** What an LDIF text of whole entries looks like. */
export const wholeLdif = { begins: /^dn::? /, ends: /\n\n$/ };

export const configFile = 'config.ldif';

/** A database of slapd that keeps entries of its own. */
export interface LdapDatabase {
  /** Its place among the databases, which is what slapcat and slapadd know it by. */
  readonly number: number;
  readonly backend: string;
  readonly suffix: string | undefined;
  /** Where it keeps its files. */
  readonly directory: string | undefined;
  /** The name of its stream. */
  readonly file: string;
}

/** Backends that have no entries, or hand on those of another server. */
const keepsNothing = new Set('monitor ldap meta asyncmeta relay null dnssrv passwd perl sock sql'.split(' '));

/**
 * The databases of a configuration in LDIF, which begins with the entry `cn=config`. They are counted, as slapd does it:
 * the numbers in their names have a gap where one was deleted by hand. Those below an overlay (pcache) do not count:
 * they keep for a while what is another server's.
 */
export function databasesOf(config: string): LdapDatabase[] {
  const entries = ldifEntries(config).flatMap((entry) => {
    const [, backend] = /^olcDatabase=\{\d+\}([^,]+), *cn=config$/i.exec(entry.get('dn')?.[0] ?? '') ?? [];
    return backend === undefined || backend === 'config' ? [] : [{ entry, backend }];
  });
  return entries.flatMap(({ entry, backend }, at) => {
    if (keepsNothing.has(backend)) return [];
    const number = at + 1;
    const suffix = entry.get('olcsuffix')?.[0] || undefined;
    return [
      {
        number,
        backend,
        suffix,
        directory: directoriesOf(entry)[0],
        // A suffix has a "=" in it, so none becomes this.
        file: suffix === undefined ? `database-${number}.ldif` : fileName(suffix, '.ldif'),
      },
    ];
  });
}

/** The folders without which slapd does not start: of its databases, and of those below overlays. */
export const foldersOf = (config: string): string[] => ldifEntries(config).flatMap(directoriesOf);

const directoriesOf = (entry: LdifEntry): string[] =>
  (entry.get('olcdbdirectory') ?? []).map((directory) => resolve('/', withoutQuotes(directory)));

/** slapd takes a path in quotes, and one that has a space in it only so. */
const withoutQuotes = (path: string): string => path.replace(/^"([^"]*)"$/, '$1');

export const describe = ({ suffix, number }: LdapDatabase): string =>
  `database ${suffix === undefined ? `number ${number}` : JSON.stringify(suffix)}`;

/** For comparing what people write: `dc=Example, dc=org`. */
export const sameSuffix = (one: string, other: string): boolean => normal(one) === normal(other);

const normal = (suffix: string): string => suffix.toLowerCase().replace(/\s*([=,])\s*/g, '$1');

/** One of slapd's programs, which are seldom on the PATH of anybody but root. */
export async function slapProgram(
  name: string,
  directories: readonly string[] = [...searchPath(), '/usr/sbin', '/usr/local/sbin'],
): Promise<string> {
  const path = await findProgram(name, directories);
  if (path !== undefined) return path;
  throw new SealiftError('tool-missing', `${name} is not installed`, { hint: 'apt-get install slapd' });
}

/**
 * The system user that slapd's programs run as: what they make has to belong to slapd's own user. If root runs sealift
 * and names no other, that is who the configuration belongs to, or else the usual user.
 */
export async function slapdUser(
  config: string,
  runAs: string | undefined,
  signal: AbortSignal,
): Promise<SystemUser | undefined> {
  if (runAs !== undefined) return systemUser(runAs, signal);
  if (process.geteuid?.() !== 0) return undefined;
  const owner = await stat(config).catch(() => undefined);
  for (const name of [...(owner?.uid ? [String(owner.uid)] : []), 'openldap', 'ldap']) {
    const user = await systemUser(name, signal).catch((error: unknown) => {
      if (error instanceof SealiftError && error.code === 'config-invalid') return undefined;
      throw error;
    });
    if (user !== undefined) return user;
  }
  return undefined;
}

const explanations: readonly Explanation[] = [
  {
    says: /Permission denied|error 13\b/,
    code: 'source-denied',
    hint: "run sealift as root, or as slapd's own user (runAs), who has to be able to enter the folders above too",
  },
  {
    says: /lt_dlopenext failed/,
    code: 'tool-failed',
    hint: 'this slapd lacks a module that the configuration loads: install the package that has it',
  },
  {
    says: /MDB_MAP_FULL/,
    code: 'tool-failed',
    hint: 'a load needs more room than the server did: raise olcDbMaxSize, and load by hand (restore --to DIR; docs/operations.md)',
  },
  {
    says: /bad configuration|invalid config|could not open (config|database)|bi_db_open failed|No such file/,
    code: 'source-unavailable',
    hint: 'is the path of the configuration right (config), and are the folders of its databases there (olcDbDirectory)?',
  },
];

/** Of slapd's programs. */
export const explain = (error: unknown, what: string): unknown =>
  explained(error, explanations, (message) => `${what}: ${message}`);
