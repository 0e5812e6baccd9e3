import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { withoutServices } from '../services/services.ts';
import { describe as describeTree } from '../sources/tree-fixture.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { put, temporary } from '../support/temporary.ts';

const checkout = join(import.meta.dirname, '../..');
const run = promisify(execFile);
const skip = withoutServices && 'needs the npm registry, and SEALIFT_TEST_SERVICES=none';

/** `npm pack`, which builds first; the package lies alone in a new folder. */
async function pack(t: TestContext): Promise<string> {
  const folder = temporary(t);
  await run('npm', ['pack', '--pack-destination', folder], { cwd: checkout });
  const [name, ...more] = readdirSync(folder);
  assert.match(name ?? '', /^sealift-\d+\.\d+\.\d+.*\.tgz$/);
  assert.deepEqual(more, []);
  return join(folder, name ?? '');
}

const setting = async (name: string): Promise<string> =>
  (await run('npm', ['config', 'get', name], { cwd: checkout })).stdout.trim();

/**
 * The environment of somebody who never ran npm: an empty home. How this machine reaches the registry is kept, and
 * what was downloaded before.
 */
async function newcomer(t: TestContext): Promise<NodeJS.ProcessEnv> {
  const home = temporary(t);
  const cache = join(home, 'cache');
  mkdirSync(cache);
  symlinkSync(join(await setting('cache'), '_cacache'), join(cache, '_cacache'));
  const reach = /^npm_config_|_proxy$|^(node_extra_ca_certs|ssl_cert_\w+)$/i;
  const place = /prefix$|cache$|config$|init_module$|dir$/i;
  const kept = Object.entries(process.env).filter(([name]) => reach.test(name) && !place.test(name));
  return {
    ...Object.fromEntries(kept),
    PATH: process.env['PATH'],
    HOME: home,
    NPM_CONFIG_USERCONFIG: await setting('userconfig'),
    NPM_CONFIG_CACHE: cache,
  };
}

test(
  'the package, run by npx in an empty folder, backs up and restores',
  { skip, timeout: 600_000 },
  async (t) => {
    const file = await pack(t);
    const env = await newcomer(t);
    const dir = dirname(file);
    const npx = async (...args: string[]): Promise<string> =>
      (
        await run('npx', ['-y', '-p', 'node@24', '-p', `./${basename(file)}`, ...args], {
          cwd: dir,
          env,
          maxBuffer: 2 ** 26,
        })
      ).stdout;
    const sealift = (...args: string[]): Promise<string> =>
      npx('sealift', '-c', 'host/sealift.yaml', ...args);

    await t.test('the program that runs is the one of the package, on a Node.js of its own', async () => {
      const [program = '', version = ''] = (
        await npx('-c', 'readlink -f "$(command -v sealift)"; node --version')
      )
        .trim()
        .split('\n');
      assert.ok(
        program.endsWith('/node_modules/sealift/bin/sealift') && !program.startsWith(checkout),
        program,
      );
      assert.match(version, /^v24\./);
      const { version: own } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as {
        version: string;
      };
      assert.equal(await npx('sealift', '--version'), `${own}\n`);
    });

    await t.test('init, backup of a tree and a database, list, verify, restore', async () => {
      const tree = join(dir, 'tree');
      mkdirSync(join(tree, 'sub'), { recursive: true });
      put(join(tree, 'sub/blob'), pseudoRandom(7, 5_000_000));
      put(join(tree, 'text'), 'text\n', 0o600);
      using database = new DatabaseSync(join(dir, 'chat.db'));
      database.exec('CREATE TABLE message (body TEXT); INSERT INTO message VALUES (hex(randomblob(500000)))');

      await npx(
        'sealift',
        'keys',
        'generate',
        '--user-id',
        'Op <op@example.org>',
        '--out',
        'op',
        '--no-passphrase',
      );
      mkdirSync(join(dir, 'store'));
      mkdirSync(join(dir, 'host'));
      const setup = ['--host', 'h1', '--store', join(dir, 'store'), '--state-dir', join(dir, 'state')];
      await sealift('init', ...setup, '--recipient', 'op/op.pub.asc');
      const config = readFileSync(join(dir, 'host/sealift.yaml'), 'utf8').replace(/^jobs:[^]*/m, '');
      const sources = [
        { name: 'etc', kind: 'files', paths: ['../tree'] },
        { name: 'chat', kind: 'sqlite', path: '../chat.db' },
      ];
      const jobs = JSON.stringify({ all: { schedule: '0 */2 * * *', sources } });
      put(join(dir, 'host/sealift.yaml'), `${config}\njobs: ${jobs}\n`, 0o600);

      assert.match(await sealift('backup'), /-all-\w{6} {2}complete/);
      assert.match(await sealift('list'), /complete +etc chat/);
      assert.match(await sealift('verify', '--read-data', '--key', 'op/op.key.asc'), /^verified/m);
      await sealift('restore', '--to', 'out', '--key', 'op/op.key.asc');
      assert.deepEqual(describeTree(join(dir, 'out/etc', dir.slice(1), 'tree')), describeTree(tree));
      using restored = new DatabaseSync(join(dir, 'out/chat/chat.sqlite'), { readOnly: true });
      const query = 'SELECT * FROM message';
      assert.deepEqual(restored.prepare(query).all(), database.prepare(query).all());
    });
  },
);

test(
  'the package holds the built program and its documentation, no tests and no sources',
  { skip },
  async (t) => {
    const { stdout } = await run('tar', ['-tzf', await pack(t)]);
    const files = stdout
      .trim()
      .split('\n')
      .map((path) => path.replace(/^package\//, ''));
    const top = new Set(files.map((path) => path.split('/')[0] ?? ''));
    assert.deepEqual([...top].filter((name) => name !== 'README.md').toSorted(), [
      'LICENSE',
      'bin',
      'dist',
      'docs',
      'examples',
      'keys',
      'package.json',
    ]);
    assert.deepEqual(
      files.filter((path) => path.startsWith('bin/') || path.startsWith('keys/')),
      ['bin/sealift', 'keys/README.md'],
    );
    assert.deepEqual(
      files.filter((path) => /\.tsx?$|test/.test(path)),
      [],
    );
    const built = files.filter((path) => path.startsWith('dist/')).map((path) => path.slice('dist/'.length));
    // What is started by its name; the rest are the parts that these share.
    for (const name of ['main.js', 'worker.js', 'files-worker.js', 'sqlite-copy.js', 'LICENSES'])
      assert.ok(built.includes(name), name);
    assert.deepEqual(
      built.filter((name) => !/^[-\w]+\.js$/.test(name)),
      ['LICENSES'],
    );
    const leftBehind = readdirSync(checkout).filter((name) => name.endsWith('.tgz'));
    assert.deepEqual(leftBehind, []);
  },
);
