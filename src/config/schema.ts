import { validateDetailed } from 'node-cron';
import { z } from 'zod';

/**
 * The configuration file, version 1. `sealift config schema` prints this as JSON Schema, `load.ts` turns it into
 * `Config`: paths made absolute, durations in seconds, secrets behind `Secret`. Messages continue "SETTING: ".
 */

export const namePattern = /^[a-z0-9][a-z0-9-]{0,40}$/;

const name = z
  .string()
  .regex(
    namePattern,
    'must be lower-case letters, digits and dashes, at most 41, starting with a letter or digit',
  );

const durationError = 'must be a whole number with s, m, h or d, such as 26h or 7d';

const duration = z
  .union([z.literal(0), z.string().regex(/^\d{1,9}(s|m|h|d)$/, durationError)], { error: durationError })
  .describe('A duration: 90s, 30m, 26h, 7d');

const path = z
  .string()
  .min(1)
  .regex(/^(?!~(\/|$))/, '~ is not replaced by your home folder here: write the whole path');

const secret = z
  .union([z.string().min(1), z.strictObject({ env: z.string().min(1) }), z.strictObject({ file: path })], {
    error: 'must be the secret itself, { env: NAME } or { file: PATH }',
  })
  .describe('The value itself, { env: NAME } or { file: PATH }');

const pathOrPaths = z.union([path, z.array(path).min(1)], { error: 'must be a path or a list of paths' });

const cron = z
  .string()
  .superRefine((line, context) => {
    const problem = cronProblem(line);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  })
  .describe('A cron line: minute hour day month weekday; six fields start with seconds');

function cronProblem(line: string): string | undefined {
  const fields = line.trim().split(/\s+/).filter(Boolean).length;
  if (fields !== 5 && fields !== 6) {
    return `"${line}" is not a cron line: it needs 5 fields (minute hour day month weekday), or 6 with seconds first`;
  }
  const { valid, errors } = validateDetailed(line);
  if (valid) return undefined;
  const bad = errors
    .filter(({ value }) => value !== undefined)
    .map(({ field, value }) => `${value} is no ${fieldNames[field] ?? field}`);
  return `"${line}" is not a cron line${bad.length === 0 ? '' : `: ${bad.join(', ')}`}`;
}

const fieldNames: Record<string, string> = { dayOfMonth: 'day of the month', dayOfWeek: 'weekday' };

const timezone = z
  .string()
  .refine(isTimezone, {
    error: ({ input }) => `"${String(input)}" is not a time zone such as UTC or Europe/Berlin`,
  });

function isTimezone(timeZone: string): boolean {
  try {
    return Boolean(new Intl.DateTimeFormat('en', { timeZone }));
  } catch {
    return false;
  }
}

const store = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('s3'),
    endpoint: z
      .url({ protocol: /^https?$/, error: 'must be a URL such as https://fsn1.example-objects.com' })
      .optional()
      .describe('Omit for AWS'),
    region: z.string().min(1).default('us-east-1'),
    bucket: z.string().min(3),
    prefix: z
      .string()
      .regex(
        /^([A-Za-z0-9._-]+\/)*$/,
        'must be empty or end with a slash, as in "jabber/", and hold only letters, digits and . _ - /',
      )
      .default(''),
    accessKeyId: secret.optional(),
    secretAccessKey: secret.optional(),
    forcePathStyle: z.boolean().optional().describe('Default: true with an endpoint, false for AWS'),
  }),
  z.strictObject({ kind: z.literal('directory'), path }),
]);

const postgres = z.strictObject({
  name,
  kind: z.literal('postgres'),
  databases: z
    .union([z.literal('all'), z.array(z.string().min(1)).min(1)], {
      error: 'must be all or a list of database names',
    })
    .default('all'),
  exclude: z.array(z.string().min(1)).default([]).describe('Databases that are left out'),
  globals: z.boolean().default(true).describe('Roles and tablespaces too'),
  host: z.string().min(1).optional().describe('Host name, or the directory of the socket'),
  port: z.int().min(1).max(65_535).optional(),
  user: z.string().min(1).optional(),
  password: secret.optional(),
  runAs: z.string().min(1).optional().describe('Start the dump tools as this system user'),
});

const sqlite = z.strictObject({ name, kind: z.literal('sqlite'), path });

const files = z.strictObject({
  name,
  kind: z.literal('files'),
  paths: z.array(path).min(1),
  exclude: z.array(z.string().min(1)).default([]).describe('Globs; ** crosses folders'),
  oneFileSystem: z.boolean().default(true).describe('Do not descend into other mounted file systems'),
});

const source = z.discriminatedUnion('kind', [postgres, sqlite, files]);

const job = z.strictObject({
  schedule: cron,
  timezone: timezone.default('UTC'),
  sources: z.array(source).min(1),
});

export const defaults = { maxAge: '7d', reuseWindow: '26h' } as const;

export const schema = z.strictObject({
  host: name.optional().describe('Set by init; never taken from the system'),
  stateDir: path.optional(),
  store,
  recipients: pathOrPaths.default('keys/recipients'),
  hosts: pathOrPaths.default('keys/hosts'),
  retention: z.strictObject({ maxAge: duration.default(defaults.maxAge) }).prefault({}),
  reuseWindow: duration.default(defaults.reuseWindow),
  workers: z.int().min(1).max(64).optional().describe('Worker threads; default: one per core, at most 4'),
  // `jobs:` with nothing but comments below it is what a new file has.
  jobs: z
    .record(name, job)
    .nullish()
    .transform((jobs) => jobs ?? {}),
});

/** The file as it is written. */
export type ConfigFile = z.output<typeof schema>;
