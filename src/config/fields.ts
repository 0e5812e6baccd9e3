import { z } from 'zod';

/** What settings are made of. Messages continue "SETTING: ". */

export const namePattern = /^[a-z0-9][a-z0-9-]{0,40}$/;

export const name = z
  .string()
  .regex(
    namePattern,
    'must be lower-case letters, digits and dashes, at most 41, starting with a letter or digit',
  );

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
