import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { writeNew } from '../durable.ts';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { isKeyFileName } from '../seal/key-files.ts';
import { loadRecipients } from '../seal/recipients.ts';
import type { Ledger } from './ledger.ts';

/** A checked public key file that is to be copied. */
export interface RecipientFile {
  readonly file: string;
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Reads the files of `--recipient` and refuses what backups could not be sealed to. */
export async function readRecipients(
  paths: readonly string[],
  cwd: string,
  now: Date,
): Promise<RecipientFile[]> {
  const files = paths.map((path) => resolve(cwd, path));
  for (const file of files) refuseUnreadable(file);
  if (files.length > 0) await loadRecipients(files, now).catch(notYetCopied);
  return files.map((file) => ({ file, name: findableName(basename(file)), bytes: readFileSync(file) }));
}

function refuseUnreadable(file: string): void {
  try {
    statSync(file);
  } catch (error) {
    const why = systemCode(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw new SealiftError('usage', `--recipient ${file}: ${why}`, { cause: error });
  }
}

/** Under which the file is found in a folder of keys. */
function findableName(name: string): string {
  const shown = name.replace(/^\.+/, '');
  return isKeyFileName(shown) ? shown : `${shown}.asc`;
}

/** `keys check`, to which the advice on keys points, does not know of these. */
function notYetCopied(error: unknown): never {
  if (!(error instanceof SealiftError)) throw error;
  throw new SealiftError(error.code, error.message, {
    hint: 'nothing has been made yet; `gpg --armor --export ADDRESS` writes the public half of a key pair, `sealift keys generate` makes a pair',
    cause: error,
  });
}

/** Copies them, byte for byte, into the recipients' folder. One that is there already is kept, if it is the same. */
export async function copyRecipients(
  recipients: readonly RecipientFile[],
  folder: string,
  ledger: Ledger,
): Promise<void> {
  for (const { file, name, bytes } of recipients) {
    const target = join(folder, name);
    if (existsSync(target) && !readFileSync(target).equals(bytes)) {
      throw new SealiftError('target-exists', `${target} is there already and is not the same as ${file}`, {
        hint: 'give the file another name, or remove the old one after looking at it with `sealift keys list`',
      });
    }
    await ledger.make(target, () => writeNew(target, bytes, 0o644));
  }
}
