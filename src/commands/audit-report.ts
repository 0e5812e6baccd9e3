import { hash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import type { PrivateKey, PublicKey } from 'openpgp';
import { rfc3339 } from '../clock.ts';
import { replaceFile, writeNew } from '../durable.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { printable } from '../output.ts';
import { findSigningKey, signDetached, verifyDetached, type DetachedSignature } from '../seal/detached.ts';
import { readKeyFile } from '../seal/key-files.ts';
import { documentSchema, type AuditDocument } from './audit-document.ts';
import { auditPage } from './audit-page.ts';
import type { Context, Outcome } from './context.ts';
import { unlockKeyFile } from './unlock.ts';

export interface ReportOptions {
  readonly report?: string;
  readonly signWith?: string;
  readonly passphraseFile?: string;
  /** Public key of the auditor, for `--verify`. */
  readonly signer?: string;
  readonly force?: boolean;
}

/**
 * A report is two files side by side: NAME.json for programs, and NAME.html, a page for people, which gives the SHA-256
 * of the other. Each has its signature beside it (NAME.json.asc, NAME.html.asc), which `gpg --verify` checks too.
 */
interface ReportFiles {
  readonly json: string;
  readonly html: string;
}

function reportFiles(file: string, cwd: string): ReportFiles {
  const path = resolve(cwd, file);
  const extension = extname(path);
  if (extension !== '.html' && extension !== '.json')
    throw new SealiftError('usage', `the report ${file} must end in .html or .json`, {
      hint: 'Both are written, side by side.',
    });
  const base = path.slice(0, -extension.length);
  return { json: `${base}.json`, html: `${base}.html` };
}

/** Asks for everything that could stop the report before the audit begins; undefined where none is wanted. */
export async function prepareReport(
  context: Context,
  options: ReportOptions,
): Promise<{ write: (document: AuditDocument) => Promise<string[]> } | undefined> {
  const { report, signWith, passphraseFile, force } = options;
  if (options.signer !== undefined) throw new SealiftError('usage', '--signer goes with --verify');
  if (report === undefined && signWith !== undefined)
    throw new SealiftError('usage', '--sign-with goes with --report');
  if (signWith === undefined && passphraseFile !== undefined)
    throw new SealiftError('usage', '--passphrase-file goes with --sign-with');
  if (report === undefined) return undefined;
  const files = reportFiles(report, context.environment.cwd);
  const taken = [files.json, files.html]
    .flatMap((file) => [file, signatureOf(file)])
    .filter((file) => existsSync(file));
  if (taken.length > 0 && force !== true)
    throw new SealiftError('target-exists', `there is already ${taken.join(', ')}; nothing is overwritten`, {
      hint: 'Choose another name, or give --force.',
    });
  const key =
    signWith === undefined
      ? undefined
      : await findSigningKey(
          await unlockKeyFile(context, signWith, passphraseFile),
          signWith,
          context.clock(),
        );
  return { write: (document) => writeReport(files, document, key, context.clock(), force === true) };
}

const signatureOf = (file: string): string => `${file}.asc`;

async function writeReport(
  files: ReportFiles,
  document: AuditDocument,
  key: PrivateKey | undefined,
  now: Date,
  force: boolean,
): Promise<string[]> {
  const json = `${JSON.stringify(document, null, 2)}\n`;
  const html = auditPage(document, {
    jsonFile: files.json,
    jsonSha256: hash('sha256', json),
    isSigned: key !== undefined,
  });
  const put = force ? replaceFile : writeNew;
  const written: string[] = [];
  for (const [file, content] of [
    [files.json, json],
    [files.html, html],
  ] as const) {
    const outputs: [string, string][] = [[file, content]];
    if (key) outputs.push([signatureOf(file), await signDetached(Buffer.from(content), key, now)]);
    for (const [path, text] of outputs) {
      await put(path, text, 0o644);
      written.push(path);
    }
  }
  return written;
}

/**
 * Checks a report later: both files are signed by the auditor, whose public key is given, the page belongs to the JSON,
 * and that agrees with itself. What the report says does not change the exit code; whether it is genuine does.
 */
export async function verifyReport(context: Context, file: string, options: ReportOptions): Promise<Outcome> {
  const { environment, output } = context;
  for (const [name, value] of Object.entries({ report: options.report, 'sign-with': options.signWith }))
    if (value !== undefined) throw new SealiftError('usage', `--verify and --${name} exclude each other`);
  const signers = await readSigners(options.signer, environment.cwd);
  const files = reportFiles(file, environment.cwd);
  const json = await verifyFile(files.json, signers);
  const html = await verifyFile(files.html, signers);
  const document = parseDocument(json.content, files.json);
  if (!html.content.toString('utf8').includes(hash('sha256', json.content)))
    throw new SealiftError(
      'verify-failed',
      `the page ${files.html} belongs to another report than ${files.json}`,
    );
  const { signer, userId, signedAt } = json.signature;
  const at = signedAt === undefined ? null : rfc3339(signedAt);
  if (context.json) {
    const { ok, checkedAt, store, findings } = document;
    const report = { ok, checkedAt, store, findings: findings.length };
    output.json({ ok: true, signer, userId: userId ?? null, signedAt: at, report });
    return undefined;
  }
  output.text(`${output.paint('good', 'genuine')}  ${files.json} and its page`);
  output.text(`         signed by ${printable(userId ?? 'nobody named')}, key ${signer}, on ${at}`);
  const verdict = document.ok
    ? output.paint('good', 'the promises were kept')
    : output.paint('bad', 'a promise was broken');
  output.text(
    `         it says of ${printable(document.store)} on ${printable(document.checkedAt)}: ${verdict}`,
  );
  return undefined;
}

async function readSigners(file: string | undefined, cwd: string): Promise<PublicKey[]> {
  if (file === undefined)
    throw new SealiftError('usage', '--verify needs the public key of the auditor', {
      hint: 'Give it with --signer FILE; gpg writes it with: gpg --armor --export NAME',
    });
  const path = resolve(cwd, file);
  const { keys, problem } = await readKeyFile(path);
  if (problem !== undefined) throw new SealiftError('key-unusable', `${path}: ${problem}`);
  return keys.map((key) => key.toPublic());
}

async function verifyFile(
  file: string,
  signers: readonly PublicKey[],
): Promise<{ content: Buffer; signature: DetachedSignature }> {
  const content = readPart(file, 'the report is not whole');
  const signature = readPart(signatureOf(file), 'the report is not signed').toString('utf8');
  return { content, signature: await verifyDetached(content, signature, signers, file) };
}

function readPart(file: string, without: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new SealiftError('verify-failed', `${without}: ${file} cannot be read (${messageOf(error)})`, {
      cause: error,
    });
  }
}

function parseDocument(bytes: Buffer, file: string): AuditDocument {
  const wrong = (reason: string): SealiftError =>
    new SealiftError('verify-failed', `${file} is no report of sealift audit: ${reason}`);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw wrong(messageOf(error));
  }
  const parsed = documentSchema.safeParse(json);
  if (!parsed.success) throw wrong(parsed.error.issues[0]?.message ?? 'it has another form');
  const { ok, findings } = parsed.data;
  if (ok === findings.some(({ severity }) => severity === 'broken'))
    throw wrong('its result does not follow from its findings');
  return parsed.data;
}
