import { z } from 'zod';

/**
 * The configuration file, version 1. `sealift config schema` prints this as JSON Schema, `load.ts` turns it into
 * `Config`: paths made absolute, durations in seconds, secrets behind `Secret`.
 */

export const namePattern = /^[a-z0-9][a-z0-9-]{0,40}$/;

const name = z
  .string()
  .regex(
    namePattern,
    'must be lower-case letters, digits and dashes, at most 41, starting with a letter or digit',
  );

const duration = z
  .union([
    z.literal(0),
    z.string().regex(/^\d+(s|m|h|d)$/, 'must be a whole number with s, m, h or d, such as 26h or 7d'),
  ])
  .describe('A duration: 90s, 30m, 26h, 7d');

const secret = z
  .union([
    z.string().min(1),
    z.strictObject({ env: z.string().min(1) }),
    z.strictObject({ file: z.string().min(1) }),
  ])
  .describe('The value itself, { env: NAME } or { file: PATH }');

const store = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('s3'),
    endpoint: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('Omit for AWS'),
    region: z.string().min(1).default('us-east-1'),
    bucket: z.string().min(3),
    prefix: z
      .string()
      .regex(/^([A-Za-z0-9._-]+\/)*$/, 'must be empty or end with a slash, as in "jabber/"')
      .default(''),
    accessKeyId: secret.optional(),
    secretAccessKey: secret.optional(),
    forcePathStyle: z.boolean().optional().describe('Default: true with an endpoint, false for AWS'),
  }),
  z.strictObject({ kind: z.literal('directory'), path: z.string().min(1) }),
]);

const postgres = z.strictObject({
  name,
  kind: z.literal('postgres'),
  databases: z.union([z.literal('all'), z.array(z.string().min(1)).min(1)]).default('all'),
  exclude: z.array(z.string().min(1)).default([]).describe('Databases that are left out'),
  globals: z.boolean().default(true).describe('Roles and tablespaces too'),
  host: z.string().min(1).optional().describe('Host name, or the directory of the socket'),
  port: z.int().min(1).max(65_535).optional(),
  user: z.string().min(1).optional(),
  password: secret.optional(),
  runAs: z.string().min(1).optional().describe('Start the dump tools as this system user'),
});

const sqlite = z.strictObject({ name, kind: z.literal('sqlite'), path: z.string().min(1) });

const files = z.strictObject({
  name,
  kind: z.literal('files'),
  paths: z.array(z.string().min(1)).min(1),
  exclude: z.array(z.string().min(1)).default([]).describe('Globs; ** crosses folders'),
  oneFileSystem: z.boolean().default(true).describe('Do not descend into other mounted file systems'),
});

const source = z.discriminatedUnion('kind', [postgres, sqlite, files]);

const job = z.strictObject({
  schedule: z.string().min(1).describe('A cron line: minute hour day month weekday'),
  timezone: z.string().min(1).default('UTC'),
  sources: z.array(source).min(1),
});

export const schema = z.strictObject({
  host: name.optional().describe('Set by init; never taken from the system'),
  stateDir: z.string().min(1).optional(),
  store,
  recipients: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).default('keys/recipients'),
  hosts: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).default('keys/hosts'),
  retention: z.strictObject({ maxAge: duration.default('7d') }).prefault({}),
  reuseWindow: duration.default('26h'),
  workers: z.int().min(1).max(64).optional().describe('Worker threads; default: one per core, at most 4'),
  jobs: z.record(name, job).default({}),
});

/** The file as it is written. */
export type ConfigFile = z.output<typeof schema>;
