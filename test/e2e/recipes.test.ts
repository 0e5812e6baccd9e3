import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { freePorts, ServerGroup } from '../services/server-group.ts';
import { withoutServices } from '../services/services.ts';
import { hasAcl, setAcl } from '../support/acl.ts';
import { put, temporary } from '../support/temporary.ts';
import { makeWorld, type BackupSummary, type World } from '../support/world.ts';

const skip = withoutServices ? 'needs servers, and SEALIFT_TEST_SERVICES=none' : false;
const text = readFileSync(join(import.meta.dirname, '../../docs/recipes.md'), 'utf8');

/** The jobs of a recipe as docs/recipes.md has them, with places of the test in stead of those. */
function jobsOf(recipe: string, places: Record<string, string>): object {
  const [, yaml = ''] = new RegExp(`^## ${recipe}[^]*?\`\`\`yaml\n([^]*?)\`\`\``, 'm').exec(text) ?? [];
  let json = JSON.stringify((parse(yaml) as { jobs: object }).jobs);
  for (const [from, to] of Object.entries(places)) {
    assert.ok(json.includes(from), `${recipe} has ${from}`);
    json = json.replaceAll(from, to);
  }
  return JSON.parse(json) as object;
}

async function servers(t: TestContext): Promise<{ group: ServerGroup; dir: string }> {
  const dir = temporary(t);
  const logs = join(dir, 'log');
  mkdirSync(logs);
  const group = new ServerGroup(logs);
  t.after(() => group[Symbol.asyncDispose]());
  return { group, dir };
}

/** Backs the recipe up and restores it; returns where it came back. */
async function roundTrip(world: World): Promise<string> {
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.equal(snapshots[0]?.status, 'complete');
  assert.deepEqual(snapshots[0].problems, []);
  const out = join(world.dir, 'out');
  const restored = await world.run('restore', 'latest', '--to', out, '--key', world.key);
  assert.equal(restored.status, 0, restored.stderr);
  return out;
}

/** What the recipe for etcd writes for a moment. */
const copies = (): string[] => readdirSync('/tmp').filter((name) => name.startsWith('etcd.'));

test('etcd: a snapshot comes back in a new data folder, and no plain copy stays', { skip }, async (t) => {
  const { group, dir } = await servers(t);
  const start = async (name: string, data: string): Promise<string> => {
    const [client = 0, peer = 0] = await freePorts(2);
    const own = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`] as const;
    const args = ['--data-dir', data, '--listen-client-urls', own[0], '--advertise-client-urls', own[0]];
    const peers = ['--listen-peer-urls', own[1]];
    await group.start(name, { command: 'etcd', args: [...args, ...peers] }, 'SIGTERM');
    await group.until(() => etcdctl(own[0], 'endpoint', 'health'));
    return own[0];
  };
  const etcdctl = (endpoint: string, ...args: string[]): Promise<string> =>
    group.run({ command: 'etcdctl', args: [`--endpoints=${endpoint}`, ...args], env: { ETCDCTL_API: '3' } });

  const first = await start('etcd', join(dir, 'data'));
  await etcdctl(first, 'put', 'the key', 'a value');
  const world = await makeWorld(t, { jobs: jobsOf('etcd', { 'http://127.0.0.1:2379': first }) });
  const before = copies();
  const out = await roundTrip(world);
  assert.deepEqual(copies(), before);

  const data = join(dir, 'restored');
  const snapshot = join(out, 'etcd/snapshot.db');
  await etcdctl(first, 'snapshot', 'restore', snapshot, '--data-dir', data);
  assert.match(await etcdctl(await start('restored', data), 'get', 'the key'), /^the key\na value$/m);

  // With nobody to answer: told, and nothing saved.
  const [free] = await freePorts(1);
  world.setJobs(jobsOf('etcd', { 'http://127.0.0.1:2379': `http://127.0.0.1:${free}` }));
  const failed = await world.run('backup', '--json');
  assert.equal(failed.status, 1);
  assert.match(failed.stdout, /"code":"nothing-saved".*bash ended with status 1: .*is unhealthy/);
});

test(
  'InfluxDB: a folder that a hook makes and another removes comes back in a new server',
  { skip },
  async (t) => {
    const { group, dir } = await servers(t);
    const start = async (
      name: string,
    ): Promise<{ rpc: string; query: (q: string) => Promise<string>; url: string }> => {
      const [rpc, http] = await freePorts(2);
      const folder = (part: string): string => join(dir, name, part);
      const env = {
        INFLUXDB_REPORTING_DISABLED: 'true',
        INFLUXDB_BIND_ADDRESS: `127.0.0.1:${rpc}`,
        INFLUXDB_HTTP_BIND_ADDRESS: `127.0.0.1:${http}`,
        INFLUXDB_META_DIR: folder('meta'),
        INFLUXDB_DATA_DIR: folder('data'),
        INFLUXDB_DATA_WAL_DIR: folder('wal'),
      };
      await group.start(name, { command: 'influxd', args: ['-config', '/dev/null'], env }, 'SIGTERM');
      const url = `http://127.0.0.1:${http}`;
      const query = async (q: string): Promise<string> =>
        (await fetch(`${url}/query?db=power`, { method: 'POST', body: new URLSearchParams({ q }) })).text();
      await group.until(() => query('SHOW DATABASES'));
      return { rpc: `127.0.0.1:${rpc}`, query, url };
    };
    const first = await start('influxd');
    await first.query('CREATE DATABASE power');
    const written = await fetch(`${first.url}/write?db=power`, {
      method: 'POST',
      body: 'load,room=a watts=42 1000',
    });
    assert.equal(written.status, 204);

    const folder = join(dir, 'backup');
    const jobs = jobsOf('InfluxDB', { '127.0.0.1:8088': first.rpc, '/var/backups/influx': folder });
    const out = await roundTrip(await makeWorld(t, { jobs }));
    assert.ok(!existsSync(folder), 'the hook has removed it');

    const second = await start('restored');
    const args = ['restore', '-portable', '-host', second.rpc, join(out, 'influx', folder)];
    await group.run({ command: 'influxd', args });
    // It opens what it has taken in a moment later.
    await group.until(async () => assert.match(await second.query('SELECT * FROM load'), /"a",42/));
  },
);

test('Git: a bundle can be cloned', { skip }, async (t) => {
  const dir = temporary(t);
  const env = { PATH: process.env['PATH'], HOME: dir, GIT_CONFIG_NOSYSTEM: '1' };
  const git = (...args: string[]): string =>
    execFileSync('git', args, { env, encoding: 'utf8', stdio: 'pipe' });
  const who = ['-c', 'user.name=A', '-c', 'user.email=a@example.org'];
  git('init', '--quiet', join(dir, 'site.git'));
  git('-C', join(dir, 'site.git'), ...who, 'commit', '--quiet', '--allow-empty', '-m', 'the first');
  git('-C', join(dir, 'site.git'), 'tag', 'v1');
  const user = process.geteuid?.() === 0 ? 'root' : execFileSync('id', ['-un'], { encoding: 'utf8' }).trim();
  const places = { '/srv/git/site.git': join(dir, 'site.git'), '"runAs":"git"': `"runAs":"${user}"` };
  const out = await roundTrip(await makeWorld(t, { jobs: jobsOf('Git', places) }));
  git('clone', '--quiet', '--mirror', join(out, 'site/site.bundle'), join(dir, 'clone.git'));
  assert.equal(git('-C', join(dir, 'clone.git'), 'log', '-1', '--format=%s', 'v1').trim(), 'the first');
});

test('access control lists come back with their tree', { skip }, async (t) => {
  const web = join(temporary(t), 'web');
  mkdirSync(web);
  put(join(web, 'key.pem'), 'secret', 0o600);
  setAcl(join(web, 'key.pem'));
  const jobs = jobsOf('Access control lists and capabilities', { '/srv/web': web });
  const out = await roundTrip(await makeWorld(t, { jobs }));
  rmSync(web, { recursive: true });
  mkdirSync(web); // as a package of the new machine may have made it
  execFileSync('cp', ['-aT', join(out, 'tree', web), web]);
  assert.equal(statSync(join(web, 'key.pem')).mode & 0o777, 0o640, 'the mask stands where the group did');
  execFileSync('setfattr', ['--no-dereference', `--restore=${join(out, 'attributes/attributes.txt')}`]);
  assert.ok(hasAcl(join(web, 'key.pem')));
});
