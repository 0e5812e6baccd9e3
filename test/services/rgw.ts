import { S3Client, ListBucketsCommand } from '@aws-sdk/client-s3';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts, ServerGroup } from './server-group.ts';

export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
}

export interface S3Service extends S3Credentials {
  endpoint: string;
  region: string;
  /** A second user, without any right to the first one's buckets. */
  stranger: S3Credentials;
}

/**
 * Ceph's S3 gateway with the smallest cluster that carries it (one monitor, one object store; S3 needs no
 * manager), all as the present user with all files below `dir`, which must exist.
 */
export async function startRgw(dir: string, signal?: AbortSignal): Promise<S3Service & AsyncDisposable> {
  const logDir = join(dir, 'log');
  for (const name of ['log', 'mon', 'osd']) await mkdir(join(dir, name));
  const group = new ServerGroup(logDir, signal);
  try {
    const [v2 = 0, v1 = 0, httpPort = 0] = await freePorts(3);
    const clusterId = randomUUID();
    const osdId = randomUUID();
    const monitor = `[v2:127.0.0.1:${v2},v1:127.0.0.1:${v1}]`;
    const env = { CEPH_CONF: join(dir, 'ceph.conf') };
    const run = (command: string, ...args: string[]) => group.run({ command, args, env });
    // Nothing is worth an orderly end, and a gateway whose monitor has gone waits for it for ever.
    const start = (name: string, ...args: string[]) =>
      group.start(name, { command: name, args: ['-f', ...args], env }, 'SIGKILL');

    const key = (await run('ceph-authtool', '--gen-print-key')).trim();
    await writeFile(join(dir, 'keyring'), keyring(key), { mode: 0o600 });
    await writeFile(env.CEPH_CONF, configuration(dir, clusterId, monitor, httpPort));

    const monmap = join(dir, 'monmap');
    await run('monmaptool', '--create', '--fsid', clusterId, '--addv', 'a', monitor, monmap);
    await run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', monmap, '--keyring', join(dir, 'keyring'));
    await start('ceph-mon', '-i', 'a');
    await run('ceph', 'osd', 'new', osdId);
    await run('ceph-osd', '--mkfs', '-i', '0', '--osd-uuid', osdId);
    await start('ceph-osd', '-i', '0');
    // One after the other: the first makes the pools, and two that make them at once wait for each other.
    const owner = await createUser(run, 'sealift');
    const stranger = await createUser(run, 'stranger');
    await start('radosgw', '-n', 'client.rgw');

    const service = { endpoint: `http://127.0.0.1:${httpPort}`, region: 'us-east-1', ...owner, stranger };
    const { endpoint, region } = service;
    const client = new S3Client({
      endpoint,
      region,
      credentials: owner,
      forcePathStyle: true,
      maxAttempts: 1,
    });
    await group.until(() => client.send(new ListBucketsCommand(), { abortSignal: group.signal }));
    client.destroy();
    return { ...service, [Symbol.asyncDispose]: () => group[Symbol.asyncDispose]() };
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw group.failure('Ceph RGW', error);
  }
}

async function createUser(
  run: (command: string, ...args: string[]) => Promise<string>,
  name: string,
): Promise<S3Credentials> {
  const accessKeyId = randomBytes(10).toString('hex').toUpperCase();
  const secretAccessKey = randomBytes(20).toString('hex');
  const keys = ['--access-key', accessKeyId, '--secret-key', secretAccessKey];
  await run('radosgw-admin', 'user', 'create', '--uid', name, '--display-name', name, ...keys);
  return { accessKeyId, secretAccessKey };
}

function configuration(dir: string, clusterId: string, monitor: string, httpPort: number): string {
  return `[global]
fsid = ${clusterId}
mon host = ${monitor}
public addr = 127.0.0.1
keyring = ${dir}/keyring
mon data = ${dir}/mon
osd data = ${dir}/osd
rgw data = ${dir}
run dir = ${dir}
crash dir = ${dir}
log file = ${dir}/log/$name.log
mon cluster log to file = false
admin socket =
pid file =
# One copy of everything, on one object store that keeps it in memory: faster than a disk for the small
# objects of a test, and nothing is synced beside the other tests.
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 8G
# Few placement groups, map changes published at once instead of once a second, and requests that came before
# their pool was there repeated soon instead of after 5 s: the start takes two seconds instead of twelve.
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
objecter tick interval = 0.5
# A nearly full disk of a developer is no reason to stop.
mon data avail warn = 1
mon data avail crit = 1
# The parts of deleted objects beyond 4 MiB are freed in seconds, not in hours.
rgw gc obj min wait = 5
rgw gc processor period = 5
# Buckets are found by a name of their own, too: BUCKET.s3.localhost
rgw dns name = s3.localhost
rgw frontends = beast endpoint=127.0.0.1:${httpPort} tcp_nodelay=1
`;
}

/** One key for all is enough where all runs as one user. */
function keyring(key: string): string {
  const all = { mon: 'allow *', osd: 'allow *' };
  const capabilities = {
    'mon.': { mon: 'allow *' },
    'client.admin': all,
    'osd.0': { mon: 'allow profile osd', osd: 'allow *' },
    'client.rgw': all,
  };
  const lines = Object.entries(capabilities).flatMap(([entity, rights]) => [
    `[${entity}]`,
    `key = ${key}`,
    ...Object.entries(rights).map(([service, right]) => `caps ${service} = "${right}"`),
  ]);
  return `${lines.join('\n')}\n`;
}
