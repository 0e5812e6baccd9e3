import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  S3Client,
  type DeleteMarkerEntry,
  type ObjectVersion,
} from '@aws-sdk/client-s3';
import type { TestContext } from 'node:test';
import { Secret } from '../../src/config/secrets.ts';
import { openS3Store } from '../../src/store/s3.ts';
import { movingClock } from '../e2e/shifted-clock.ts';
import { freshBucket, theService } from '../services/services.ts';
import type { Ground, SeenVersion } from './real-bucket.ts';

const prefix = 'jabber/';

/** A bucket of the real server behind a proxy that turns its clock. Nothing stands between the product and the proxy. */
export async function s3Ground(t: Pick<TestContext, 'after'>, versioned: boolean): Promise<Ground> {
  // Where clocks are minutes apart the SDK asks five times, with pauses, whatever is answered by an error. The proxy
  // signs anew, so there is nothing for it to correct.
  process.env['AWS_DISABLE_CLOCK_SKEW_CORRECTION'] = 'true';
  const { bucket: Bucket } = await freshBucket({ versioned });
  const clock = await movingClock(t);
  const { region, accessKeyId, secretAccessKey } = theService('s3');
  const { endpoint } = clock;
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  t.after(() => client.destroy());
  const at = ({ key, version }: { key: string; version?: string | undefined }) => ({
    Bucket,
    Key: prefix + key,
    ...(version === undefined ? {} : { VersionId: version }),
  });
  const seen = (listed: ObjectVersion & DeleteMarkerEntry, marker: boolean): SeenVersion => ({
    key: listed.Key!.slice(prefix.length),
    version: versioned ? listed.VersionId : undefined,
    modifiedMs: listed.LastModified!.getTime(),
    marker,
    md5: marker ? '' : listed.ETag!.replaceAll('"', ''),
  });

  return {
    versioned,
    open: async () =>
      openS3Store({
        kind: 's3',
        endpoint,
        region,
        bucket: Bucket,
        prefix,
        accessKeyId: new Secret(() => accessKeyId),
        secretAccessKey: new Secret(() => secretAccessKey),
        forcePathStyle: true,
      }),
    setClock: (nowMs) => clock.moveTo(new Date(nowMs)),
    async look(keyPrefix) {
      const found: SeenVersion[] = [];
      let from = {};
      for (;;) {
        const page = await client.send(
          new ListObjectVersionsCommand({ Bucket, Prefix: prefix + keyPrefix, ...from }),
        );
        for (const version of page.Versions ?? []) found.push(seen(version, false));
        for (const marker of page.DeleteMarkers ?? []) found.push(seen(marker, true));
        if (page.IsTruncated !== true) return found;
        from = { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker };
      }
    },
    async read(object) {
      const { Body } = await client.send(new GetObjectCommand(at(object)));
      return Buffer.from(await Body!.transformToByteArray());
    },
    async lay(key, bytes) {
      if (bytes) await client.send(new PutObjectCommand({ ...at({ key }), Body: bytes }));
      else await client.send(new DeleteObjectCommand(at({ key })));
    },
    async drop(object) {
      await client.send(new DeleteObjectCommand(at(object)));
    },
    async strand(key) {
      await client.send(new CreateMultipartUploadCommand(at({ key })));
    },
  };
}
