import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import type { ProsodyConfig } from '../../src/config/config.ts';
import { SealiftError } from '../../src/errors.ts';
import { ejabberdSource } from '../../src/sources/ejabberd.ts';
import { openSource } from '../../src/sources/open.ts';
import { prosodySource } from '../../src/sources/prosody.ts';
import type { Source } from '../../src/sources/source.ts';
import { installProsody, prosodyNeeds } from '../services/prosody.ts';
import { temporary } from '../support/temporary.ts';
import { collect } from '../support/bytes.ts';
import { newRun } from './run.ts';

/** A machine with a Prosody; the names are full of characters that mean something in a glob. */
function makeServer(t: TestContext): { root: string; config: ProsodyConfig } {
  const root = join(temporary(t), 'a[b]{c,d}*?');
  const files = {
    'etc/prosody/prosody.cfg.lua': 'VirtualHost "localhost"',
    'etc/letsencrypt/archive/chat/fullchain1.pem': 'the certificate',
    'etc/letsencrypt/archive/chat/privkey1.pem': 'the key',
    'etc/default/prosody': 'A=1',
    'srv/acme/store/x1/key2.pem': 'another key',
    'srv/acme/store/x2/key.pem': 'nobody leads to this',
    'var/lib/prosody/localhost/accounts/alice.dat': 'return {}',
    'var/lib/prosody/localhost/accounts/bob.dat~': 'half of a new',
    'var/lib/prosody/localhost/offline/bob.list~': 'half of a new',
    'var/lib/prosody/localhost/http_file_share/slot.bin~': 'half of an upload',
    'var/lib/prosody/http_upload/random/notes.txt~': 'an upload of this name',
    'var/lib/prosody/http_file_share/cat.jpg': 'a picture',
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const link = (target: string, path: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    symlinkSync(target, join(root, path));
  };
  link('../../archive/chat/fullchain1.pem', 'etc/letsencrypt/live/chat/fullchain.pem');
  link('../../archive/chat/privkey1.pem', 'etc/letsencrypt/live/chat/privkey.pem');
  link(join(root, 'etc/letsencrypt/live/chat/fullchain.pem'), 'etc/prosody/certs/chat.crt');
  link('../../letsencrypt/live/chat', 'etc/prosody/certs/folder');
  link('../prosody.cfg.lua', 'etc/prosody/conf.d/same.cfg.lua');
  link('/nowhere/at/all', 'etc/prosody/conf.d/dangling.cfg.lua');
  link('../default/prosody', 'etc/prosody/defaults');
  // The way to this one leads through a link among folders, and two more that are nowhere in the configuration.
  link('../srv/acme', 'opt/acme');
  link('store/x1', 'srv/acme/current');
  link('key2.pem', 'srv/acme/store/x1/key.pem');
  link(join(root, 'opt/acme/current/key.pem'), 'etc/prosody/certs/acme.key');
  const config = {
    name: 'chat',
    kind: 'prosody',
    config: join(root, 'etc/prosody'),
    data: join(root, 'var/lib/prosody'),
    database: undefined,
    sqlitePaths: [],
  } as const;
  return { root, config };
}

async function membersOf(source: Source, root: string, run = newRun()): Promise<string[]> {
  const stream = (await source.streams(run)).find(({ kind }) => kind === 'files');
  assert.ok(stream);
  const tar = await collect(stream.open(run));
  const list = execFileSync('tar', ['-t', '--quoting-style=literal'], { input: tar, encoding: 'utf8' });
  const prefix = `${root.slice(1)}/`;
  return list
    .split('\n')
    .filter((name) => name !== '' && !name.endsWith('/'))
    .map((name) => name.replace(prefix, ''));
}

const never = (): Source => {
  throw new Error('there is no database');
};

test('configuration, what its links lead to, and data are one tree, without half-written files', async (t) => {
  const { root, config } = makeServer(t);
  assert.deepEqual(await membersOf(prosodySource(config, never), root), [
    'etc/default/prosody',
    'etc/letsencrypt/archive/chat/fullchain1.pem',
    'etc/letsencrypt/archive/chat/privkey1.pem',
    'etc/letsencrypt/live/chat/fullchain.pem',
    'etc/letsencrypt/live/chat/privkey.pem',
    'etc/prosody/certs/acme.key',
    'etc/prosody/certs/chat.crt',
    'etc/prosody/certs/folder',
    'etc/prosody/conf.d/dangling.cfg.lua',
    'etc/prosody/conf.d/same.cfg.lua',
    'etc/prosody/defaults',
    'etc/prosody/prosody.cfg.lua',
    'opt/acme',
    'srv/acme/current',
    'srv/acme/store/x1/key.pem',
    'srv/acme/store/x1/key2.pem',
    'var/lib/prosody/http_file_share/cat.jpg',
    'var/lib/prosody/http_upload/random/notes.txt~',
    'var/lib/prosody/localhost/accounts/alice.dat',
  ]);
});

test('every link of the configuration leads where it did, however many it goes through', async (t) => {
  const { root, config } = makeServer(t);
  const run = newRun();
  const [stream] = await prosodySource(config, never).streams(run);
  assert.deepEqual(stream!.lacks, []);
  const tar = await collect(stream!.open(run));
  const moved = `${root} moved`;
  renameSync(root, moved);
  execFileSync('tar', ['-xC', '/'], { input: tar });
  const contentOf = (path: string) => readFileSync(join(root, 'etc/prosody/certs', path), 'utf8');
  assert.equal(contentOf('chat.crt'), 'the certificate');
  assert.equal(contentOf('folder/privkey.pem'), 'the key');
  assert.equal(contentOf('acme.key'), 'another key');
  assert.deepEqual(
    run.problems.filter((problem) => problem.startsWith('unreadable')),
    [],
  );
});

test('uploads and hosts that were moved to a larger disk, with links in `data` that lead there, come back', async (t) => {
  const { root, config } = makeServer(t);
  const moves = [
    ['var/lib/prosody/http_file_share', 'srv/large/uploads'],
    ['var/lib/prosody/localhost', 'srv/large/localhost'],
    ['var/lib/prosody', 'srv/data'],
  ] as const;
  for (const [from, to] of moves) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    renameSync(join(root, from), join(root, to));
    symlinkSync(join(root, to), join(root, from));
  }
  const live = join(root, 'srv/large/uploads/live.sqlite');
  using db = new DatabaseSync(live);
  db.exec('CREATE TABLE a (b)');
  const run = newRun();
  const [stream] = await prosodySource(config, never).streams(run);
  assert.deepEqual(stream!.lacks, []);
  const tar = await collect(stream!.open(run));
  assert.deepEqual(
    run.problems.filter((problem) => problem.startsWith('unreadable')).map((problem) => problem.slice(0, 80)),
    [`unreadable: "${live}" is an SQLite`.slice(0, 80)],
  );
  renameSync(root, `${root} moved`);
  mkdirSync(config.data, { recursive: true }); // as the package lays it down
  execFileSync('tar', ['-xC', '/'], { input: tar });
  const contentOf = (path: string) => readFileSync(join(config.data, path), 'utf8');
  assert.equal(contentOf('http_file_share/cat.jpg'), 'a picture');
  assert.equal(contentOf('localhost/accounts/alice.dat'), 'return {}');
  assert.ok(!existsSync(live));
  assert.ok(!existsSync(join(config.data, 'localhost/accounts/bob.dat~')), 'half-written there, too');
});

test(
  'a link in `data` to what belongs to somebody else stays a link',
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const { root, config } = makeServer(t);
    chownSync(config.data, 65534, 65534);
    symlinkSync(join(root, 'srv/acme/store/x2'), join(config.data, 'plugins'));
    const members = await membersOf(prosodySource(config, never), root);
    assert.ok(members.includes('var/lib/prosody/plugins'));
    assert.ok(!members.includes('srv/acme/store/x2/key.pem'));
  },
);

test('a link in `data` to a folder with files that cannot be read does not keep the rest from being saved', async (t) => {
  const { root, config } = makeServer(t);
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  t.after(() => child.kill());
  symlinkSync(`/proc/${child.pid}`, join(config.data, 'uploads'));
  const members = await membersOf(prosodySource(config, never), root);
  assert.ok(members.includes('var/lib/prosody/localhost/accounts/alice.dat'));
});

test('a live SQLite database is never copied: named it is saved as what it is, unnamed it is a problem', async (t) => {
  const { root, config } = makeServer(t);
  const path = join(config.data, 'prosody.sqlite');
  const db = new DatabaseSync(path);
  t.after(() => db.close());
  db.exec('PRAGMA journal_mode = wal; CREATE TABLE prosody (host TEXT); INSERT INTO prosody VALUES (1)');

  const run = newRun();
  const unnamed = await membersOf(prosodySource(config, never), root, run);
  assert.deepEqual(
    unnamed.filter((name) => name.includes('sqlite')),
    [],
  );
  assert.ok(run.problems.some((problem) => /^unreadable: ".*prosody\.sqlite".*was left out/.test(problem)));

  const database = { name: 'chat', kind: 'sqlite', path } as const;
  const named = newRun();
  const source = prosodySource({ ...config, database, sqlitePaths: [path] }, openSource);
  assert.deepEqual(
    (await membersOf(source, root, named)).filter((name) => name.includes('sqlite')),
    [],
  );
  assert.deepEqual(
    named.problems.filter((problem) => problem.startsWith('unreadable')),
    [],
  );
  const streams = await source.streams(named);
  assert.deepEqual(
    streams.map(({ file, kind }) => [file, kind]),
    [
      ['prosody.tar', 'files'],
      ['prosody.sqlite', 'sqlite'],
    ],
  );
  const copy = join(root, 'copy.sqlite');
  writeFileSync(copy, await collect(streams[1]!.open(named)));
  using copied = new DatabaseSync(copy, { readOnly: true });
  assert.equal(copied.prepare('SELECT count(*) AS n FROM prosody').get()?.['n'], 1);
});

test('a database that a program writes is not copied wherever it lies in `data`, and an upload of one is', async (t) => {
  const { root, config } = makeServer(t);
  const names = ['deep/in/live.sqlite', 'http_file_share/upload.bin', 'deep/read.sqlite'];
  const [live, upload, read] = names.map((name) => join(config.data, name));
  for (const path of [live!, upload!, read!]) {
    mkdirSync(dirname(path), { recursive: true });
    using db = new DatabaseSync(path);
    db.exec('CREATE TABLE a (b)');
  }
  using _ = new DatabaseSync(live!);
  using reader = new DatabaseSync(read!, { readOnly: true });
  reader.prepare('SELECT * FROM a').all();
  const run = newRun();
  const members = await membersOf(prosodySource(config, never), root, run);
  assert.deepEqual(
    names.filter((name) => members.includes(`var/lib/prosody/${name}`)),
    names.slice(1),
  );
  assert.deepEqual(
    run.problems.filter((problem) => problem.startsWith('unreadable')).length,
    1,
    run.problems.join('\n'),
  );
  assert.match(run.problems.join('\n'), /^unreadable: ".*live\.sqlite" is an SQLite database/m);
});

test('a link in `data` to a database is saved, and what it leads to is missed unless a source saves it', async (t) => {
  const { root, config } = makeServer(t);
  const path = join(root, 'srv/elsewhere.sqlite');
  {
    using db = new DatabaseSync(path);
    db.exec('CREATE TABLE a (b)');
  }
  symlinkSync(path, join(config.data, 'prosody.sqlite'));
  for (const sqlitePaths of [[], [path], [join(config.data, 'prosody.sqlite')]]) {
    const run = newRun();
    const members = await membersOf(prosodySource({ ...config, sqlitePaths }, never), root, run);
    assert.ok(members.includes('var/lib/prosody/prosody.sqlite'));
    assert.deepEqual(
      run.problems.filter((problem) => problem.startsWith('unreadable')).length,
      sqlitePaths.length === 0 ? 1 : 0,
      run.problems.join('\n'),
    );
  }
});

test('a configuration that is named by its main file alone is saved so far, and what lies beside it is missed', async (t) => {
  const { root, config } = makeServer(t);
  const file = join(config.config, 'prosody.cfg.lua');
  const run = newRun();
  const members = await membersOf(prosodySource({ ...config, config: file }, never), root, run);
  assert.deepEqual(
    members.filter((path) => path.startsWith('etc/')),
    ['etc/prosody/prosody.cfg.lua'],
  );
  assert.deepEqual(
    run.problems.filter((problem) => problem.startsWith('unreadable')),
    [
      `unreadable: \`config\` is the file "${file}", and what lies beside it (hosts, certificates) is not saved: name its folder`,
    ],
  );
});

test('a database that cannot be asked is a problem, and the tree is saved', async (t) => {
  const { root, config } = makeServer(t);
  const database = { name: 'chat', kind: 'sqlite', path: join(config.data, 'gone.sqlite') } as const;
  const run = newRun();
  const members = await membersOf(prosodySource({ ...config, database }, openSource), root, run);
  assert.ok(members.includes('etc/prosody/prosody.cfg.lua'));
  assert.ok(run.problems.some((problem) => /^source-failed: there is no .*gone\.sqlite/.test(problem)));
});

test('a Prosody that keeps its data elsewhere than `data` is a problem', prosodyNeeds, async (t) => {
  const root = temporary(t);
  await using prosody = await installProsody(root, '');
  const main = join(prosody.config, 'prosody.cfg.lua');
  const elsewhere = join(root, 'srv/prosody');
  mkdirSync(elsewhere, { recursive: true });
  execFileSync('chown', ['prosody', elsewhere]);
  writeFileSync(main, readFileSync(main, 'utf8').replace(prosody.data, elsewhere));
  await prosody.ctl('register', 'alice', 'localhost', 'secret');
  const { PATH } = process.env;
  process.env['PATH'] = `${prosody.binDir}:${PATH}`;
  t.after(() => void (process.env['PATH'] = PATH));
  for (const data of [prosody.data, elsewhere]) {
    const run = newRun();
    const config = { name: 'chat', kind: 'prosody', config: prosody.config, data } as const;
    const source = prosodySource({ ...config, database: undefined, sqlitePaths: [] }, never);
    const members = await membersOf(source, root, run);
    const isThere = members.includes('srv/prosody/localhost/accounts/alice.dat');
    assert.equal(isThere, data === elsewhere, members.join('\n'));
    assert.deepEqual(
      run.problems,
      isThere
        ? []
        : [`unreadable: Prosody keeps its data in "${elsewhere}", which is not saved: \`data\` is "${data}"`],
    );
  }
});

test('the version of Prosody is told, whatever it misses before it tells that', async (t) => {
  const { root, config } = makeServer(t);
  const said = 'Prosody was unable to find lua-unbound\nThis package can be obtained\n\nProsody 0.12.3\n';
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'bin/prosodyctl'), `#!/bin/sh\ncat <<'END'\n${said}END\n`, { mode: 0o755 });
  const { PATH } = process.env;
  process.env['PATH'] = `${join(root, 'bin')}:${PATH}`;
  t.after(() => void (process.env['PATH'] = PATH));
  const run = newRun();
  await prosodySource(config, never).streams(run);
  assert.deepEqual(
    run.details.map(({ version }) => version),
    ['0.12.3'],
  );
});

test('a server of which nothing is there is an error', async (t) => {
  const gone = join(temporary(t), 'gone');
  const config = {
    name: 'chat',
    kind: 'prosody',
    config: gone,
    data: gone,
    database: undefined,
    sqlitePaths: [],
  } as const;
  await assert.rejects(prosodySource(config, never).streams(newRun()), (error: unknown) => {
    assert.ok(error instanceof SealiftError && error.code === 'source-unavailable');
    assert.doesNotMatch(error.hint ?? '', /`paths`/, 'a source of this kind has none');
    return true;
  });
});

test("of ejabberd's spool all is saved but what belongs to Mnesia or is made anew", async (t) => {
  const { root, config } = makeServer(t);
  for (const path of [
    'schema.DAT',
    'LATEST.LOG',
    'passwd.DCD',
    'roster.DCL',
    'ejabberd@chat/schema.DAT',
    'ejabberd@chat/DECISION_TAB.LOG',
    'ejabberd@chat/queue/q1',
    'ejabberd@chat/captcha.sh',
    'queue/q1',
    'translations.cache',
    'sealift-0123456789ab-x/mnesia.backup',
    'upload/4f/schema.DAT',
    'acme/live/chat.pem',
    '.erlang.cookie',
  ]) {
    mkdirSync(dirname(join(config.data, path)), { recursive: true });
    writeFileSync(join(config.data, path), path);
  }
  const run = newRun();
  const ejabberd = {
    ...config,
    kind: 'ejabberd',
    ejabberdctl: '/nowhere/ejabberdctl',
    node: undefined,
    runAs: undefined,
  } as const;
  const members = await membersOf(ejabberdSource(ejabberd, never), root, run);
  assert.deepEqual(
    members.filter((name) => name.startsWith('var/')).map((name) => name.replace('var/lib/prosody/', '')),
    [
      '.erlang.cookie',
      'acme/live/chat.pem',
      'ejabberd@chat/captcha.sh',
      'http_file_share/cat.jpg',
      'http_upload/random/notes.txt~',
      'localhost/accounts/alice.dat',
      'localhost/accounts/bob.dat~',
      'localhost/http_file_share/slot.bin~',
      'localhost/offline/bob.list~',
      'upload/4f/schema.DAT',
    ],
  );
  assert.ok(run.problems.some((problem) => problem.startsWith('source-failed: /nowhere/ejabberdctl is not')));
});
