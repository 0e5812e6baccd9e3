import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { messageOf, SealiftError, sentenceOf, systemCode } from '../errors.ts';
import { feedProcess, type SystemUser, ToolFailure } from '../process.ts';
import { type ByteName, systemPath, textOf } from './byte-name.ts';
import { clearFolder, findFolder, type FoundFolder, keepOpen } from './find-folder.ts';
import { type FolderHandle, inside, openWay } from './folder-handle.ts';
import {
  configFile,
  databasesOf,
  describe,
  explain,
  foldersOf,
  type LdapDatabase,
  slapdUser,
  slapProgram,
  wholeLdif,
} from './ldap-server.ts';
import { inOrder } from './load-failure.ts';
import { hasOpenIn, isSame, type Process, processesNamed } from './processes.ts';
import type { LoadContext, Loader, LoadStream } from './source.ts';
import { readSmall } from './small-body.ts';
import { targetPath } from './target-url.ts';

export const ldapLoader: Loader = {
  kind: 'ldap',
  takesSeveral: true,
  load: (into, streams, context) => loadLdap(into, streams, context),
};

interface Slapd {
  readonly slapadd: string;
  readonly folder: string;
  readonly runAs: SystemUser | undefined;
}

/** While folders are made: those that are open, and what gives back what was there. */
interface Making {
  readonly slapd: Slapd;
  readonly force: boolean;
  readonly opened: DisposableStack;
  readonly undo: DisposableStack;
}

/**
 * `ldap:/etc/ldap/slapd.d`: makes the configuration of a slapd that is stopped, and its databases in the folders that
 * the configuration names, with slapadd. (Over the network neither hashes nor operational attributes can be loaded.)
 *
 * Refused while slapd uses them. Folders that are not empty are refused with `target-exists`, or with `force` set
 * aside under another name, which is told. What fails or is interrupted is undone: all is as it was.
 */
export async function loadLdap(
  into: string,
  streams: readonly LoadStream[],
  context: Pick<LoadContext, 'force' | 'signal'>,
): Promise<{ lines: string[] }> {
  try {
    return await load(into, streams, context);
  } catch (error) {
    if (!(error instanceof SuppressedError)) throw error;
    const [first, ...others] = inOrder(error);
    throw new SealiftError('restore-failed', `not all could be undone: ${others.map(messageOf).join('; ')}`, {
      hint: `why the load failed: ${sentenceOf(first).replace(allUndone, '')}`,
      cause: error,
    });
  }
}

const allUndone = 'loading failed, and all is as it was: ';

async function load(
  into: string,
  streams: readonly LoadStream[],
  { force, signal }: Pick<LoadContext, 'force' | 'signal'>,
): Promise<{ lines: string[] }> {
  const target = targetFolder(into);
  const config = streams.find(({ file }) => file === configFile);
  if (config === undefined)
    throw new SealiftError(
      'usage',
      `${configFile} is not among the streams, and without it no database can be made`,
      { hint: 'choose the whole source; for one database: --to DIR, then slapadd -b SUFFIX -l FILE' },
    );
  const text = await readConfig(config);
  const databases = databasesOf(text).map((database) => ({
    database,
    data: streams.find(({ file }) => file === database.file),
  }));
  const slapadd = await slapProgram('slapadd');
  const slapd: Slapd = { slapadd, folder: target, runAs: await slapdUser(target, undefined, signal) };
  const filled = new Set([
    target,
    ...databases.flatMap(({ database, data }) => (data && database.directory) ?? []),
  ]);
  await refuseWhileRunning(target, [...filled]);
  if (!force) for (const folder of filled) await refuseFull(folder);

  const lines: string[] = [];
  using opened = new DisposableStack();
  using undo = new DisposableStack();
  const making: Making = { slapd, force, opened, undo };
  // A folder that lies in another comes after it, and is gone by then if that was set aside.
  for (const folder of new Set([target, ...foldersOf(text).toSorted()])) {
    const aside = (filled.has(folder) ? prepare : makeOwn)(folder, making);
    if (aside !== undefined) lines.push(`what was in ${folder} is in ${aside}`);
  }

  await add(slapd, ['-n', '0'], [Buffer.from(text)], 'the configuration', signal);
  lines.push(`${target} made`);
  for (const { database, data } of databases) {
    const what = describe(database);
    if (data) await add(slapd, ['-n', String(database.number), ...entirely], data.open(), what, signal);
    lines.push(
      data ? `${what} loaded${place(database)}` : `${what} is not in the snapshot, and was left alone`,
    );
  }
  signal.throwIfAborted();
  undo.move();
  lines.push('start slapd: systemctl start slapd');
  return { lines };
}

const place = ({ directory }: LdapDatabase): string => (directory === undefined ? '' : ` into ${directory}`);

function targetFolder(into: string): string {
  const path = targetPath(into, 'ldap');
  if (path !== '' && !path.startsWith('//')) return resolve(path);
  throw new SealiftError('usage', 'the target must look like ldap:/etc/ldap/slapd.d', {
    hint: 'it is loaded from its files: run the restore on the machine of slapd, while that is stopped',
  });
}

/** The schema makes it large, not the server. */
async function readConfig(stream: LoadStream): Promise<string> {
  const text = (await readSmall(stream.open()))?.toString('utf8');
  if (text?.startsWith('dn: cn=config\n') && wholeLdif.ends.test(text)) return text;
  throw new SealiftError('restore-failed', `${stream.file} is no configuration of slapd`);
}

/** By the configuration that a slapd was started with, and by the databases that it has open. */
async function refuseWhileRunning(target: string, folders: readonly string[]): Promise<void> {
  for (const slapd of await processesNamed(/^slapd$/)) {
    const uses = [...(await configsOf(slapd, target)), ...(await opened(slapd, folders))][0];
    if (uses === undefined) continue;
    throw new SealiftError('target-exists', `slapd (process ${slapd.pid}) is at work in ${uses}`, {
      hint: 'stop it first: systemctl stop slapd',
    });
  }
}

async function configsOf({ argv }: Process, target: string): Promise<string[]> {
  const at = argv.findIndex((argument) => argument.startsWith('-F'));
  const given = at < 0 ? undefined : argv[at]!.slice(2) || argv[at + 1];
  const usual = argv.some((argument) => argument.startsWith('-f')) ? [] : usualConfigs;
  for (const folder of given === undefined ? usual : [given])
    if (await isSame(folder, target)) return [target];
  return [];
}

const usualConfigs = ['/etc/ldap/slapd.d', '/etc/openldap/slapd.d', '/usr/local/etc/openldap/slapd.d'];

async function opened(slapd: Process, folders: readonly string[]): Promise<string[]> {
  const open: string[] = [];
  for (const folder of folders) if (await hasOpenIn(slapd, folder)) open.push(folder);
  return open;
}

/** Undefined if there is no such folder. */
async function entriesOf(folder: string): Promise<string[] | undefined> {
  return readdir(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    if (systemCode(error) !== 'ENOTDIR') throw error;
    throw new SealiftError('target-exists', `${folder} is there already and is no folder`, { cause: error });
  });
}

async function refuseFull(folder: string): Promise<void> {
  if (((await entriesOf(folder)) ?? []).length > 0) throw full(folder);
}

const full = (folder: string): SealiftError =>
  new SealiftError('target-exists', `${folder} is not empty`, {
    hint: 'empty it, or use --force: what is in it is then set aside under another name',
  });

/**
 * Sees to it that the folder is there and empty. Returns where its content went.
 *
 * All is done through open handles: the folders around it may be those of slapd's user, or of another, who could put
 * a link to a folder of root's in its place.
 */
function prepare(path: string, making: Making): string | undefined {
  const found = find(path, making);
  const { folder } = found;
  if (folder !== undefined && !isEmpty(folder)) {
    if (!making.force) throw full(path); // It was empty before.
    return setAside(path, folder, found, making);
  }
  if (folder !== undefined) making.undo.defer(() => clearFolder(folder));
  giveOrMake(found, making);
  return undefined;
}

/** A folder that somebody else than root leads to is that user's choice, and must have been slapd's before. */
function find(path: string, { slapd, opened }: Making): FoundFolder {
  const found = findFolder(path, opened);
  const { folder, ledByOthers } = found;
  const isSlapds = folder !== undefined && fstatSync(folder.fd).uid === slapd.runAs?.uid;
  if (!ledByOthers || isSlapds) return found;
  throw new SealiftError(
    'target-exists',
    `${path} leads to another place by a link that not only root can have made`,
    { hint: 'remove the link, or give the folder to which it leads to the user of slapd first' },
  );
}

/** Another, of the same owner and mode, takes its place. */
function setAside(
  path: string,
  previous: FolderHandle,
  { around, names }: FoundFolder,
  making: Making,
): string {
  const name = names[0]!;
  const asideName = `${name}.before-restore-${randomBytes(3).toString('hex')}`;
  const [at, aside] = [name, asideName].map((entry) => systemPath(inside(around, entry)));
  const shown = textOf(join(realpathSync.native(around.at, 'latin1'), asideName));
  const { uid, gid, mode } = fstatSync(previous.fd);
  try {
    renameSync(at!, aside!);
  } catch (cause) {
    if (systemCode(cause) !== 'EBUSY') throw cause;
    throw new SealiftError('target-exists', `${path} is a mount point and cannot be set aside`, {
      hint: 'move what is in it away yourself',
      cause,
    });
  }
  making.undo.defer(() => putBack(aside!, at!, `what was in ${path} is in ${shown}`));
  const folder = makeNew(around, name, 0o700, making);
  chownSync(folder.at, uid, gid);
  chmodSync(folder.at, mode & 0o7777);
  give(folder, making);
  return shown;
}

/** Where slapd's user, or another, has put something in the place meanwhile, who restores has to know where the data is. */
function putBack(aside: string | Buffer, at: string | Buffer, where: string): void {
  try {
    renameSync(aside, at);
  } catch (cause) {
    throw new SealiftError('restore-failed', `${where} and could not be put back: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Makes a folder if there is none, and sees to it that slapd can write to it. */
function makeOwn(path: string, making: Making): undefined {
  giveOrMake(find(path, making), making);
}

const giveOrMake = ({ around, names, folder }: FoundFolder, making: Making): void =>
  give(folder ?? makeMissing(around, names, making), making);

/** One that root made belongs to slapd's user then, unless it holds something: a snapshot may name `/etc` as such a folder. */
function give(folder: FolderHandle, { slapd: { runAs }, undo }: Making): void {
  const { uid, gid } = fstatSync(folder.fd);
  if (runAs === undefined || uid !== 0 || !isEmpty(folder)) return;
  chownSync(folder.at, runAs.uid, runAs.gid);
  undo.defer(() => chownSync(folder.at, uid, gid));
}

/** With those around it. */
function makeMissing(around: FolderHandle, names: readonly ByteName[], making: Making): FolderHandle {
  const [name, ...further] = names;
  if (name === undefined) return around;
  return makeMissing(makeNew(around, name, further.length > 0 ? 0o755 : 0o700, making), further, making);
}

/** Not another one that somebody has put in its place at once. */
function makeNew(around: FolderHandle, name: ByteName, mode: number, { opened, undo }: Making): FolderHandle {
  const at = inside(around, name);
  mkdirSync(systemPath(at), { mode });
  undo.defer(() => removeFolder(at));
  try {
    const folder = keepOpen(openWay(at), opened);
    if (fstatSync(folder.fd).uid === process.geteuid?.() && isEmpty(folder)) {
      undo.defer(() => clearFolder(folder));
      return folder;
    }
  } catch (error) {
    if (!['ENOTDIR', 'ELOOP', 'ENOENT'].includes(systemCode(error) ?? '')) throw error;
  }
  throw new SealiftError('restore-failed', `somebody puts something else in the place of "${textOf(name)}"`, {
    hint: 'see who may write to the folder around it',
  });
}

/** Or what somebody has put in its place, so that what was there can come back. */
function removeFolder(at: ByteName): void {
  try {
    rmdirSync(systemPath(at));
  } catch (error) {
    if (systemCode(error) !== 'ENOTDIR') throw error;
    unlinkSync(systemPath(at));
  }
}

const isEmpty = ({ at }: FolderHandle): boolean => readdirSync(at, 'latin1').length === 0;

/**
 * `-q` leaves out what makes a load survive a crash half-way: then it is done anew anyway. `-s`: what slapd has, such
 * as the part of an entry that a partial replica is given, need not follow the schema.
 */
const entirely = ['-g', '-q', '-s'];

async function add(
  { slapadd, folder, runAs }: Slapd,
  which: readonly string[],
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  what: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    await feedProcess({ argv: [slapadd, '-F', folder, ...which], runAs }, body, signal);
  } catch (error) {
    const explained = explain(error, what);
    if (!(explained instanceof SealiftError && explained.cause instanceof ToolFailure)) throw error;
    throw new SealiftError('restore-failed', `${allUndone}${explained.message}`, {
      hint: explained.hint,
      cause: explained.cause,
    });
  }
}
