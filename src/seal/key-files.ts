import { readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import * as openpgp from 'openpgp';
import { messageOf, SealiftError, sentenceOf, systemCode } from '../errors.ts';
import { type Guard, guardFolder, readGuarded } from '../permissions.ts';
import { packetAt } from './packets.ts';

/** What was found in one file: keys, or the reason why it holds none. */
export interface KeyFile {
  readonly file: string;
  readonly keys: readonly openpgp.Key[];
  readonly problem: string | undefined;
}

/** Whether a file of this name is looked for in a folder of keys: a hidden one is not. */
export const isKeyFileName = (name: string): boolean =>
  ['.asc', '.gpg', '.pgp', '.key'].includes(extname(name)) && !name.startsWith('.');

/** Whether a path that is not there would be a folder, which may not have been made yet: keys go into files with an ending. */
export const wouldBeFolder = (path: string): boolean => ['', '.d'].includes(extname(path));

const guard: Guard = { what: 'key file', missing: 'key-missing', refused: 'key-unusable' };

/**
 * Reads every key file that the paths name: files as they are, folders for their `*.asc`, `*.gpg`, `*.pgp` and `*.key`.
 * A folder that does not exist counts as empty. Nothing is skipped in silence: a file that cannot be trusted or read
 * comes back with its problem.
 */
export async function readKeyFiles(paths: readonly string[]): Promise<KeyFile[]> {
  const found: KeyFile[] = [];
  for (const path of paths) {
    try {
      for (const file of filesOf(path)) found.push(await readKeyFile(file));
    } catch (error) {
      if (!(error instanceof SealiftError)) throw error;
      found.push({ file: path, keys: [], problem: sentenceOf(error) });
    }
  }
  return found;
}

/**
 * Armored keys in a folder that are not read, for their name: left out on purpose, or of a recipient who is none. What cannot
 * be looked at is not among them.
 */
export function passedOver(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => !isKeyFileName(name) && !name.startsWith('.'))
      .map((name) => join(folder, name))
      .filter(holdsArmoredKey);
  } catch {
    return []; // no folder, or whoever reads it says what is wrong with it
  }
}

function holdsArmoredKey(file: string): boolean {
  try {
    const stats = statSync(file);
    if (!stats.isFile() || stats.size > longestKeyBytes) return false;
    return readFileSync(file, 'latin1').includes('-----BEGIN PGP PUBLIC KEY BLOCK-----');
  } catch {
    return false;
  }
}

/** What is longer was not put there as a key. */
const longestKeyBytes = 2 ** 20;

/** Reads one file, which must exist. */
export async function readKeyFile(file: string): Promise<KeyFile> {
  try {
    return { file, keys: await parseKeys(readGuarded(file, guard)), problem: undefined };
  } catch (error) {
    return { file, keys: [], problem: sentenceOf(error) };
  }
}

function filesOf(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
  } catch (error) {
    // Whose key a file would hold, is meant to have it.
    if (systemCode(error) === 'ENOENT') return wouldBeFolder(path) ? [] : [path];
    throw new SealiftError('key-unusable', `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  guardFolder(path, { ...guard, what: 'key folder' });
  return readdirSync(path)
    .filter(isKeyFileName)
    .toSorted()
    .map((name) => join(path, name));
}

/** All keys of a file, which may hold several armored blocks, or a binary keyring. Throws an Error that says what is wrong. */
export async function parseKeys(bytes: Uint8Array): Promise<openpgp.Key[]> {
  if (bytes.length === 0) throw new Error('the file is empty');
  const text = Buffer.from(bytes).toString('latin1');
  if (!text.includes('-----BEGIN PGP ')) return parseBinary(bytes);
  const blocks = text.match(/^-----BEGIN PGP [\s\S]*?^-----END PGP [A-Z ]+-----/gm) ?? [];
  const begun = text.match(/^-----BEGIN PGP /gm)?.length ?? 0;
  if (blocks.length !== begun) throw new Error('the file is cut off: a block has no end line');
  const keys: openpgp.Key[] = [];
  for (const block of blocks) keys.push(...(await parseBinary(await unarmor(block))));
  return keys;
}

async function unarmor(block: string): Promise<Uint8Array> {
  try {
    const { data } = await openpgp.unarmor(block);
    return data as Uint8Array;
  } catch (error) {
    throw new Error(`the armor is damaged: ${messageOf(error)}`, { cause: error });
  }
}

async function parseBinary(binaryKeys: Uint8Array): Promise<openpgp.Key[]> {
  const expected = countPrimaryKeys(binaryKeys);
  const keys = await openpgp.readKeys({ binaryKeys });
  // OpenPGP.js passes over a key whose version or algorithm it does not know: a recipient would be lost in silence.
  if (keys.length !== expected) {
    throw new Error(
      `it holds ${expected} keys, but only ${keys.length} of a version and algorithm that can be used here`,
    );
  }
  return keys;
}

/** Walks the packets and counts primary keys, public (6) and secret (5). */
function countPrimaryKeys(bytes: Uint8Array): number {
  let count = 0;
  const tags: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const packet = packetAt(bytes, at);
    if ((bytes[at]! & 0x80) === 0) throw new Error('it is not an OpenPGP key');
    if (!packet) throw new Error('the file is cut off, or is not an OpenPGP key');
    tags.push(packet.tag);
    if (packet.tag === 5 || packet.tag === 6) count++;
    at = packet.end;
  }
  if (count > 0) return count;
  if (tags.every((tag) => tag === 2))
    throw new Error('it holds a revocation certificate or signature, not a key');
  throw new Error('it holds an OpenPGP message, not a key');
}
