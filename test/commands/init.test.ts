import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { S3Config } from '../../src/config/config.ts';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { loadTrust } from '../../src/seal/trust.ts';
import { openState } from '../../src/state.ts';
import { runInProcess } from '../support/in-process.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

const first = ['init', '--host', 'web', '--store', '/backups', '--state-dir', 'state'];

/** Every file below a folder, with its content. */
function snapshotOf(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    files.map(({ parentPath, name }) => [
      join(parentPath, name),
      readFileSync(join(parentPath, name), 'latin1'),
    ]),
  );
}

test('the first init makes everything that a host needs, and says so', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'ada.asc'), (await makeKey()).publicKey.armor());
  const { status, stdout, stderr } = await runInProcess([...first, '--recipient', 'ada.asc'], { cwd });
  assert.equal(status, 0, stderr);
  for (const name of [
    'sealift.yaml',
    'state/host-secret',
    'state/host-key.asc',
    'keys/hosts/web.asc',
    'keys/recipients/ada.asc',
    'restore-kit/sealift.yaml',
    'restore-kit/hosts/web.asc',
    'restore-kit/host.gpg',
    'restore-kit/RESTORE.md',
  ]) {
    assert.ok(existsSync(join(cwd, name)), name);
  }
  assert.match(stdout, /Host key of web\n {2}([0-9A-F]{4} ){9}[0-9A-F]{4}\n/);
});

for (const store of [
  '/back: "ups" #1',
  's3://aws?region=eu-central-1',
  's3://backups/jabber/?endpoint=https://s3.example&region=eu',
])
  test(`the configuration of the kit reads ${store}, and trusts the host alone`, async (t) => {
    const cwd = temporary(t);
    const { status, stderr } = await runInProcess(
      ['init', '--host', 'web', '--store', store, '--state-dir', 'state'],
      { cwd },
    );
    assert.equal(status, 0, stderr);
    const kit = loadConfig(undefined, environment({}, join(cwd, 'restore-kit')));
    assert.deepEqual(kit.store, loadConfig(undefined, environment({}, cwd)).store);
    assert.equal(kit.host, undefined);
    assert.deepEqual([...(await loadTrust(kit.hosts)).keys()], ['web']);
  });

test('what init writes is a valid configuration that trusts its own host and opens its own state', async (t) => {
  const cwd = temporary(t);
  const { stdout } = await runInProcess([...first, '--json'], { cwd });
  const { fingerprint } = JSON.parse(stdout) as { fingerprint: string };
  const config = loadConfig(undefined, environment({}, cwd));
  assert.equal(config.host, 'web');
  assert.deepEqual(config.store, { kind: 'directory', path: '/backups' });
  const trust = await loadTrust(config.hosts);
  assert.equal(trust.get('web')?.[0]?.getFingerprint().toUpperCase(), fingerprint);
  const state = await openState(config.stateDir);
  assert.equal(state.hostSecret.length, 32);
  assert.equal(statSync(config.stateDir).mode & 0o777, 0o700);
});

test('the examples in the new configuration are valid once their # is gone', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const text = readFileSync(join(cwd, 'sealift.yaml'), 'utf8');
  const [head = '', examples = ''] = text.split(/(?<=^jobs:\n)/m);
  put(join(cwd, 'sealift.yaml'), head + examples.replaceAll(/^#/gm, ''));
  const config = loadConfig(undefined, environment({}, cwd));
  assert.deepEqual(
    config.jobs.map(({ name }) => name),
    ['databases', 'system'],
  );
});

test('a second init changes nothing and prints the same fingerprint', async (t) => {
  const cwd = temporary(t);
  const one = await runInProcess([...first, '--json'], { cwd });
  const before = snapshotOf(cwd);
  const two = await runInProcess(['init', '--json'], { cwd });
  assert.deepEqual(snapshotOf(cwd), before);
  const [a, b] = [one, two].map(
    ({ stdout }) => JSON.parse(stdout) as { fingerprint: string; created: string[] },
  );
  assert.equal(a?.fingerprint, b?.fingerprint);
  assert.deepEqual(b?.created, []);
});

test('init makes what is missing beside what is there', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const before = snapshotOf(cwd);
  for (const name of ['restore-kit', 'keys']) rmSync(join(cwd, name), { recursive: true });
  await runInProcess(['init'], { cwd });
  assert.deepEqual(snapshotOf(cwd), before);
});

test('a configuration that is there is kept to the byte, --store or not', async (t) => {
  const cwd = temporary(t);
  const text = '# mine\nhost: web\nstateDir: s\nstore: { kind: directory, path: /mine }\n';
  put(join(cwd, 'sealift.yaml'), text);
  const { status, stderr } = await runInProcess(['init', '--host', 'web', '--store', '/other'], { cwd });
  assert.equal(status, 0, stderr);
  assert.match(stderr, /--store is not used/);
  assert.equal(readFileSync(join(cwd, 'sealift.yaml'), 'utf8'), text);
});

test('with --config the file is written there, and everything else beside it', async (t) => {
  const cwd = temporary(t);
  const { status, stderr } = await runInProcess([...first, '-c', 'etc/backup.yaml'], { cwd });
  assert.equal(status, 0, stderr);
  assert.deepEqual(readdirSync(join(cwd, 'etc')).toSorted(), ['backup.yaml', 'keys', 'restore-kit']);
});

test('gpgv reads the keyring of the restore kit', async (t) => {
  const cwd = temporary(t);
  const { stdout } = await runInProcess([...first, '--json'], { cwd });
  const { fingerprint } = JSON.parse(stdout) as { fingerprint: string };
  const listing = execFileSync(
    'gpg',
    ['--homedir', cwd, '--batch', '--with-colons', '--show-keys', join(cwd, 'restore-kit/host.gpg')],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  assert.match(listing.toString(), new RegExp(`^fpr:+${fingerprint}:`, 'm'));
});

test('the kit tells where the bucket is a part of the name of the server', async (t) => {
  const cwd = temporary(t);
  const endpoint = 'https://s3.example';
  put(
    join(cwd, 'sealift.yaml'),
    `host: web\nstateDir: state\nstore: { kind: s3, bucket: abc, endpoint: ${endpoint}, forcePathStyle: false }\n`,
  );
  const { status, stderr } = await runInProcess(['init'], { cwd });
  assert.equal(status, 0, stderr);
  assert.deepEqual(
    loadConfig(undefined, environment({}, join(cwd, 'restore-kit'))).store,
    loadConfig(undefined, environment({}, cwd)).store,
  );
  assert.match(readFileSync(join(cwd, 'restore-kit/RESTORE.md'), 'utf8'), /https:\/\/abc\.s3\.example'/);
});

test('a kit that was given what the store asks for is still that of this store', async (t) => {
  const cwd = temporary(t);
  await runInProcess(['init', '--host', 'web', '--store', 's3://abc/web', '--state-dir', 'state'], { cwd });
  const kit = join(cwd, 'restore-kit/sealift.yaml');
  const completed = readFileSync(kit, 'utf8').replaceAll(/# (accessKeyId|secretAccessKey)/g, '$1');
  put(kit, completed);
  const { status, stderr } = await runInProcess(['init'], { cwd });
  assert.equal(status, 0, stderr);
  assert.doesNotMatch(stderr, /another store/);
  assert.equal(readFileSync(kit, 'utf8'), completed);
});

test('the kit of an older host key is left alone, with a warning', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  rmSync(join(cwd, 'state'), { recursive: true });
  const before = snapshotOf(join(cwd, 'restore-kit'));
  const { status, stderr } = await runInProcess(['init'], { cwd });
  assert.equal(status, 0);
  assert.match(stderr, /restore-kit was made for another host key/);
  assert.deepEqual(snapshotOf(join(cwd, 'restore-kit')), before);
});

test('the state of another host is refused before a configuration is written', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const elsewhere = temporary(t);
  const args = ['init', '--host', 'mail', '--store', '/backups', '--state-dir'];
  const refused = await runInProcess([...args, join(cwd, 'state')], { cwd: elsewhere });
  assert.equal(refused.status, 12, refused.stderr);
  assert.deepEqual(readdirSync(elsewhere), []);
  assert.equal((await runInProcess([...args, 'state'], { cwd: elsewhere })).status, 0);
  const again = await runInProcess(['init', '--state-dir', 'other'], { cwd: elsewhere });
  assert.match(again.stderr, /--state-dir is not used: .*sealift\.yaml is there already/);
});

test('the kit of an older place of the store is left alone, with a warning', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const config = readFileSync(join(cwd, 'sealift.yaml'), 'utf8');
  const before = snapshotOf(join(cwd, 'restore-kit'));
  writeFileSync(join(cwd, 'sealift.yaml'), config.replace(/path: .*/, 'path: /elsewhere'));
  const { status, stderr } = await runInProcess(['init'], { cwd });
  assert.equal(status, 0, stderr);
  assert.match(stderr, /restore-kit was made for another store: move it away and run init again/);
  assert.deepEqual(snapshotOf(join(cwd, 'restore-kit')), before);
});

test('a kit whose configuration is no YAML any more is left alone, with a warning', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const kit = join(cwd, 'restore-kit/sealift.yaml');
  for (const text of ['store: *nowhere\n', 'store: {\n']) {
    put(kit, text);
    const { status, stderr } = await runInProcess(['init'], { cwd });
    assert.equal(status, 0, stderr);
    assert.match(stderr, /restore-kit was made for another store/);
    assert.equal(readFileSync(kit, 'utf8'), text);
  }
});

test('the key of a rebuilt host is pinned beside the old one', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  rmSync(join(cwd, 'state'), { recursive: true });
  const { stdout } = await runInProcess(['init', '--json'], { cwd });
  const { fingerprint } = JSON.parse(stdout) as { fingerprint: string };
  const keys = (await loadTrust([join(cwd, 'keys/hosts')])).get('web') ?? [];
  assert.equal(keys.length, 2);
  assert.ok(keys.some((key) => key.getFingerprint().toUpperCase() === fingerprint));
});

const stores: readonly [url: string, store: object][] = [
  ['s3://backups', { kind: 's3', bucket: 'backups', prefix: '', region: 'us-east-1', forcePathStyle: false }],
  ['s3://backups/', { bucket: 'backups', prefix: '' }],
  ['s3://backups/jabber', { bucket: 'backups', prefix: 'jabber/' }],
  ['s3://backups/a/b/', { bucket: 'backups', prefix: 'a/b/' }],
  [
    's3://backups/x?endpoint=https://fsn1.example.com&region=fsn1',
    { endpoint: 'https://fsn1.example.com', region: 'fsn1', prefix: 'x/', forcePathStyle: true },
  ],
  ['s3://123?endpoint=http://127.0.0.1:9000', { bucket: '123', endpoint: 'http://127.0.0.1:9000' }],
  ['directory:/mnt/back ups', { kind: 'directory', path: '/mnt/back ups' }],
  ['directory:/mnt/a: #b', { kind: 'directory', path: '/mnt/a: #b' }],
];

for (const [url, store] of stores) {
  test(`--store ${url} is understood`, async (t) => {
    const cwd = temporary(t);
    const { status, stderr } = await runInProcess(
      ['init', '--host', 'web', '--state-dir', 's', '--store', url],
      { cwd },
    );
    assert.equal(status, 0, stderr);
    const written = loadConfig(undefined, environment({}, cwd)).store as S3Config;
    assert.partialDeepStrictEqual(written, store);
  });
}

for (const name of ['state', 'keys'])
  test(`where something else is in the place of ${name}, this is told and no fault of the program`, async (t) => {
    const cwd = temporary(t);
    put(join(cwd, name), '');
    const { status, stderr } = await runInProcess(first, { cwd });
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`^error: the system refuses: .*'${cwd}/${name}`));
    assert.match(stderr, /^hint: look at this path/m);
  });

test('a relative --store starts at the current folder', async (t) => {
  const cwd = temporary(t);
  await runInProcess(['init', '--host', 'web', '--state-dir', 's', '--store', 'b'], { cwd });
  assert.deepEqual(loadConfig(undefined, environment({}, cwd)).store, {
    kind: 'directory',
    path: join(cwd, 'b'),
  });
});

const refusals: readonly [fact: string, args: string[], message: RegExp][] = [
  ['no host and no store', [], /--host NAME and --store URL/],
  ['no host', ['--store', '/b'], /init needs --host NAME\n.*never taken from the system/],
  ['no store', ['--host', 'web'], /init needs --store URL\n.*s3:\/\/BUCKET/],
  ['a host name with capitals', ['--host', 'Web', '--store', '/b'], /lower-case/],
  ['a store of an unknown scheme', ['--host', 'web', '--store', 'sftp://x/y'], /sftp: is no kind of store/],
  ['a bucket that is too short', ['--host', 'web', '--store', 's3://ab'], /bucket: must have at least 3/],
  ['a prefix with a stray %', ['--host', 'web', '--store', 's3://abc/100%'], /% that is not followed/],
  ['a store without a bucket', ['--host', 'web', '--store', 's3:///x'], /bucket is missing/],
  ['an endpoint that is no URL', ['--host', 'web', '--store', 's3://abc?endpoint=x'], /must be a URL/],
  ['an unknown parameter', ['--host', 'web', '--store', 's3://abc?regoin=x'], /"regoin" is not known/],
  ['keys in the URL', ['--host', 'web', '--store', 's3://k:geheim@abc'], /do not belong into a URL/],
  ['a prefix that the store could not hold', ['--host', 'web', '--store', 's3://abc/a b'], /prefix: must be/],
  ['a port beside the bucket', ['--host', 'web', '--store', 's3://minio.lan:9000/abc'], /\?endpoint=/],
  ['a # in the prefix', ['--host', 'web', '--store', 's3://abc/x#y'], /no part of a prefix/],
  [
    'two endpoints',
    ['--host', 'web', '--store', 's3://abc?endpoint=https://a&endpoint=https://b'],
    /endpoint stands there twice/,
  ],
  ['a home folder', ['--host', 'web', '--store', 'directory:~/b'], /does not replace ~ there/],
  [
    'a recipient that is not there',
    ['--host', 'web', '--store', '/b', '--recipient', 'x.asc'],
    /no such file/,
  ],
  [
    'a recipient of which nobody can tell whether it is there, as in a folder that may not be entered',
    ['--host', 'web', '--store', '/b', '--recipient', 'x'.repeat(300)],
    /--recipient .*: ENAMETOOLONG/,
  ],
];

for (const [fact, args, message] of refusals) {
  test(`refused before anything is written: ${fact}`, async (t) => {
    const cwd = temporary(t);
    const { status, stdout, stderr } = await runInProcess(['init', '--state-dir', 's', ...args], { cwd });
    assert.equal(status, 2);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /geheim/);
    assert.equal(stdout, '');
    assert.deepEqual(readdirSync(cwd), []);
  });
}

test('refused before anything is written: a private key as recipient', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'ada.asc'), (await makeKey()).privateKey.armor());
  const { status, stderr } = await runInProcess([...first, '--recipient', 'ada.asc'], { cwd });
  assert.equal(status, 12);
  assert.match(stderr, /PRIVATE/);
  assert.match(stderr, /^hint: nothing has been made yet; `gpg --armor --export/m);
  assert.deepEqual(readdirSync(cwd), ['ada.asc']);
});

test('a recipient whose file is hidden, or has no ending, gets a name under which it is found', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, '.ada.asc'), (await makeKey()).publicKey.armor());
  put(join(cwd, 'bob'), (await makeKey()).publicKey.armor());
  const { status, stdout, stderr } = await runInProcess(
    [...first, '--recipient', '.ada.asc', '--recipient', 'bob'],
    { cwd },
  );
  assert.equal(status, 0, stderr);
  assert.doesNotMatch(stdout, /no recipients/);
  assert.deepEqual(readdirSync(join(cwd, 'keys/recipients')).toSorted(), ['ada.asc', 'bob.asc']);
});

test('another recipient is never copied over one of the same file name', async (t) => {
  const cwd = temporary(t);
  mkdirSync(join(cwd, 'new'));
  put(join(cwd, 'ada.asc'), (await makeKey()).publicKey.armor());
  put(join(cwd, 'new/ada.asc'), (await makeKey()).publicKey.armor());
  await runInProcess([...first, '--recipient', 'ada.asc'], { cwd });
  assert.equal((await runInProcess(['init', '--recipient', 'ada.asc'], { cwd })).status, 0);
  const { status, stderr } = await runInProcess(['init', '--recipient', 'new/ada.asc'], { cwd });
  assert.equal(status, 2);
  assert.match(stderr, /not the same/);
});

test('a host keeps its name', async (t) => {
  const cwd = temporary(t);
  await runInProcess(first, { cwd });
  const { status, stderr } = await runInProcess(['init', '--host', 'mail'], { cwd });
  assert.equal(status, 2);
  assert.match(stderr, /says host: web/);
});

test('a configuration without a host is told which line is missing', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), 'stateDir: s\nstore: { kind: directory, path: /b }\n');
  const { status, stderr } = await runInProcess(['init', '--host', 'web'], { cwd });
  assert.equal(status, 2);
  assert.match(stderr, /add a line to it: host: web/);
});
