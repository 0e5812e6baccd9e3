import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import type { S3Config } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import type { S3Options } from '../../src/store/s3-client.ts';
import { openS3Store } from '../../src/store/s3.ts';
import type { Store } from '../../src/store/store.ts';
import { theService } from '../services/services.ts';

/** The store of a configuration for the test's S3 server; it ends with the test. */
export function s3Store(
  t: TestContext,
  changes: Partial<S3Config> & { bucket: string; as?: { accessKeyId: string; secretAccessKey: string } },
  options?: S3Options,
): Store {
  const { endpoint, region, ...owner } = theService('s3');
  const { as = owner, ...more } = changes;
  const config: S3Config = {
    kind: 's3',
    endpoint,
    region,
    prefix: '',
    accessKeyId: new Secret(() => as.accessKeyId),
    secretAccessKey: new Secret(() => as.secretAccessKey),
    forcePathStyle: true,
    ...more,
  };
  const store = openS3Store(config, options);
  t.after(() => store[Symbol.asyncDispose]());
  return store;
}

/** A prefix of its own, so that one bucket serves many tests. */
export const freshPrefix = (): string => `${randomBytes(6).toString('hex')}/`;
