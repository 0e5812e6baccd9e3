import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { validate } from 'dockerfile-utils';
import { parse } from 'yaml';
import { startMariadb } from '../services/mariadb.ts';
import { freshDatabase, needs, psql, theService, withoutServices } from '../services/services.ts';
import { put, temporary } from '../support/temporary.ts';
import { makeWorld, type BackupSummary, type World } from '../support/world.ts';

/** What the tests cannot start (there is no Docker here, and no systemd to run) is checked by its own checkers. */
const run = promisify(execFile);
const checkout = join(import.meta.dirname, '../..');
const examples = join(checkout, 'examples');
const skip = withoutServices && 'needs Debian packages, and SEALIFT_TEST_SERVICES=none';
const textOf = (path: string): string => readFileSync(join(checkout, path), 'utf8');

interface Compose {
  readonly services: Readonly<
    Record<string, { secrets?: string[]; volumes?: string[]; environment?: Record<string, string> }>
  >;
  readonly secrets: Readonly<Record<string, { file: string }>>;
}
const compose = parse(textOf('docker-compose.yml')) as Compose;

test('docker-compose accepts the compose file', { skip }, async (t) => {
  // It looks for the secrets' files only when it starts something, but keeps a project's name by its folder.
  const dir = temporary(t);
  cpSync(join(checkout, 'docker-compose.yml'), join(dir, 'docker-compose.yml'));
  const { stderr } = await run('docker-compose', ['config', '--quiet'], { cwd: dir });
  assert.equal(stderr, '');
  const broken = textOf('docker-compose.yml').replace('restart: unless-stopped', 'restrat: unless-stopped');
  writeFileSync(join(dir, 'docker-compose.yml'), broken);
  await assert.rejects(run('docker-compose', ['config', '--quiet'], { cwd: dir }), /restrat/);
});

test('what the compose file mounts is there, and every secret is one that it names and prepare.sh makes', async (t) => {
  for (const [name, service] of Object.entries(compose.services)) {
    for (const volume of service.volumes ?? []) {
      const [from = ''] = volume.split(':');
      if (from.startsWith('.')) assert.ok(existsSync(join(checkout, from)), `${name}: ${volume}`);
    }
    for (const secret of service.secrets ?? []) assert.ok(secret in compose.secrets, `${name}: ${secret}`);
    for (const [variable, value] of Object.entries(service.environment ?? {}))
      if (variable.endsWith('_FILE'))
        assert.ok(service.secrets?.includes(value.replace('/run/secrets/', '')), `${name}: ${value}`);
  }
  const dir = temporary(t);
  mkdirSync(join(dir, 'examples'));
  cpSync(join(examples, 'docker'), join(dir, 'examples/docker'), { recursive: true });
  const prepare = () => run(join(dir, 'examples/docker/prepare.sh'));
  const { stdout } = await prepare();
  assert.match(stdout, /no public key in keys\/recipients/);
  const made = readdirSync(join(dir, 'secrets')).toSorted();
  assert.deepEqual(
    made,
    Object.values(compose.secrets)
      .map(({ file }) => file.slice('./secrets/'.length))
      .toSorted(),
  );
  assert.equal(statSync(join(dir, 'secrets')).mode & 0o777, 0o700);
  const contents = () => made.map((name) => readFileSync(join(dir, 'secrets', name), 'utf8'));
  const before = contents();
  assert.equal(new Set(before).size, made.length, 'no two are the same');
  const store = JSON.parse(before[made.indexOf('store_users.json')]!) as {
    identities: { credentials: { accessKey: string; secretKey: string }[] }[];
  };
  assert.deepEqual(store.identities[0]?.credentials, [
    { accessKey: before[made.indexOf('store_key_id')], secretKey: before[made.indexOf('store_key')] },
  ]);
  await prepare();
  assert.deepEqual(contents(), before, 'what is there stays');
});

test('the Dockerfile is valid, and copies nothing that .dockerignore keeps out', () => {
  const dockerfile = textOf('Dockerfile');
  assert.deepEqual(validate(dockerfile), []);
  assert.ok(validate(dockerfile.replace('WORKDIR', 'WORKDR')).length > 0);
  const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, from]) =>
    from!.split(' '),
  );
  assert.deepEqual(sources, ['package.json', 'package-lock.json', '.']);
  const ignored = textOf('.dockerignore').split('\n');
  for (const needed of [
    'package.json',
    'package-lock.json',
    'src',
    'bin',
    'docs',
    'tsconfig.json',
    'build.ts',
  ])
    assert.ok(!ignored.includes(needed), needed);
  for (const private_ of ['keys', 'secrets', '.git']) assert.ok(ignored.includes(private_), private_);
});

test('systemd accepts the units', { skip }, async (t) => {
  const dir = temporary(t);
  for (const name of readdirSync(join(examples, 'systemd'))) {
    const unit = textOf(`examples/systemd/${name}`);
    assert.ok(name.endsWith('.timer') || unit.includes('ExecStart=/usr/local/bin/sealift '), name);
    put(join(dir, name), unit.replaceAll('/usr/local/bin/sealift', join(checkout, 'bin/sealift')));
  }
  const verify = () =>
    run('systemd-analyze', ['verify', '--man=no', ...readdirSync(dir).map((name) => join(dir, name))]).then(
      ({ stderr }) => stderr,
      (error: { stderr?: string }) => error.stderr ?? '',
    );
  const ofOurs = async () => (await verify()).split('\n').filter((line) => line.includes('sealift'));
  assert.deepEqual(await ofOurs(), []);
  writeFileSync(join(dir, 'sealift.service'), '[Service]\nExecStart=relative\nTypo=1\n');
  assert.notDeepEqual(await ofOurs(), []);
});

test('what the units start are commands that there are, and a reload first checks what it loads', async () => {
  for (const name of readdirSync(join(examples, 'systemd')))
    for (const [, args = ''] of textOf(`examples/systemd/${name}`).matchAll(/^Exec\w+=\S*\/sealift (.*)$/gm))
      await run(join(checkout, 'bin/sealift'), [...args.split(' '), '--help']);
  const [check = '', signal = ''] =
    textOf('examples/systemd/sealift.service').match(/^ExecReload=.*$/gm) ?? [];
  assert.match(check, / config check$/);
  assert.match(signal, /kill -HUP/);
});

suite('root under the unit of the daemon', { skip: process.geteuid?.() !== 0 && 'needs root' }, () => {
  const settings = new Map(
    [...textOf('examples/systemd/sealift.service').matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [
      name!,
      value!,
    ]),
  );
  const capabilities = settings.get('CapabilityBoundingSet')!.replaceAll('CAP_', '+').replaceAll(' ', ',');
  const underUnit = (program: string, ...args: string[]) =>
    run('setpriv', [
      '--no-new-privs',
      `--bounding-set=-all,${capabilities.toLowerCase()}`,
      '--',
      program,
      ...args,
    ]);

  // Else a database in use would pass for a file at rest, and what was copied of it for whole.
  test('sees what others have open for writing', async (t) => {
    const file = join(temporary(t), 'app.db');
    const ready = ['sh', '-c', 'echo ready; exec sleep 60'];
    const other = spawn('setpriv', ['--reuid=nobody', '--clear-groups', ...ready], {
      stdio: ['ignore', 'pipe', 'inherit', openSync(file, 'a')],
    });
    t.after(() => other.kill());
    // At its end, too.
    await once(other.stdout!, 'readable');
    const look = `const { isWritten } = await import(${JSON.stringify(join(checkout, 'src/sources/processes.ts'))});
      console.log(await isWritten(${JSON.stringify(file)}))`;
    const sees = async () =>
      (await underUnit(process.execPath, '--input-type=module', '--eval', look)).stdout;
    assert.equal(await sees(), 'true\n');
  });

  test('may read the rules of the firewall, and no path is hidden that a tree may hold', () => {
    assert.match(capabilities, /\+NET_ADMIN/);
    // It lays an empty folder over /usr/lib/modules.
    assert.ok(!settings.has('ProtectKernelModules') && !settings.has('InaccessiblePaths'));
    assert.ok(!settings.has('PrivateTmp') && settings.get('ProtectHome') === 'read-only');
  });
});

/** A source of the example's configuration, at another address. */
function exampleSource(kind: string, change: object): object {
  const example = parse(textOf('examples/docker/sealift.yaml')) as {
    jobs: { databases: { sources: { kind: string }[] } };
  };
  return { ...example.jobs.databases.sources.find((source) => source.kind === kind), ...change };
}

/** Backs up with this source alone, and returns what the dump holds. */
async function backUp(world: World, source: object, dump: string): Promise<string> {
  world.setJobs({ databases: { schedule: '0 0 * * *', sources: [source] } });
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.equal(snapshots[0]?.status, 'complete');
  assert.deepEqual(snapshots[0].problems, [], 'it may see everything');
  const to = join(world.dir, 'back');
  const restored = await world.run('restore', '--source', dump, '--to', to, '--key', world.key);
  assert.equal(restored.status, 0, restored.stderr);
  return join(to, dump);
}

suite('what the example gives sealift', needs('postgres'), () => {
  test('of PostgreSQL is a role that may read all, and is enough for a backup', async (t) => {
    const { host, tcpHost, port, user, binDir } = theService('postgres');
    const world = await makeWorld(t, { jobs: {} });
    const file = put(join(world.dir, 'password'), `p'a\\ss "word"`, 0o600);
    // The image sets no more than this; the rest is where the server is.
    const env = {
      PATH: `${binDir}:${process.env['PATH']}`,
      PGHOST: host,
      PGPORT: String(port),
      POSTGRES_USER: user,
      BACKUP_PASSWORD_FILE: file,
    };
    await run('sh', [join(examples, 'docker/postgres-backup-role.sh')], { env });
    t.after(() => psql('postgres', 'REVOKE pg_read_all_data FROM backup; DROP ROLE backup'));
    const database = await freshDatabase();
    await psql(database, 'CREATE TABLE secret AS SELECT 42 AS answer');

    const here = { host: tcpHost, port, databases: [database], password: { file } };
    const dump = await backUp(world, exampleSource('postgres', here), `xmpp/${database}.dump`);
    const { stdout } = await run(join(binDir, 'pg_restore'), ['--file=-', dump]);
    assert.match(stdout, /COPY public\.secret/);
  });

  test('of MariaDB is a user that may read all, and is enough for a backup', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'sealift-example-'));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rmSync(dir, { recursive: true, force: true }));
    const { socket, tcpHost, port } = stack.use(await startMariadb(dir));
    const world = await makeWorld(t, { jobs: {} });
    const file = put(join(world.dir, 'password'), 'c0ffee\n', 0o600);
    put(join(world.dir, '.my.cnf'), `[client]\nsocket=${socket}\n`);
    const env = { PATH: process.env['PATH'], HOME: world.dir, BACKUP_PASSWORD_FILE: file };
    const client = (sql: string) => run('mariadb', ['--user=root', '--execute', sql], { env });
    await run('sh', [join(examples, 'docker/mariadb-backup-user.sh')], { env });
    await client('CREATE DATABASE wiki; CREATE TABLE wiki.secret AS SELECT 42 AS answer');
    await client("CREATE PROCEDURE wiki.greet() SELECT 'hello'");

    const here = { host: tcpHost, port, password: { file } };
    const dump = readFileSync(await backUp(world, exampleSource('mysql', here), 'web/wiki.sql'), 'utf8');
    assert.match(dump, /INSERT INTO `secret` VALUES\s+\(42\)/);
    assert.match(dump, /PROCEDURE `greet`/);
  });
});
