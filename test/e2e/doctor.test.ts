import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test, type TestContext } from 'node:test';
import {
  CreateBucketCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutObjectLockConfigurationCommand,
} from '@aws-sdk/client-s3';
import { freshBucket, freshDatabase, needs, psql, theService } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';
import { launcher, programEnv, sealift, type CliResult } from '../support/cli.ts';
import { makeKey } from '../support/keys.ts';
import { needsGetfattr, setAcl } from '../support/acl.ts';
import { put } from '../support/temporary.ts';
import {
  bucketStore,
  every2h,
  makeWorld,
  readJson,
  type World,
  type WorldOptions,
} from '../support/world.ts';
import {
  fingerprints,
  hostWithSnapshot,
  needsMounts,
  refuses,
  treeJob,
  treeSource,
  underMounts,
} from './bad-input.ts';
import { shiftedClock, sign } from './shifted-clock.ts';

const needsBtrfs = needsMounts.skip
  ? needsMounts
  : {
      skip:
        (['mkfs.btrfs', 'btrfs'].some((program) => spawnSync(program, ['--version']).status !== 0) ||
          !readFileSync('/proc/filesystems', 'utf8').includes('btrfs')) &&
        'needs btrfs and its programs',
    };

interface Report {
  readonly ok: boolean;
  readonly checkedAt: string;
  readonly host: string;
  readonly checks: readonly {
    area: string;
    subject: string;
    state: 'good' | 'warning' | 'bad';
    message: string;
    hint?: string;
  }[];
}

const reportOf = ({ stdout }: CliResult): Report => JSON.parse(stdout) as Report;

/** The report, and what of it is not good, one line each. */
async function examine(world: World): Promise<{ status: number | null; report: Report; lines: string[] }> {
  const { status, stdout } = await world.run('doctor', '--json');
  const report = JSON.parse(stdout) as Report;
  return { status, report, lines: linesOf(report) };
}

/** A host with something to save, which never ran. */
async function hostWithTree(t: TestContext, options: Partial<WorldOptions> = {}): Promise<World> {
  const world = await makeWorld(t, { jobs: treeJob, ...options });
  mkdirSync(join(world.dir, 'tree'));
  return world;
}

const linesOf = ({ checks }: Report): string[] =>
  checks
    .filter(({ state }) => state !== 'good')
    .map(
      ({ area, subject, state, message, hint = '' }) => `${state} ${area} ${subject}: ${message} | ${hint}`,
    );

const goodOf = ({ checks }: Report, area: string): string =>
  checks
    .filter((check) => check.state === 'good' && check.area === area)
    .map(({ message }) => message)
    .join('\n');

test('a configuration that names no host is told what to add, as init does not change it', async (t) => {
  const world = await hostWithTree(t);
  const { host: _, ...rest } = readJson(world.configFile) as Record<string, unknown>;
  writeFileSync(world.configFile, JSON.stringify(rest));
  const { status, lines } = await examine(world);
  assert.equal(status, 3);
  assert.match(lines.join('\n'), /^bad host .*which host this is \| add a line to it: host: NAME$/m);
});

test('a host that is well gets one good line for each thing, and nothing of the visit is left', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const temporary = join(world.dir, 'tmp');
  mkdirSync(temporary);
  const before = [fingerprints(join(world.dir, 'store')), fingerprints(join(world.dir, 'state'))];
  const { status, report, lines } = await examine(world);
  assert.deepEqual([status, report.ok, report.host, lines], [0, true, 'h1', []]);
  assert.deepEqual(
    [...new Set(report.checks.map(({ area }) => area))],
    ['config', 'host', 'keys', 'store', 'source'],
  );
  const says =
    /clock agrees[^]*1 snapshot of h1[^]*written, read and listed[^]*refuses to overwrite[^]*may delete/;
  assert.match(goodOf(report, 'store'), says);
  assert.match(goodOf(report, 'source'), /^files would save files\.tar$/);
  const after = [fingerprints(join(world.dir, 'store')), fingerprints(join(world.dir, 'state'))];
  assert.deepEqual(after[0], before[0]);
  for (const path of before[1]!.keys()) assert.equal(after[1]!.get(path), before[1]!.get(path), path);
  assert.deepEqual(readdirSync(join(world.dir, 'store/h1/snap')).length, 1);

  const text = await world.run('doctor');
  assert.equal(text.status, 0);
  assert.match(text.stdout, /^good +config .*sealift\.yaml: 1 job, 1 source\n[^]*\nAll is well\.\n$/);
});

test('all that is wrong is said at once, with what to do', async (t) => {
  const world = await hostWithTree(t);
  const broken = { name: 'chat', kind: 'sqlite', path: 'missing.sqlite' };
  world.setJobs({ tree: { schedule: every2h, sources: [treeSource, broken] }, later: treeJob.tree });
  const expired = await makeKey({ date: new Date(Date.now() - 3600_000), keyExpirationTime: 60 });
  const soon = await makeKey({ keyExpirationTime: 10 * 86_400 }, 'Soon');
  put(join(world.dir, 'keys/recipients/expired.asc'), expired.publicKey.armor());
  put(join(world.dir, 'keys/recipients/soon.asc'), soon.publicKey.armor());
  rmSync(join(world.dir, 'keys/hosts/h1.asc'));
  const { status, report, lines } = await examine(world);
  assert.equal(status, 3);
  assert.equal(report.ok, false);
  for (const [line, says] of [
    [
      lines[0],
      /^bad keys .*expired\.asc: expired on \d{4}.* \| .*replace the key, or take it out of `recipients`/,
    ],
    [lines[1], /^warning keys .*soon\.asc: expires in 9 days/],
    [lines[2], /^warning keys .*hosts: the key of host h1 is not pinned there.* \| run `sealift init`/],
    [lines[3], /^bad source tree\/chat: there is no .*missing\.sqlite/],
  ] as const)
    assert.match(line ?? '', says);
  assert.equal(lines.length, 4);
  const sources = report.checks.filter(({ area }) => area === 'source').map(({ subject }) => subject);
  assert.deepEqual(sources, ['tree/tree', 'tree/chat', 'later/tree']);
  assert.match((await world.run('doctor')).stdout, /\n2 things must be put right\.\n$/);
});

test('a key that is passed over for the name of its file is a warning, other files are not', async (t) => {
  const world = await hostWithTree(t);
  const bob = await makeKey({}, 'Bob');
  const folder = join(world.dir, 'keys/recipients');
  put(join(folder, 'bob.txt'), bob.publicKey.armor());
  put(join(folder, 'README'), 'Keys of those who may restore.\n');
  const { status, lines } = await examine(world);
  assert.equal(status, 0);
  assert.deepEqual(lines, [
    `warning keys ${folder}/bob.txt: it holds a key, and is not read: key files end in .asc, .gpg, .pgp or .key | rename it, or take it out of the folder`,
  ]);
});

/** As in a configuration of Prosody. */
const sql = (database: string) => `sql = { driver = "SQLite3", database = "${database}" }\n`;

const openToAll = (file: string) =>
  `warning config ${file}: it holds a password, and every user of this machine can read it | chmod o-r '${file}'`;

test('a job that runs so seldom that its snapshots end before the next is a warning', async (t) => {
  const world = await hostWithTree(t);
  const { tree } = treeJob;
  world.setJobs({
    often: { ...tree, schedule: '0 3 * * 1,3,5' },
    weekly: { ...tree, schedule: '0 3 * * 1' },
    monthly: { ...tree, schedule: '0 3 1 * *' },
  });
  const { status, lines } = await examine(world);
  assert.equal(status, 0);
  assert.match(lines[0] ?? '', /^warning config .*: up to 7d lie .* job weekly .* kept for 7d: /);
  assert.match(lines[1] ?? '', /^warning config .*: up to (28|29|30|31)d lie .* job monthly .*\| raise /);
  assert.equal(lines.length, 2);
});

test('a password that every user of the machine can read is a warning', async (t) => {
  const redis = { name: 'cache', kind: 'redis', port: 1 };
  const world = await makeWorld(t, {
    jobs: {
      j: {
        schedule: every2h,
        sources: [
          { ...redis, password: { file: 'open' } },
          { ...redis, name: 'other', password: { file: 'closed' } },
          { ...redis, name: 'third', password: 'written down' },
        ],
      },
    },
  });
  const open = put(join(world.dir, 'open'), 'x', 0o644);
  put(join(world.dir, 'closed'), 'x', 0o640);
  const told = async () => (await examine(world)).lines.filter((line) => line.includes('every user'));
  assert.deepEqual(await told(), [], 'the folder lets nobody in');
  chmodSync(world.dir, 0o755);
  assert.deepEqual(await told(), [openToAll(open)]);
  chmodSync(world.configFile, 0o644);
  assert.deepEqual((await told()).toSorted(), [openToAll(open), openToAll(world.configFile)]);
});

test('a hook that cannot be started is bad, as the job would fail', async (t) => {
  const world = await hostWithTree(t);
  const thaw = put(join(world.dir, 'thaw'), '#!/bin/sh\n', 0o755);
  const job = { schedule: every2h, sources: [treeSource] };
  world.setJobs({ fine: { ...job, before: ['true'], after: [thaw, 'x'] } });
  assert.deepEqual((await examine(world)).lines, []);

  world.setJobs({
    a: { ...job, before: ['/nowhere/freeze'], after: ['no-such-program'] },
    b: { ...job, before: [put(join(world.dir, 'freeze'), '#!/bin/sh\n', 0o644)], after: [world.dir] },
    c: { ...job, before: [put(join(world.dir, 'script'), '#!/no/such/perl\n', 0o755)] },
  });
  const { status, lines } = await examine(world);
  assert.equal(status, 3);
  const says = [
    /^bad hook a\/before: there is no program \/nowhere\/freeze that can be started \| nothing is saved/,
    /^bad hook a\/after: there is no program no-such-program on the PATH that can be started \| every run ends with 3/,
    /^bad hook b\/before: there is no program .*\/freeze that can be started \|.*chmod/,
    /^bad hook b\/after: there is no program /,
    /^bad hook c\/before: .*\/script cannot be started: .*"\/no\/such\/perl".* \| nothing is saved while it fails: install it/,
  ];
  assert.equal(lines.length, says.length, lines.join('\n'));
  for (const [at, text] of says.entries()) assert.match(lines[at] ?? '', text);
});

test(
  'a tree with access control lists is a warning, unless something saves them',
  needsGetfattr,
  async (t) => {
    const world = await hostWithTree(t);
    for (const name of ['b', 'a']) setAcl(put(join(world.dir, 'tree', name), ''));
    const { status, lines } = await examine(world);
    assert.equal(status, 0);
    assert.equal(lines.length, 1);
    const says =
      /^warning source tree\/tree: 2 files have access control lists .*\/tree\/a is the first \| .*recipes/;
    assert.match(lines[0] ?? '', says);

    const saves = { name: 'attributes', kind: 'command', argv: ['getfattr', '--recursive', world.dir] };
    world.setJobs({ tree: { schedule: every2h, sources: [treeSource, saves] } });
    assert.deepEqual((await examine(world)).lines, []);

    world.setJobs({ tree: { schedule: every2h, sources: [{ ...treeSource, exclude: ['a', 'b'] }] } });
    assert.deepEqual((await examine(world)).lines, []);
  },
);

test(
  'a file system that is mounted in a tree is a warning, since it is not saved',
  needsMounts,
  async (t) => {
    const world = await hostWithTree(t);
    const disk = join(world.dir, 'tree/disk');
    mkdirSync(disk);
    const sealift = await underMounts(t, `mount -t ramfs none ${disk}`);
    const run = async () =>
      linesOf(reportOf(await sealift(['-c', world.configFile, 'doctor', '--json'], { cwd: world.dir })));
    assert.match(
      (await run())[0] ?? '',
      /^warning source tree\/tree: .*\/tree\/disk is a file system of its own/,
    );
    const sources = [{ ...treeSource, oneFileSystem: false }];
    world.setJobs({ tree: { schedule: every2h, sources } });
    assert.deepEqual(await run(), []);
  },
);

test(
  'so is a subvolume of btrfs, mounted or not, which the device of its mount does not show',
  needsBtrfs,
  async (t) => {
    const world = await hostWithTree(t);
    const disk = join(world.dir, 'tree/disk');
    for (const path of [disk, join(world.dir, 'top')]) mkdirSync(path);
    const sealift = await underMounts(
      t,
      `cd ${world.dir}; truncate -s 128M image
       mkfs.btrfs -q image >&2; mount -o loop image top >&2
       for name in disk disk/within home left; do btrfs subvolume create top/$name >&2; done; mkdir top/disk/home
       mount -o subvol=disk $(findmnt -no SOURCE top) ${disk}; mount -o subvol=home $(findmnt -no SOURCE top) ${disk}/home
       btrfs subvolume create ${disk}/left-out >&2`,
    );
    world.setJobs({
      tree: {
        schedule: every2h,
        sources: [{ name: 'disk', kind: 'files', paths: [disk], exclude: ['left-out'] }],
      },
    });
    const lines = linesOf(
      reportOf(await sealift(['-c', world.configFile, 'doctor', '--json'], { cwd: world.dir })),
    );
    const told = lines.flatMap((line) => / (\S+) is a file system of its own/.exec(line)?.[1] ?? []);
    assert.deepEqual(new Set(told), new Set([join(disk, 'home'), join(disk, 'within')]));
  },
);

test('a command that cannot be started is bad', async (t) => {
  const world = await hostWithTree(t);
  const plain = put(join(world.dir, 'plain'), '#!/bin/sh\n', 0o644);
  const sources = [
    { name: 'dump', kind: 'command', argv: ['no-such-program', '-x'] },
    { name: 'plain', kind: 'command', argv: [plain] },
    { name: 'folder', kind: 'command', argv: [world.dir] },
  ];
  world.setJobs({ j: { schedule: every2h, sources } });
  const { status, lines } = await examine(world);
  assert.deepEqual([status, lines.length], [3, 3]);
  assert.match(lines[1] ?? '', /^bad source j\/plain: .*plain could not be started \| .*chmod/);
  assert.match(lines[2] ?? '', /^bad source j\/folder: .* could not be started \| /);
  assert.match(
    lines[0] ?? '',
    /^bad source j\/dump: no-such-program is not installed \| give argv the whole path/,
  );
});

test('a state that others may read, a store that is away, and a file that makes no sense', async (t) => {
  const world = await hostWithTree(t);
  chmodSync(join(world.dir, 'state'), 0o755);
  rmSync(join(world.dir, 'store'), { recursive: true });
  const { status, report, lines } = await examine(world);
  assert.equal(status, 3);
  assert.match(lines[0] ?? '', /^bad host .*state: .*can be read by everybody.*chmod go-rwx/);
  assert.match(lines[1] ?? '', /^bad store .*store: .*does not exist \| Is the disk mounted/);
  assert.equal(lines.length, 2, 'the rest is looked at all the same');
  assert.match(goodOf(report, 'source'), /files would save/);

  writeFileSync(world.configFile, 'store: [\n');
  await refuses(world, ['doctor'], { exit: 2, code: 'config-invalid', says: /sealift\.yaml:/ });
});

test('what a tree would lack, and a file that is no database, are bad', async (t) => {
  const world = await hostWithTree(t);
  const [tree, link, gone, text] = ['tree', 'link', 'gone', 'text.db'].map((name) => join(world.dir, name));
  symlinkSync('tree', link!);
  writeFileSync(text!, 'this is not what it is said to be');
  const sources = [
    { name: 'whole', kind: 'files', paths: [tree] },
    { name: 'lacking', kind: 'files', paths: [link, gone, text] },
    { name: 'chat', kind: 'sqlite', path: text },
  ];
  world.setJobs({ j: { schedule: every2h, sources } });
  const { status, lines } = await examine(world);
  assert.equal(status, 3);
  assert.match(lines[0] ?? '', /^bad source j\/lacking: files\.tar: ".*link" is a symlink: only the link/);
  assert.match(lines[1] ?? '', /^bad source j\/lacking: files\.tar: ".*gone" cannot be read: ENOENT/);
  assert.match(lines[2] ?? '', /^bad source j\/chat: .*text\.db is not a SQLite database \| it is encrypted/);
  assert.equal(lines.length, 3);
});

test('what would make a snapshot partial is bad also where the rest of the source is saved', async (t) => {
  const world = await hostWithTree(t);
  const folder = join(world.dir, 'tree');
  put(join(folder, 'accounts.sqlite'), 'SQLite format 3\0');
  const prosody = { kind: 'prosody', config: folder, data: folder };
  const away = { kind: 'sqlite', path: join(world.dir, 'gone.sqlite') };
  world.setJobs({ j: { schedule: every2h, sources: [{ name: 'chat', ...prosody, database: away }] } });
  const { status, lines } = await examine(world);
  const bad = lines.filter((line) => line.startsWith('bad'));
  assert.equal(bad.length, 2, lines.join('\n'));
  assert.match(
    bad[0]!,
    /^bad source j\/chat: ".*accounts\.sqlite" is an SQLite database that is saved in no/,
  );
  assert.match(bad[1]!, /^bad source j\/chat: there is no .*gone\.sqlite/);
  assert.equal(status, 3);
});

test('paths that this user may not read are bad', async (t) => {
  const world = await hostWithTree(t);
  const [file, folder] = ['shut', 'locked'].map((name) => join(world.dir, name));
  writeFileSync(file!, 'x', { mode: 0o000 });
  mkdirSync(folder!, { mode: 0o000 });
  const source = { name: 'etc', kind: 'files', paths: [join(world.dir, 'tree'), file, folder] };
  world.setJobs({ j: { schedule: every2h, sources: [source] } });
  // Root without the right to pass over modes.
  const rights = '-dac_override,-dac_read_search';
  const dropRights =
    process.geteuid?.() === 0 ? ['setpriv', `--inh-caps=${rights}`, `--bounding-set=${rights}`] : [];
  const command = [...dropRights, launcher, '-c', world.configFile, 'doctor', '--json'];
  const { status, stdout } = spawnSync('env', command, { env: programEnv(world.dir), encoding: 'utf8' });
  assert.equal(status, 3);
  const lines = linesOf(JSON.parse(stdout) as Report);
  assert.match(lines[0] ?? '', /^bad source j\/etc: files\.tar: ".*shut" cannot be read: EACCES/);
  assert.match(lines[1] ?? '', /^bad source j\/etc: files\.tar: ".*locked" cannot be read: EACCES/);
  assert.equal(lines.length, 2);
});

test('where another machine writes under the same name, that is bad, and nothing is written', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const store = join(world.dir, 'store');
  const before = fingerprints(store);
  const second = await hostWithTree(t, { store: { kind: 'directory', path: store } });
  const { status, lines } = await examine(second);
  assert.equal(status, 3);
  assert.match(
    lines.join('\n'),
    /^bad store .*: another key signs snapshots of host h1.* \| This machine's key is/,
  );
  assert.deepEqual(fingerprints(store), before);
});

test('a temporary folder with less room than a database needs is a warning', needsMounts, async (t) => {
  const world = await hostWithTree(t);
  const database = new DatabaseSync(join(world.dir, 'chat.sqlite'));
  database.exec('CREATE TABLE t AS SELECT zeroblob(3000000) AS z');
  database.close();
  const source = { name: 'chat', kind: 'sqlite', path: 'chat.sqlite' };
  world.setJobs({ j: { schedule: every2h, sources: [source] } });
  const small = join(world.dir, 'small');
  mkdirSync(small);
  const sealift = await underMounts(t, `mount -t tmpfs -o size=1m none ${small}`);
  const run = () =>
    sealift(['-c', world.configFile, 'doctor', '--json'], { cwd: world.dir, env: { TMPDIR: small } });
  const result = await run();
  assert.equal(result.status, 0);
  const [line, ...more] = linesOf(reportOf(result));
  assert.match(
    line ?? '',
    /^warning source j\/chat: it needs about 2\.9 MiB in .*small, which has .* left \| .*TMPDIR/,
  );
  assert.deepEqual(more, []);
  sealift.shell(`mount -o remount,size=8m ${small}`);
  assert.deepEqual(linesOf(reportOf(await run())), []);
});

const postgres = (change: object = {}) => {
  const { tcpHost: host, port, user, password } = theService('postgres');
  return { name: 'xmpp', kind: 'postgres', host, port, user, password, ...change };
};
const jobOf = (...sources: object[]) => ({ db: { schedule: every2h, sources } });

const keysIn = async ({ bucket, client }: Awaited<ReturnType<typeof bucketStore>>): Promise<string[]> => {
  const { Versions = [], DeleteMarkers = [] } = await client.send(
    new ListObjectVersionsCommand({ Bucket: bucket }),
  );
  return [...Versions, ...DeleteMarkers].map(({ Key = '', VersionId = '' }) => `${Key} ${VersionId}`);
};

/** The real one would leave a daemon of Erlang's (epmd) behind on this machine. */
const noEjabberd = '/bin/false';

suite('databases', needs('postgres'), () => {
  test('server and tools are told with their versions; a wrong password is bad, and in no output', async (t) => {
    const world = await hostWithTree(t);
    const name = await freshDatabase();
    await psql(name, 'CREATE TABLE t (a int)');
    const unused = postgres({ databases: [name], excludeTables: ['nothing'] });
    const gone = postgres({ name: 'gone', databases: [name, 'nowhere'], globals: false });
    world.setJobs(jobOf(unused, postgres({ name: 'denied', password: 'the-canary' }), gone));
    const { status, report, lines } = await examine(world);
    assert.equal(status, 3);
    const says = new RegExp(`postgres would save globals.sql, ${name}.dump; server \\d+.*, dumped by \\d+`);
    assert.match(goodOf(report, 'source'), says);
    assert.match(lines[0] ?? '', /^warning source db\/xmpp: the pattern nothing matches no table/);
    assert.match(lines[1] ?? '', /^bad source db\/denied: .*password authentication failed.* \| .*pg_hba/);
    assert.match(lines[2] ?? '', /^bad source db\/gone: nowhere\.dump: there is no database "nowhere" \| $/);
    assert.equal(lines.length, 3);
    assert.doesNotMatch(JSON.stringify(report), /canary/);
  });

  test('a server on another machine without tls is a warning, also behind a chat server', async (t) => {
    const world = await hostWithTree(t);
    // Reached here, but no name for this machine.
    const away = { kind: 'mysql', host: '0.0.0.0', port: 1 };
    const behind = { kind: 'postgres', host: '0.0.0.0', port: 1, tls: { ca: 'ca.pem' } };
    world.setJobs(
      jobOf(
        { name: 'web', ...away },
        { name: 'chat', kind: 'prosody', database: away, config: world.dir },
        { name: 'safe', ...behind },
      ),
    );
    const { lines } = await examine(world);
    const said = lines.filter((line) => line.includes('without encryption'));
    assert.match(
      said[0] ?? '',
      /^warning source db\/web: the connection to 0\.0\.0\.0 .* \| tls: \{ ca: PATH \}/,
    );
    assert.match(said[1] ?? '', /^warning source db\/chat: /);
    assert.equal(said.length, 2);
  });

  test('a chat server that keeps its accounts in an SQL server which no source saves is a warning', async (t) => {
    const world = await hostWithTree(t);
    const etc = join(world.dir, 'etc');
    for (const folder of ['prosody/conf.d', 'ejabberd']) mkdirSync(join(etc, folder), { recursive: true });
    put(join(etc, 'prosody/prosody.cfg.lua'), '--sql = { driver = "MySQL" }\nInclude "conf.d/*.cfg.lua"\n');
    put(join(etc, 'prosody/conf.d/b.cfg.lua'), 'sql = { driver = "PostgreSQL", database = "xmpp" }\n');
    put(
      join(etc, 'ejabberd/ejabberd.yml'),
      '# sql_type: pgsql\nhost_config:\n  b.example:\n    sql_type: mysql\n',
    );
    const prosody = { kind: 'prosody', config: join(etc, 'prosody'), data: join(etc, 'prosody') };
    const ejabberd = {
      kind: 'ejabberd',
      ejabberdctl: noEjabberd,
      config: join(etc, 'ejabberd'),
      data: join(etc, 'ejabberd'),
    };
    const said = async (...sources: object[]) => {
      world.setJobs(jobOf(...sources));
      return (await examine(world)).lines.filter((line) => line.includes('is configured to use'));
    };
    const [first, second, ...more] = await said({ name: 'a', ...prosody }, { name: 'b', ...ejabberd });
    assert.match(first ?? '', /^warning source db\/a: prosody .* of kind postgres \| .*kind: postgres/);
    assert.match(second ?? '', /^warning source db\/b: ejabberd .* of kind mysql \| .*kind: mysql/);
    assert.deepEqual(more, []);
    const away = { kind: 'mysql', host: '127.0.0.1', port: 1 };
    const other = await said({ name: 'a', ...prosody }, { name: 'b', ...ejabberd, database: away });
    assert.equal(other.length, 1, 'of two servers one is saved');
    assert.deepEqual(await said(postgres(), { name: 'a', ...prosody }), [], 'by another source');
  });

  test('a SQLite database of a chat server that lies elsewhere and which no source saves is a warning', async (t) => {
    const world = await hostWithTree(t);
    const etc = join(world.dir, 'etc');
    mkdirSync(join(etc, 'conf.d'), { recursive: true });
    const away = join(world.dir, 'away.sqlite');
    put(join(etc, 'prosody.cfg.lua'), `-- ${sql('/old.sqlite')}${sql(away)}`);
    put(join(etc, 'conf.d/b.cfg.lua'), `${sql('prosody.sqlite')}${sql(join(etc, 'data.sqlite'))}`);
    put(
      join(etc, 'ejabberd.yml'),
      `# sql_database: /old.db\nsql_type: sqlite\nsql_database: "${away}"\nhost_config:\n  b.example:\n    sql_database: xmpp\n`,
    );
    const folders = { config: etc, data: etc };
    const prosody = { name: 'p', kind: 'prosody', ...folders };
    const ejabberd = { name: 'e', kind: 'ejabberd', ejabberdctl: noEjabberd, ...folders };
    const said = async (...sources: object[]) => {
      world.setJobs(jobOf(...sources));
      return (await examine(world)).lines.filter((line) => line.includes('is configured to use'));
    };
    const warning = (source: string, kind: string) =>
      `warning source db/${source}: ${kind} is configured to use the SQLite database ${away}, which no source saves | add to this source, if it is so: database: { kind: sqlite, path: ${away} }`;
    assert.deepEqual(await said(prosody, ejabberd), [warning('p', 'prosody'), warning('e', 'ejabberd')]);
    const database = { kind: 'sqlite', path: away };
    assert.deepEqual(await said(prosody, { ...ejabberd, database }), []);
    assert.deepEqual(await said(prosody, { name: 'accounts', ...database }), []);
  });

  test('what a chat server is configured to use is told from comments, however it is written', async (t) => {
    const world = await hostWithTree(t);
    const kindsNamed = async (kind: 'prosody' | 'ejabberd', text: string): Promise<string[]> => {
      const config = mkdtempSync(join(world.dir, kind));
      put(join(config, kind === 'prosody' ? 'prosody.cfg.lua' : 'ejabberd.yml'), text);
      const ejabberdctl = kind === 'ejabberd' ? noEjabberd : undefined;
      world.setJobs(jobOf({ name: 'a', kind, ejabberdctl, config, data: config }));
      return (await examine(world)).lines.flatMap(
        (line) => /is configured to use .* of kind (\w+) /.exec(line)?.[1] ?? [],
      );
    };
    const prosody = [
      ['--[[\nsql = { driver = "MySQL", database = "prosody" }\n]]\nstorage = "internal"\n', []],
      ['--[==[ ]]\nsql = { driver = "MySQL" }\n]==]\nsql = { driver = "PostgreSQL" }\n', ['postgres']],
      ['sql = { driver = "SQLite3" } -- or sql = { driver = "MySQL" }\n', []],
      ['sql = { password = "a--b\\"--", driver = "MySQL" }\n', ['mysql']],
      ['sql = {\r\n\tdriver = \'PostgreSQL\'; -- or "MySQL"\r\n}\r\n', ['postgres']],
    ] as const;
    for (const [text, kinds] of prosody) assert.deepEqual(await kindsNamed('prosody', text), kinds, text);
    const ejabberd = [
      ['host_config: {a.example: {auth_method: sql, sql_type: mysql}}\n', ['mysql']],
      ['{"hosts": ["a.example"], "sql_type": "pgsql"}\n', ['postgres']],
      ['sql_type : pgsql\n', ['postgres']],
      ['loglevel: info # sql_type: mysql\n## sql_type: pgsql\nsql_type: sqlite\n', []],
      ['define_macro:\n  STORE:\n    sql_password: "a#b"\n    sql_type: pgsql # mysql\n', ['postgres']],
    ] as const;
    for (const [text, kinds] of ejabberd) assert.deepEqual(await kindsNamed('ejabberd', text), kinds, text);
  });

  test('the configuration of a chat server is looked through where its links lead, and each folder once', async (t) => {
    const world = await hostWithTree(t);
    const config = join(world.dir, 'etc/prosody');
    mkdirSync(join(config, 'certs'), { recursive: true });
    mkdirSync(join(world.dir, 'elsewhere'));
    put(join(world.dir, 'elsewhere/b.cfg.lua'), 'sql = { driver = "PostgreSQL" }\n');
    symlinkSync('../../elsewhere', join(config, 'conf.d'));
    for (const name of ['here', 'there']) symlinkSync('..', join(config, 'certs', name));
    execFileSync('mkfifo', [join(config, 'pipe.lua')]);
    world.setJobs(jobOf({ name: 'a', kind: 'prosody', config, data: config }));
    const args = ['--signal=KILL', '30', launcher, '-c', world.configFile, 'doctor', '--json'];
    const result = await sealift(args, { cwd: world.dir, program: '/usr/bin/timeout' });
    assert.ok([0, 3].includes(result.status ?? -1), 'it comes to an end');
    assert.match(linesOf(reportOf(result)).join('\n'), /is configured to use an SQL server/);
  });

  test(
    'a dump tool that is missing or too old is bad, with the package to install',
    needsMounts,
    async (t) => {
      const world = await hostWithTree(t);
      const bin = join(world.dir, 'bin');
      mkdirSync(bin);
      copyFileSync(join(theService('postgres').binDir, 'psql'), join(bin, 'psql'));
      symlinkSync(process.execPath, join(bin, 'node'));
      for (const tool of ['sh', 'dirname', 'readlink']) symlinkSync(`/usr/bin/${tool}`, join(bin, tool));
      const sealift = await underMounts(t, 'mount -t tmpfs none /usr/lib/postgresql');
      world.setJobs(jobOf(postgres()));
      const doctor = async () => {
        const args = ['-c', world.configFile, 'doctor', '--json'];
        return linesOf(reportOf(await sealift(args, { cwd: world.dir, env: { PATH: bin } }))).join('\n');
      };
      assert.match(await doctor(), /^bad source db\/xmpp: pg_dump is not installed \| apt-get install/);
      copyFileSync(join(import.meta.dirname, '../fixtures/bin/too-old'), join(bin, 'pg_dump'));
      assert.match(
        await doctor(),
        /^bad source db\/xmpp: .*newest pg_dump here is 9 \| apt-get install \S+-\d+/,
      );
    },
  );
});

/** A host whose login may do only this in a bucket of somebody else. */
async function withRights(t: TestContext, ...actions: string[]) {
  const place = await bucketStore();
  const { store, bucket, client } = place;
  const { world } = await hostWithSnapshot(t, { store });
  const Statement = [
    {
      Effect: 'Allow',
      Principal: { AWS: ['arn:aws:iam:::user/stranger'] },
      Action: actions,
      Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
    },
  ];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  setStore(world, { ...store, ...theService('s3').stranger });
  return { world, owner: () => setStore(world, store), keys: () => keysIn(place) };
}

suite('a bucket', needs('s3'), () => {
  test('with all rights is good once it has its rules; no version and no marker of the probe stays', async (t) => {
    const place = await bucketStore({ versioned: true });
    const { world } = await hostWithSnapshot(t, { store: place.store });
    const before = await keysIn(place);
    const first = await examine(world);
    assert.equal(first.status, 0);
    assert.match(first.lines.join('\n'), /^warning bucket h1: .*Run `sealift bucket apply`\. \| $/);
    await world.json('bucket', 'apply');
    const { report, lines } = await examine(world);
    assert.deepEqual(lines, []);
    assert.match(goodOf(report, 'bucket'), /its rules delete in time/);
    assert.deepEqual(await keysIn(place), before);
  });

  test('that may only be read is bad, and nothing was written', async (t) => {
    const { world, keys } = await withRights(t, 's3:ListBucket', 's3:GetObject');
    const before = await keys();
    const { status, lines } = await examine(world);
    assert.equal(status, 3);
    assert.match(
      lines[0] ?? '',
      /^bad store s3:.*: cannot write h1\/snap\/\S+-doctor-\S+ .*not allowed.* \| .*right/,
    );
    assert.equal(lines.filter((line) => line.startsWith('bad')).length, 1);
    assert.deepEqual(await keys(), before);
  });

  test('that takes uploads alone is good; the probe stays, and troubles neither readers nor pruners', async (t) => {
    const { world, owner, keys } = await withRights(t, 's3:ListBucket', 's3:GetObject', 's3:PutObject');
    const before = await keys();
    const { status, report, lines } = await examine(world);
    assert.equal(status, 0);
    assert.deepEqual(
      lines.filter((line) => !line.startsWith('warning bucket')),
      [],
    );
    assert.match(
      goodOf(report, 'store'),
      /may not delete, which protects.*the probe h1\/snap\/\S+ stays until prune/,
    );
    assert.equal((await keys()).length, before.length + 1);
    owner();
    await world.json('verify', '--all');
    const { snapshots } = await world.json<{ snapshots: unknown[] }>('list');
    assert.equal(snapshots.length, 1);
    const pruned = await world.json<{ objects: number; problems: unknown[] }>('prune');
    assert.deepEqual([pruned.objects, pruned.problems], [0, []], 'it is younger than the grace');
    await world.json('backup');
    const audit = await world.run('audit', '--json');
    const { findings } = JSON.parse(audit.stdout) as { findings: { rule: string }[] };
    // Of the bucket it has to say that Ceph counts every policy as public.
    assert.deepEqual(
      findings.filter(({ rule }) => rule !== 'bucket'),
      [],
    );
  });

  test('that overwrites objects is a warning', async (t) => {
    const place = await bucketStore();
    const world = await hostWithTree(t, { store: place.store });
    const before = await keysIn(place);
    const endpoint = await s3Proxy(t, async (exchange) => {
      delete exchange.headers['if-none-match'];
      sign(exchange.method, exchange.path, exchange.headers);
      exchange.answer(await exchange.ask());
    });
    setStore(world, { ...place.store, endpoint });
    const { status, lines } = await examine(world);
    assert.equal(status, 0);
    assert.match(lines.join('\n'), /^warning store .*: it lets an object be overwritten.* \| .*versions/);
    assert.deepEqual(await keysIn(place), before);
  });

  test('whose clock is another is a warning beyond minutes, and bad beyond an hour', async (t) => {
    const { store } = await bucketStore();
    const world = await hostWithTree(t, { store });
    for (const [minutes, exit, says] of [
      [10, 0, /^warning store .*: it says it is \S+, this machine \S+ \| set the clock/],
      [-65, 3, /^bad store .*: it says .*: backup and prune refuse to run \| set the clock/],
    ] as const) {
      setStore(world, { ...store, endpoint: await shiftedClock(t, minutes * 60_000) });
      const { status, lines } = await examine(world);
      assert.match(lines.join('\n'), says);
      assert.equal(status, exit);
    }
  });

  test('that locks objects for longer than they may live is bad', async (t) => {
    const { store } = await bucketStore();
    const { client } = await freshBucket();
    const bucket = `${store.bucket}-locked`;
    await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
    const world = await makeWorld(t, { jobs: {}, store: { ...store, bucket } });
    const DefaultRetention = { Mode: 'GOVERNANCE', Days: 30 } as const;
    const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention } } as const;
    await client.send(new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration }));
    const { status, report, lines } = await examine(world);
    assert.equal(status, 3);
    assert.match(lines.join('\n'), /^bad bucket default Object Lock: a lock of 30d keeps objects/m);
    assert.match(lines.join('\n'), /^warning config .*: it has no jobs/m);
    assert.match(
      goodOf(report, 'store'),
      /a lock holds new objects for a time; the probe \S+ stays until prune/,
    );
  });

  test('with a wrong key, or that is not there, is bad once', async (t) => {
    const { store } = await bucketStore();
    const world = await hostWithTree(t, { store });
    for (const [change, says] of [
      [{ secretAccessKey: 'the-canary' }, /credentials are missing or wrong.* \| .*store\.accessKeyId/],
      [{ bucket: 'no-such-bucket' }, /the bucket does not exist \| Create the bucket/],
      [{ endpoint: 'http://127.0.0.1:1' }, /ECONNREFUSED.* \| Check store\.endpoint/],
    ] as const) {
      setStore(world, { ...store, ...change });
      const { status, report, lines } = await examine(world);
      assert.equal(status, 3);
      assert.match(lines.filter((line) => line.startsWith('bad store')).join('\n'), says);
      assert.equal(lines.filter((line) => line.startsWith('bad store')).length, 1);
      assert.doesNotMatch(JSON.stringify(report), /canary/);
    }
  });

  test('is left as it was when Ctrl-C comes while the probe is there', async (t) => {
    const place = await bucketStore();
    const world = await hostWithTree(t, { store: place.store });
    const before = await keysIn(place);
    const { promise: reading, resolve } = Promise.withResolvers<void>();
    const endpoint = await s3Proxy(t, async (exchange) => {
      if (exchange.method === 'GET' && /-doctor-[^?]*\.gpg(\?|$)/.test(exchange.path)) return resolve(); // no answer
      exchange.answer(await exchange.ask());
    });
    setStore(world, { ...place.store, endpoint });
    const child = spawn(launcher, ['-c', world.configFile, 'doctor'], {
      env: programEnv(world.dir),
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    await reading;
    assert.equal((await keysIn(place)).length, before.length + 1);
    child.kill('SIGINT');
    assert.equal(await ended, 130);
    assert.deepEqual(await keysIn(place), before);
  });
});

function setStore(world: World, store: object): void {
  const config = JSON.parse(readFileSync(world.configFile, 'utf8')) as object;
  writeFileSync(world.configFile, JSON.stringify({ ...config, store }));
}
