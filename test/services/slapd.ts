import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

/** A configuration of slapd with its databases, all below one folder, and maybe a server that runs on it. */
export interface SlapdFolder {
  /** slapd.d */
  readonly config: string;
  /** Of each database, by its suffix. */
  readonly directories: Readonly<Record<string, string>>;
  readonly password: string;
  /** Starts a server; ending it leaves all files. */
  start(): Promise<SlapdService & AsyncDisposable>;
}

export interface SlapdService {
  readonly url: string;
  /** Runs one of the ldap-utils as the root of the databases (of the configuration, if told so) and returns what it prints. */
  tool(name: 'ldapadd' | 'ldapmodify' | 'ldapsearch', args: readonly string[], input?: string): string;
}

const owner = process.getuid?.() === 0 ? 'openldap' : undefined;
export const suffixes = ['dc=sub,dc=example,dc=org', 'dc=example,dc=org', 'o=Köln', 'dc=void'] as const;
const rootDn = 'cn=root,o=Köln';

/** `dir` must exist. The first database is subordinate to the second, as a delegated branch is; one is the monitor. */
export async function makeSlapd(dir: string): Promise<SlapdFolder> {
  await chmod(dir, 0o755);
  const config = join(dir, 'slapd.d');
  const logDir = join(dir, 'log');
  const directories = Object.fromEntries(suffixes.map((suffix, at) => [suffix, join(dir, `data${at}`)]));
  const passwordFile = join(dir, 'password');
  const password = randomBytes(12).toString('hex');
  await writeFile(passwordFile, password, { mode: 0o600 });
  for (const path of [config, logDir, ...Object.values(directories)]) await mkdir(path, { mode: 0o755 });
  if (owner) execFileSync('chown', [owner, config, dir, ...Object.values(directories)]);
  const ldif = join(dir, 'initial.ldif');
  await writeFile(ldif, await initial(directories, password));
  run('slapadd', ['-F', config, '-n', '0', '-l', ldif]);

  const start = async () => {
    const [port = 0] = await freePorts(1);
    const url = `ldap://127.0.0.1:${port}`;
    const tool: SlapdService['tool'] = (name, args, input) =>
      execFileSync(name, ['-x', '-H', url, '-D', rootDn, '-y', passwordFile, ...args], {
        encoding: 'utf8',
        input: input ?? '',
        stdio: ['pipe', 'pipe', 'pipe'],
      });
    const group = new ServerGroup(logDir);
    try {
      const args = ['-d', '0', '-F', config, '-h', url];
      await group.start('slapd', { command: '/usr/sbin/slapd', args, user: owner }, 'SIGTERM');
      await group.until(async () => tool('ldapsearch', ['-b', '', '-s', 'base']));
      return { url, tool, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
    } catch (error) {
      await group[Symbol.asyncDispose]();
      throw group.failure('slapd', error);
    }
  };
  return { config, directories, password, start };
}

/** One of slapd's own programs, as its user. */
export function run(program: string, args: readonly string[], input = ''): string {
  const as = owner ? ['--reuid', owner, '--regid', owner, '--init-groups', '--'] : ['--'];
  return execFileSync('setpriv', [...as, `/usr/sbin/${program}`, ...args], {
    encoding: 'utf8',
    input,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

/** Values of any bytes, for LDIF. */
const base64 = (bytes: string | Buffer): string => Buffer.from(bytes).toString('base64');

async function initial(directories: Readonly<Record<string, string>>, password: string): Promise<string> {
  const schemas = await Promise.all(
    ['core', 'cosine', 'inetorgperson'].map((name) => readFile(`/etc/ldap/schema/${name}.ldif`, 'utf8')),
  );
  const database = (number: number, suffix: string, more = '') =>
    `dn: olcDatabase={${number}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {${number}}mdb
olcDbDirectory: ${directories[suffix]}
olcSuffix:: ${base64(suffix)}
olcRootDN:: ${base64(rootDn)}
olcDbNoSync: TRUE
${more}`;
  return [
    `dn: cn=config\nobjectClass: olcGlobal\ncn: config\n`,
    `dn: cn=module{0},cn=config\nobjectClass: olcModuleList\ncn: module{0}\nolcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb\nolcModuleLoad: back_monitor\n`,
    `dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n`,
    ...schemas.map((schema) => schema.replace(/^#.*\n/gm, '')),
    `dn: olcDatabase={-1}frontend,cn=config\nobjectClass: olcDatabaseConfig\nobjectClass: olcFrontendConfig
olcDatabase: {-1}frontend\n`,
    `dn: olcDatabase={0}config,cn=config\nobjectClass: olcDatabaseConfig\nolcDatabase: {0}config\n`,
    database(1, suffixes[0], 'olcSubordinate: TRUE\n'),
    `dn: olcDatabase={2}monitor,cn=config\nobjectClass: olcDatabaseConfig\nolcDatabase: {2}monitor\n`,
    database(3, suffixes[1]),
    database(4, suffixes[2], `olcRootPW: ${password}\n`),
    database(5, suffixes[3]),
  ].join('\n');
}

/** Entries of every kind that a directory of people has. */
export function fill({ tool }: SlapdService): void {
  const jpeg = Buffer.concat([
    Buffer.from([0xff, 0xd8, 0xff, 0xe0]),
    Buffer.alloc(20_000, 7),
    Buffer.from([0, 10, 13]),
  ]);
  const person = (dn: string, surname: string, more = '') =>
    `dn:: ${base64(dn)}\nobjectClass: inetOrgPerson\nsn:: ${base64(surname)}\ncn:: ${base64(surname)}\n${more}`;
  const entries = [
    `dn: dc=example,dc=org\nobjectClass: organization\nobjectClass: dcObject\ndc: example\no: Example\n`,
    `dn: dc=sub,dc=example,dc=org\nobjectClass: organization\nobjectClass: dcObject\ndc: sub\no: Sub\n`,
    `dn:: ${base64('o=Köln')}\nobjectClass: organization\no:: ${base64('Köln')}\ndescription: ${'long '.repeat(100)}end\n`,
    person(
      'cn=Jörg Müller,dc=example,dc=org',
      'Müller',
      `userPassword: {SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\njpegPhoto:: ${base64(jpeg)}\ndescription:: ${base64(' a space first\nand a line')}\n`,
    ),
    person('uid=a\\,b\\+c,dc=sub,dc=example,dc=org', 'Komma', 'uid: a,b+c\n'),
    ...Array.from({ length: 300 }, (_, n) => person(`uid=u${n},o=Köln`, `Name ${n}`, `uid: u${n}\n`)),
  ];
  tool('ldapadd', [], entries.join('\n'));
}
