import { validateDetailed } from 'node-cron';
import * as z from '../zod.ts';
import { duration, name, path, secret } from './fields.ts';
import { argv, source } from './source-schemas.ts';

/**
 * The configuration file, version 1. `sealift config schema` prints this as JSON Schema, `load.ts` turns it into
 * `Config`: paths made absolute, durations in seconds, secrets behind `Secret`. Messages continue "SETTING: ".
 */

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
      // It is repeated in errors, in the log and in the restore kit.
      .refine((url) => !URL.parse(url)?.username && !URL.parse(url)?.password, {
        error: 'must hold no user and password: they belong into accessKeyId and secretAccessKey',
      })
      .optional()
      .describe('Omit for AWS'),
    region: z.string().min(1).default('us-east-1'),
    bucket: z
      .string()
      .min(3)
      // The ARN of an access point has slashes of its own.
      .regex(
        /^(arn:[^\s]*|[^/\s]*)$/,
        'must be the name alone: its address belongs into endpoint, and a folder in it into prefix, as in "jabber/"',
      ),
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

const job = z.strictObject({
  schedule: cron,
  timezone: timezone.default('UTC'),
  before: argv
    .optional()
    .describe('A program and its arguments, run before the sources are read; if it fails, so does the job'),
  after: argv
    .optional()
    .describe('The same for the end of the job, however it ended: that stands in SEALIFT_STATUS'),
  hookTimeLimit: duration.default('1h').describe('How long before and after may take each; 0 for no limit'),
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
