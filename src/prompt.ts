import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { SealiftError } from './errors.ts';
import { takeLastLine } from './last-line.ts';
import { readGuarded } from './permissions.ts';

/** Asks on the terminal without showing what is typed. Throws `usage` where there is no terminal to ask on. */
export async function askHidden(question: string, signal: AbortSignal): Promise<string> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new SealiftError('usage', 'a passphrase is needed, and there is no terminal to ask for it', {
      hint: 'give it with --passphrase-file FILE',
    });
  }
  signal.throwIfAborted();
  return takeLastLine(() => ask(question, signal));
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  // readline echoes to its output; the question itself is written past it.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 });
  process.stderr.write(question);
  try {
    return await new Promise<string>((resolve, reject) => {
      const stop = (): void => reject(signal.reason as Error);
      signal.addEventListener('abort', stop, { once: true });
      lines.once('line', (line) => {
        signal.removeEventListener('abort', stop);
        resolve(line);
      });
      // In raw mode the terminal sends no signal: hand Ctrl-C on as one, so that there is one way to be interrupted.
      lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
      lines.once('close', () => reject(new SealiftError('usage', 'no passphrase was given')));
    });
  } finally {
    lines.close();
    process.stderr.write('\n');
  }
}

/** A new passphrase, asked for twice. */
export async function askNewPassphrase(what: string, signal: AbortSignal): Promise<string> {
  const first = await askHidden(`Passphrase for ${what}: `, signal);
  if (first === '') throw new SealiftError('usage', 'the passphrase is empty');
  if ((await askHidden('Once more: ', signal)) === first) return first;
  throw new SealiftError('usage', 'the two passphrases differ; nothing was written');
}

/** The first line of a file that only its user and root can write. */
export function readPassphraseFile(path: string): string {
  const text = readGuarded(path, { what: 'passphrase file', missing: 'usage', refused: 'usage' });
  const [line = ''] = text.toString('utf8').split(/\r?\n/);
  if (line !== '') return line;
  throw new SealiftError('usage', `passphrase file ${path} is empty`);
}
