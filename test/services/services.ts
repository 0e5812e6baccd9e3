import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { PostgresService } from './postgres.ts';
import type { S3Credentials, S3Service } from './rgw.ts';

export interface Services {
  postgres: PostgresService;
  s3: S3Service;
}
export type ServiceKind = keyof Services;

/** Where the runner writes, and a test reads, how to reach a service: its description as JSON. */
export const variableOf = { postgres: 'SEALIFT_TEST_POSTGRES', s3: 'SEALIFT_TEST_S3' } as const;

/** The environment asks for a run without real servers. */
export const withoutServices = process.env['SEALIFT_TEST_SERVICES'] === 'none';

/** The service that this run was given; undefined where there is none, or where it is not to be used. */
export function service<Kind extends ServiceKind>(kind: Kind): Services[Kind] | undefined {
  const description = process.env[variableOf[kind]];
  return description && !withoutServices ? (JSON.parse(description) as Services[Kind]) : undefined;
}

/** The same for the inside of a test that `needs` it. */
export function theService<Kind extends ServiceKind>(kind: Kind): Services[Kind] {
  const given = service(kind);
  if (given) return given;
  throw new Error(
    `${variableOf[kind]} is not set: run the tests by \`npm test\`, which starts the servers, ` +
      `or set SEALIFT_TEST_SERVICES=none to leave out the tests that need them`,
  );
}

/**
 * Options for a test that needs these services. It is skipped only where the environment says so; a service that
 * is merely missing fails the whole file, because a test that nobody noticed was not run proves nothing.
 */
export function needs(...kinds: ServiceKind[]): { skip: string | false } {
  if (withoutServices) return { skip: `needs ${kinds.join(' and ')}, and SEALIFT_TEST_SERVICES=none` };
  for (const kind of kinds) theService(kind);
  return { skip: false };
}

export function s3Client(credentials: S3Credentials = theService('s3')): S3Client {
  const { endpoint, region } = theService('s3');
  const { accessKeyId, secretAccessKey } = credentials;
  return new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

/** A new, empty bucket. It goes with the server; in a server from elsewhere it stays. */
export async function freshBucket({ versioned = false } = {}): Promise<{ bucket: string; client: S3Client }> {
  const client = s3Client();
  const bucket = `sealift-test-${randomBytes(6).toString('hex')}`;
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  if (versioned) {
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket: bucket, VersioningConfiguration }));
  }
  return { bucket, client };
}

/** A new, empty database; returns its name. */
export async function freshDatabase(
  name = `sealift_test_${randomBytes(6).toString('hex')}`,
): Promise<string> {
  await psql('postgres', `CREATE DATABASE "${name.replaceAll('"', '""')}"`);
  return name;
}

/** Runs SQL as the superuser, stops at the first error, and returns rows as lines, columns joined by "|". */
export async function psql(database: string, sql: string): Promise<string> {
  const { host, port, user, password, binDir } = theService('postgres');
  const connection = ['--host', host, '--port', String(port), '--username', user, '--dbname', database];
  const manner = ['--no-psqlrc', '--no-password', '--quiet', '--tuples-only', '--no-align'];
  const args = [...connection, ...manner, '--set=ON_ERROR_STOP=1', '--file=-'];
  const env = { PATH: process.env['PATH'], PGPASSWORD: password };
  const done = promisify(execFile)(join(binDir, 'psql'), args, { env, maxBuffer: 2 ** 28 });
  // A psql that stops early says why on stderr; the broken pipe adds nothing.
  done.child.stdin?.on('error', () => {}).end(sql);
  return (await done).stdout.trimEnd();
}
