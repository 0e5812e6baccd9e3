import { isUtf8 } from 'node:buffer';

/**
 * A path or name exactly as the kernel has it: one character per byte ("latin1"). Linux names are bytes, not text;
 * in this form they compare in byte order and nothing is lost where they are not UTF-8.
 */
export type ByteName = string;

// eslint-disable-next-line no-control-regex
const ascii = /^[\x00-\x7f]*$/;

export const bytesOf = (text: string): ByteName =>
  ascii.test(text) ? text : Buffer.from(text, 'utf8').toString('latin1');

/** What a system call takes. */
export const systemPath = (name: ByteName): string | Buffer =>
  ascii.test(name) ? name : Buffer.from(name, 'latin1');

export const isText = (name: ByteName): boolean => ascii.test(name) || isUtf8(Buffer.from(name, 'latin1'));

/** The name for people: UTF-8 decoded, every byte that is not part of UTF-8 as `%XX`. Not reversible, so keep the bytes. */
export function textOf(name: ByteName): string {
  if (ascii.test(name)) return name;
  const bytes = Buffer.from(name, 'latin1');
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const length = [1, 2, 3, 4].find((n) => at + n <= bytes.length && isUtf8(bytes.subarray(at, at + n)));
    text +=
      length === undefined
        ? `%${bytes[at]!.toString(16).toUpperCase().padStart(2, '0')}`
        : bytes.toString('utf8', at, at + length);
    at += length ?? 1;
  }
  return text;
}

export const base64Of = (name: ByteName): string => Buffer.from(name, 'latin1').toString('base64');

export const fromBase64 = (base64: string): ByteName => Buffer.from(base64, 'base64').toString('latin1');
