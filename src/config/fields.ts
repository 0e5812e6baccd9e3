import * as z from '../zod.ts';

/** What settings are made of. Messages continue "SETTING: ". */

export const namePattern = /^[a-z0-9][a-z0-9-]{0,40}$/;

export const nameError =
  'must be lower-case letters, digits and dashes, at most 41, starting with a letter or digit';

export const name = z.string().regex(namePattern, nameError);

const durationError = 'must be a whole number with s, m, h or d, such as 26h or 7d';

export const duration = z
  .union([z.literal(0), z.string().regex(/^\d{1,9}(s|m|h|d)$/, durationError)], { error: durationError })
  .describe('A duration: 90s, 30m, 26h, 7d');

export const path = z
  .string()
  .min(1)
  .regex(/^(?!~(\/|$))/, '~ is not replaced by your home folder here: write the whole path');

export const secret = z
  .union([z.string().min(1), z.strictObject({ env: z.string().min(1) }), z.strictObject({ file: path })], {
    error: 'must be the secret itself, { env: NAME } or { file: PATH }',
  })
  .describe('The value itself, { env: NAME } or { file: PATH }');

const magicError = 'must be printable ASCII, with \\xHH for any other byte and \\\\ for a backslash';
const magicBytes = 64;

/** What a file begins with, written as text: `\x1F\x8B`. In YAML's double quotes a backslash must stand twice. */
export const magic = z
  .string()
  .min(1)
  .transform((written, context): Uint8Array => {
    const parts = [...written.matchAll(/\\x([0-9A-Fa-f]{2})|\\(\\)|([ -[\]-~])|(.)/gsu)];
    if (parts.some(([, , , , other]) => other !== undefined))
      context.addIssue({ code: 'custom', message: magicError });
    if (parts.length > magicBytes)
      context.addIssue({ code: 'custom', message: `must stand for at most ${magicBytes} bytes` });
    return Uint8Array.from(parts, ([, hex, backslash, plain]) =>
      hex === undefined ? (backslash ?? plain ?? '?').charCodeAt(0) : Number.parseInt(hex, 16),
    );
  })
  .describe('What the output must begin with: printable ASCII, \\xHH for any other byte');
