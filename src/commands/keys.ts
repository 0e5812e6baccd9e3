import { resolve } from 'node:path';
import * as openpgp from 'openpgp';
import { messageOf, SealiftError } from '../errors.ts';
import { formatFingerprint, printable } from '../output.ts';
import { askNewPassphrase, readPassphraseFile } from '../prompt.ts';
import { hostFingerprint, hostOfKey } from '../seal/host-key.ts';
import { generateOperatorKey } from '../seal/operator-key.ts';
import { pinHostKey } from '../seal/trust.ts';
import type { Context, Outcome } from './context.ts';
import { keyFolder } from './key-folder.ts';
import { gatherKeys, keysDocument, printKeys } from './key-report.ts';

export interface GenerateOptions {
  readonly userId: string;
  readonly out: string;
  readonly passphraseFile?: string;
  /** False with `--no-passphrase`. */
  readonly passphrase: boolean;
}

/** `sealift keys generate`: an operator's key pair. Needs no configuration. */
export async function generate(context: Context, options: GenerateOptions): Promise<Outcome> {
  const { output } = context;
  const folder = resolve(context.environment.cwd, options.out);
  const passphrase = await newPassphrase(context, options);
  const key = await generateOperatorKey({ userId: options.userId, folder, passphrase, now: context.clock() });
  if (context.json) return output.json(key);
  output.text(`Key pair of ${key.userId}`);
  output.text(`  fingerprint  ${formatFingerprint(key.fingerprint)}`);
  output.text(`  public       ${key.publicFile}`);
  output.text(`  private      ${key.privateFile}`);
  output.text(`  revocation   ${key.revocationFile}`);
  output.text();
  output.text(
    'Copy the public file to the hosts (sealift init --recipient FILE). The private file opens every',
  );
  output.text(
    'backup that is sealed to it: keep it off the hosts, keep a second copy, and do not forget the',
  );
  output.text(
    'passphrase. Nobody can restore without it. `gpg --import` reads both. The revocation file is for the',
  );
  output.text('day when the private one is lost or stolen: who imports it revokes the key.');
}

async function newPassphrase(context: Context, options: GenerateOptions): Promise<string | undefined> {
  if (options.passphraseFile !== undefined) {
    if (!options.passphrase) {
      throw new SealiftError('usage', 'either --passphrase-file or --no-passphrase can be given, not both');
    }
    const file = resolve(context.environment.cwd, options.passphraseFile);
    const passphrase = readPassphraseFile(file);
    // What is not UTF-8 was read as replacement characters: no other program would open the key with what the file says.
    if (/^\uFEFF|\uFFFD/.test(passphrase))
      throw new SealiftError('usage', `the passphrase in ${file} is not what anybody could type`, {
        hint: 'save it as UTF-8, without a byte order mark',
      });
    return passphrase;
  }
  if (options.passphrase) return askNewPassphrase(options.userId, context.signal);
  context.log.warn(
    'the private half is not protected by a passphrase: whoever reads the file reads the backups',
  );
  return undefined;
}

/** `sealift keys list`: every recipient and every pinned host. */
export async function list(context: Context): Promise<Outcome> {
  const keys = await gatherKeys(context);
  if (context.json) return context.output.json(keysDocument(keys, context.clock()));
  printKeys(context, keys);
}

/** `sealift keys check`: the same, and the exit status says whether all of them can be used. */
export async function check(context: Context): Promise<Outcome> {
  const { output } = context;
  const keys = await gatherKeys(context);
  const bad = [...keys.recipients, ...keys.hosts].filter(({ problems }) => problems.length > 0).length;
  const missing = keys.recipients.length === 0;
  const outcome = bad > 0 ? 'key-unusable' : missing ? 'key-missing' : undefined;
  if (context.json) {
    output.json({ ok: outcome === undefined, ...keysDocument(keys, context.clock()) });
    return outcome;
  }
  printKeys(context, keys);
  output.text();
  if (bad > 0)
    output.text(
      output.paint('bad', `${bad} of these cannot be used; backups refuse to run until that is put right.`),
    );
  else if (missing) output.text(output.paint('bad', 'There are no recipients; backups refuse to run.'));
  else output.text(output.paint('good', 'All keys can be used.'));
  return outcome;
}

export interface StoredHostKey {
  readonly host: string;
  readonly fingerprint: string;
  readonly armored: string;
}

/**
 * `sealift keys trust FINGERPRINT`: pins the key of that fingerprint. The store only suggests keys; what makes one
 * trusted is that the operator names the whole fingerprint, which `init` printed on the host.
 */
export async function trust(
  context: Context,
  wanted: string,
  readHostKeys: () => AsyncIterable<StoredHostKey>,
): Promise<Outcome> {
  const fingerprint = wanted.replaceAll(/[\s:]/g, '').toUpperCase();
  if (!/^([0-9A-F]{40}|[0-9A-F]{64})$/.test(fingerprint)) {
    throw new SealiftError('usage', `"${wanted}" is not a fingerprint: 40 hexadecimal digits are needed`, {
      hint: 'a short key id is not enough: it can be forged. `sealift init` printed the whole one on the host',
    });
  }
  const config = await context.config();
  const seen: string[] = [];
  for await (const stored of readHostKeys()) {
    seen.push(`${stored.host} ${stored.fingerprint}`);
    if (stored.fingerprint !== fingerprint) continue;
    const key = await readStored(stored);
    const { file } = await pinHostKey(keyFolder(config.hosts, 'hosts'), key);
    if (context.json) return context.output.json({ host: stored.host, fingerprint, file });
    context.output.text(`Host ${stored.host} is trusted with key ${formatFingerprint(fingerprint)}`);
    context.output.text(`  ${file}`);
    return;
  }
  throw new SealiftError('key-missing', `the store holds no host key ${fingerprint}`, {
    hint: seen.length === 0 ? 'it holds no host keys at all' : `it holds ${seen.join(', ')}`,
  });
}

/** Takes nothing from the store on faith: the key itself must have the fingerprint and name the host. */
async function readStored({ host, fingerprint, armored }: StoredHostKey): Promise<openpgp.Key> {
  const fail = (reason: string, cause?: unknown): SealiftError =>
    new SealiftError('key-untrusted', `the key ${fingerprint} in the store's folder of ${host} ${reason}`, {
      cause,
    });
  const key = await openpgp.readKey({ armoredKey: armored }).catch((error: unknown) => {
    throw fail(`cannot be read: ${messageOf(error)}`, error);
  });
  if (hostFingerprint(key) !== fingerprint) throw fail(`is another one: ${hostFingerprint(key)}`);
  if (hostOfKey(key) !== host) throw fail(`is for "${printable(key.getUserIDs().join(', '))}"`);
  return key;
}
