import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { SealiftError, systemCode } from '../errors.ts';
import type { SessionKeyFinder } from './session-key.ts';

/**
 * Finds session keys through the system's gpg, so that the key may lie in its key ring, behind its agent's passphrase
 * dialogue, or on a hardware token. gpg sees the PKESK packets and a dummy in place of the data: it reports the session
 * key and then complains about the dummy, which is why its exit status says nothing.
 *
 * `env` is gpg's whole environment: its home, its terminal and its display.
 */
export function findWithGpg(env: Readonly<Record<string, string>>, signal: AbortSignal): SessionKeyFinder {
  return async (packets) => {
    const dummy = Buffer.concat([Buffer.from([0xd2, 42, 1]), randomBytes(41)]);
    const child = spawn(
      'gpg',
      ['--batch', '--status-fd', '3', '--show-session-key', '--output', '-', '--decrypt'],
      { env, stdio: ['pipe', 'ignore', 'pipe', 'pipe'], signal },
    );
    const ended = new Promise<void>((resolve, reject) => {
      child.on('close', () => resolve());
      child.on('error', reject);
    });
    const [stdin, , stderrPipe, statusPipe] = child.stdio as unknown as [Writable, null, Readable, Readable];
    stdin.on('error', () => undefined); // gpg may stop reading early; what it says decides
    stdin.end(Buffer.concat([packets, dummy]));
    try {
      const [stderr, status] = await Promise.all([text(stderrPipe), text(statusPipe), ended]);
      return sessionKeyIn(status, stderr);
    } catch (error) {
      signal.throwIfAborted();
      if (systemCode(error) !== 'ENOENT') throw error;
      throw new SealiftError('tool-missing', 'gpg is not installed, and no private key file was given', {
        hint: 'Give the private key with --key FILE, or install gpg (apt install gnupg).',
        cause: error,
      });
    }
  };
}

function sessionKeyIn(status: string, stderr: string): Uint8Array {
  const hex = /^\[GNUPG:\] SESSION_KEY 9:([0-9A-F]{64})$/im.exec(status)?.[1];
  if (hex !== undefined) return new Uint8Array(Buffer.from(hex, 'hex'));
  const last = stderr.trim().split('\n').slice(-3).join('; ');
  const errors = errorsIn(status);
  if (errors.includes(gpgErrors.badPassphrase))
    throw new SealiftError('passphrase-wrong', `gpg could not unlock the private key: ${last}`);
  if (errors.includes(gpgErrors.cancelled) || errors.includes(gpgErrors.fullyCancelled))
    throw new SealiftError('passphrase-wrong', 'the passphrase dialogue of gpg was cancelled');
  if (errors.includes(gpgErrors.noTerminal) || errors.includes(gpgErrors.noPinentry))
    throw new SealiftError(
      'passphrase-wrong',
      `gpg cannot ask for the passphrase of the private key: ${last}`,
      { hint: 'Run it in a terminal, with pinentry installed; over ssh without one: ssh -t.' },
    );
  throw new SealiftError('key-wrong', `gpg has no private key that opens this backup: ${last}`, {
    hint: 'Import it (gpg --import FILE), or give it with --key FILE.',
  });
}

/** Of libgpg-error. What gpg says beside them is in the language of whoever runs it. */
const gpgErrors = {
  badPassphrase: 11,
  noPinentry: 85,
  cancelled: 99,
  fullyCancelled: 198,
  noTerminal: 0x8066,
};

/** Why private keys did not decrypt; the upper half of each number says which program found it. */
const errorsIn = (status: string): number[] =>
  [...status.matchAll(/^\[GNUPG:\] ERROR pkdecrypt_failed (\d+)/gm)].map(([, code]) => Number(code) & 0xffff);
