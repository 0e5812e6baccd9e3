import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mapConcurrent } from '../src/concurrency.ts';
import { Secret } from '../src/config/secrets.ts';
import { loadHostKey } from '../src/seal/host-key.ts';
import { commitSnapshot } from '../src/snapshot/catalog.ts';
import type { IndexStream } from '../src/snapshot/index.ts';
import { formatKey, formatSnapshotId, randomTag } from '../src/snapshot/object-key.ts';
import { openS3Store } from '../src/store/s3.ts';
import { movingClock, type MovingClock } from '../test/e2e/shifted-clock.ts';
import { startRgw } from '../test/services/rgw.ts';
import { freshBucket, variableOf } from '../test/services/services.ts';
import { makeIndex } from '../test/snapshot/fixture.ts';
import { runInProcess } from '../test/support/in-process.ts';
import { measure } from './measure.ts';

/**
 * Pruning, auditing and listing on the real object store, which is made to believe in seven days by a proxy that moves
 * its clock. Reports rows of [what, result].
 */
export interface RetentionBench {
  readonly dir: string;
  /** The program, as a shell line. */
  readonly program: string;
  readonly report: (what: string, result: string) => void;
}

const hour = 3600_000;
const segmentBytes = 200;

export async function benchRetention({ dir, program, report }: RetentionBench): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const t = { after: (end: () => void) => void cleanup.defer(end), signal: new AbortController().signal };
  mkdirSync(join(dir, 'rgw'), { recursive: true });
  const rgw = cleanup.use(await startRgw(join(dir, 'rgw')));
  process.env[variableOf.s3] = JSON.stringify(rgw);
  const clock = await movingClock(t);
  const { endpoint, region, accessKeyId, secretAccessKey } = rgw;

  /** A host that was set up with the program, on a new bucket. */
  const makeHost = async (name: string, at: string, maxAge = '7d') => {
    const { bucket } = await freshBucket();
    const folder = join(dir, name);
    mkdirSync(folder);
    const configFile = join(folder, 'sealift.yaml');
    const settings = { host: name, stateDir: join(folder, 'state'), retention: { maxAge }, jobs: {} };
    const s3 = { kind: 's3', endpoint: at, region, bucket, accessKeyId, secretAccessKey };
    writeFileSync(configFile, JSON.stringify({ ...settings, store: s3 }), { mode: 0o600 });
    await measure(`${program} -c ${configFile} init --recipient ${dir}/op/op.pub.asc`);
    const key = await loadHostKey(join(folder, 'state/host-key.asc'), name);
    const store = cleanup.use(
      openS3Store({
        kind: 's3',
        endpoint: at,
        region,
        bucket,
        prefix: '',
        accessKeyId: new Secret(() => accessKeyId),
        secretAccessKey: new Secret(() => secretAccessKey),
        forcePathStyle: true,
      }),
    );
    return { dir: folder, configFile, key, store, name };
  };
  type Host = Awaited<ReturnType<typeof makeHost>>;

  let sequence = 0;
  const commit = async (
    host: Host,
    startedAt: Date,
    named: readonly { folder: string; id: string; sha256: string }[],
    maxAge: number,
    snapshot = formatSnapshotId({ startedAt, job: 'databases', random: randomTag() }),
  ): Promise<void> => {
    const folders = [snapshot, ...new Set(named.map(({ folder }) => folder).filter((f) => f !== snapshot))];
    const { recipients } = makeIndex();
    const stream: Partial<IndexStream> = {
      segments: named.map(({ folder, id, sha256 }) => [folders.indexOf(folder), id, segmentBytes, sha256]),
    };
    const index = makeIndex({
      host: host.name,
      startedAt,
      snapshot,
      signer: host.key.fingerprint,
      sequence: ++sequence,
      maxAge,
      schedule: '0 */2 * * *',
      timezone: 'UTC',
      folders: folders.map((folder) => ({ snapshot: folder, recipients })),
      streams: [stream],
    });
    await commitSnapshot(host.store, index, host.key.privateKey);
  };

  await eightyFour(await makeHost('many', clock.endpoint), clock);
  await thousand(await makeHost('listed', endpoint, '90d'));

  /** 84 snapshots, one every two hours, that name 3,000 segments each, of which 250 were new each time. */
  async function eightyFour(host: Host, moving: MovingClock): Promise<void> {
    const begin = Math.floor(Date.now() / 1000) * 1000;
    let ring: { folder: string; id: string; sha256: string }[] = [];
    for (let i = 0; i < 84; i++) {
      const startedAt = new Date(begin + i * 2 * hour);
      moving.moveTo(startedAt);
      const snapshot = formatSnapshotId({ startedAt, job: 'databases', random: randomTag() });
      const added = Array.from({ length: i === 0 ? 3000 : 250 }, () => ({
        folder: snapshot,
        id: randomBytes(16).toString('hex'),
        sha256: randomBytes(32).toString('hex'),
      }));
      await mapConcurrent(added, 16, async ({ id }) =>
        host.store.put(
          formatKey({ type: 'segment', host: host.name, snapshot, id }),
          randomBytes(segmentBytes),
        ),
      );
      ring = [...ring, ...added].slice(-3000);
      await commit(host, startedAt, ring, 7 * 86_400, snapshot);
    }
    moving.moveTo(new Date(begin + 7 * 24 * hour - 60_000));
    const objects = 3000 + 83 * 250 + 84;
    const timed = async (what: string, ...args: string[]): Promise<void> => {
      const before = moving.requests();
      const started = performance.now();
      const { stdout } = await runInProcess(['-c', host.configFile, '--json', ...args], {
        cwd: host.dir,
        clock: moving.now,
      });
      const seconds = (performance.now() - started) / 1000;
      const { objects: deleted } = JSON.parse(stdout) as { objects: number };
      const note = args[0] === 'prune' ? `, ${deleted} deleted` : '';
      report(what, `${moving.requests() - before} requests, ${seconds.toFixed(1)} s${note}`);
    };
    await timed(`prune of ${objects} objects, nothing to do, first`, 'prune');
    await timed('the same again', 'prune');
    await timed('audit of the same', 'audit');
    await timed('audit again', 'audit');
    moving.moveTo(new Date(begin + (7 * 24 + 22) * hour + 1000));
    await timed('prune a day later', 'prune');
  }

  async function thousand(host: Host): Promise<void> {
    const begin = Math.floor(Date.now() / 1000) * 1000 - 1001 * 2 * hour;
    await mapConcurrent(
      Array.from({ length: 1000 }, (_, i) => new Date(begin + i * 2 * hour)),
      16,
      (startedAt) => {
        const snapshot = formatSnapshotId({ startedAt, job: 'databases', random: randomTag() });
        const named = Array.from({ length: 10 }, () => ({
          folder: snapshot,
          id: randomBytes(16).toString('hex'),
          sha256: randomBytes(32).toString('hex'),
        }));
        return commit(host, startedAt, named, 90 * 86_400, snapshot);
      },
    );
    for (const what of ['list of 1,000 snapshots, cold', 'warm', 'warm again']) {
      const { seconds } = await measure(`${program} -c ${host.configFile} list --json`);
      report(what, `${seconds.toFixed(2)} s`);
    }
  }
}
