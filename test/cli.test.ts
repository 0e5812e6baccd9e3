import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { checkoutLauncher, launcher, sealift } from './support/cli.ts';
import { put, temporary } from './support/temporary.ts';

test('--help names the commands and the exit codes, on stdout, and ends with 0', async (t) => {
  const { status, stdout, stderr } = await sealift(['--help'], { cwd: temporary(t) });
  assert.equal(status, 0);
  assert.equal(stderr, '');
  for (const word of ['init', 'keys', 'config', '--config', 'SEALIFT_CONFIG', 'Exit codes', '130']) {
    assert.ok(stdout.includes(word), word);
  }
});

test('the help of a command leads to nothing that is not on its page', async (t) => {
  for (const args of [['list'], ['keys', 'check']]) {
    const { stdout } = await sealift([...args, '--help'], { cwd: temporary(t) });
    assert.doesNotMatch(stdout, /see below|the same;/);
  }
});

test('the help of --quiet does not promise that a backup from cron prints nothing', async (t) => {
  const { stdout } = await sealift(['backup', '--help'], { cwd: temporary(t) });
  assert.match(stdout, /--quiet +log only warnings.*results\s+are printed/s);
});

test('--version prints the version alone', async (t) => {
  const { status, stdout } = await sealift(['--version'], { cwd: temporary(t) });
  assert.equal(status, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test('a working directory that is gone is told, in the form that was asked for', (t) => {
  const run = (...args: string[]) =>
    spawnSync('sh', ['-c', 'mkdir gone && cd gone && rmdir ../gone && exec "$0" "$@"', launcher, ...args], {
      cwd: temporary(t),
      encoding: 'utf8',
    });
  const told = run('list');
  assert.equal(told.status, 2);
  assert.match(
    told.stderr,
    /^error: the working directory is not there any more\nhint: cd to another one\n$/m,
  );
  assert.doesNotMatch(told.stderr, /^ +at /m);
  assert.equal((JSON.parse(run('list', '--json').stdout) as { code: string }).code, 'usage');
  assert.equal(run('--version').status, 0);
});

const misuse: readonly [fact: string, args: string[], stderr: RegExp][] = [
  ['no command', [], /^Usage: sealift/],
  ['no subcommand', ['keys'], /^Usage: sealift keys/],
  ['an unknown command is guessed', ['int'], /^error: unknown command 'int'\nhint: Did you mean init\?\n$/],
  [
    'an unknown option is guessed',
    ['init', '--hots', 'x'],
    /^error: unknown option '--hots'\nhint: .*--host\?/,
  ],
  ['an option without its value', ['init', '--host'], /^error: option '--host <name>' argument missing/],
  ['a required option is missing', ['keys', 'generate'], /^error: required option '--user-id <id>'/],
  ['an argument too many', ['config', 'check', 'x'], /^error: too many arguments/],
];

for (const [fact, args, expected] of misuse) {
  test(`bad usage ends with 2: ${fact}`, async (t) => {
    const { status, stdout, stderr } = await sealift(args, { cwd: temporary(t) });
    assert.equal(status, 2);
    assert.equal(stdout, '');
    assert.match(stderr, expected);
  });
}

test('with --json, an error is one document on stdout, bad usage too', async (t) => {
  const cwd = temporary(t);
  for (const [args, code] of [
    [['--json', 'config', 'check'], 'config-not-found'],
    [['config', 'check', '--json'], 'config-not-found'],
    [['nope', '--json'], 'usage'],
  ] as const) {
    const { status, stdout, stderr } = await sealift(args, { cwd });
    assert.equal(status, 2);
    assert.equal(stderr, '');
    const error = JSON.parse(stdout) as Record<string, string>;
    assert.equal(error['type'], 'error');
    assert.equal(error['code'], code);
    assert.ok(error['message'] && error['hint']);
  }
});

test('an error is a sentence and a hint, without a stack', async (t) => {
  const cwd = temporary(t);
  const { stderr } = await sealift(['config', 'check', '-c', 'x.yaml'], { cwd });
  assert.equal(
    stderr,
    `error: there is no configuration file ${join(cwd, 'x.yaml')}\nhint: \`sealift init\` writes one; \`--config FILE\` names another\n`,
  );
});

test('nobody reading the output is no failure', async (t) => {
  const cwd = temporary(t);
  const child = spawn(launcher, ['config', 'schema'], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  const [stderr, [status]] = await Promise.all([child.stderr.toArray(), once(child, 'close')]);
  assert.equal(Buffer.concat(stderr as Buffer[]).toString(), '');
  assert.equal(status, 0);
});

test('output that is no terminal has no colours', async (t) => {
  const { stdout } = await sealift(['--help'], { cwd: temporary(t), env: { FORCE_COLOR: '3' } });
  assert.ok(!stdout.includes('\u001B'));
});

test('the launcher works through links, from any folder, and with a name with spaces', async (t) => {
  const dir = join(temporary(t), 'a folder');
  mkdirSync(dir);
  symlinkSync(checkoutLauncher, join(dir, 'absolute link'));
  symlinkSync('absolute link', join(dir, 'relative'));
  symlinkSync(dir, `${dir}2`);
  for (const program of [join(dir, 'absolute link'), join(dir, 'relative'), `${dir}2/relative`]) {
    const { status, stdout, stderr } = await sealift(['--version'], { cwd: '/', program });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^\d/);
  }
});

/** A copy of the launcher in a folder like that of an installed package, whose program says what runs it. */
function packageFolder(t: TestContext): string {
  const root = join(temporary(t), 'lib/node_modules/sealift');
  mkdirSync(join(root, 'bin'), { recursive: true });
  mkdirSync(join(root, 'dist'));
  cpSync(launcher, join(root, 'bin/sealift'));
  put(join(root, 'dist/main.js'), 'console.log(JSON.stringify([process.argv.slice(2), process.execPath]))');
  return root;
}

/** A program called `node` that says it is of this version, and else runs the real one. */
function fakeNode(folder: string, version: string): string {
  mkdirSync(folder, { recursive: true });
  const script = `#!/bin/sh\n[ "$1" = --version ] && { echo ${version}; exit; }\necho "run by ${version}"\nexec '${process.execPath}' "$@"\n`;
  return put(join(folder, 'node'), script, 0o755);
}

const shellPath = ['sh', 'readlink', 'dirname', 'mkdir', 'rm']
  .map((name) => dirname(execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()))
  .join(':');

function launch(
  root: string,
  path: string,
  ...args: string[]
): { status: number | null; stdout: string; stderr: string } {
  // The shell's own folders come last: they may hold a node of any version.
  const env = { PATH: `${path}:${shellPath}` };
  const { status, stdout, stderr } = spawnSync(join(root, 'bin/sealift'), args, {
    env,
    encoding: 'utf8',
    cwd: '/',
  });
  return { status, stdout, stderr };
}

test('the launcher runs the built program of a package with the node of the PATH, arguments untouched', (t) => {
  const root = packageFolder(t);
  fakeNode(join(root, 'path'), 'v24.0.0');
  const { status, stdout } = launch(root, join(root, 'path'), 'a b', '', '*');
  assert.equal(status, 0);
  const [by, report = ''] = stdout.split('\n');
  assert.equal(by, 'run by v24.0.0');
  assert.deepEqual((JSON.parse(report) as unknown[])[0], ['a b', '', '*']);
});

for (const [place, folder] of [
  ['its own node_modules', 'node_modules/node/bin'],
  ['the node_modules it lies in', '../node/bin'],
] as const) {
  test(`with an old node on the PATH, the launcher takes the one from ${place}`, (t) => {
    const root = packageFolder(t);
    fakeNode(join(root, 'path'), 'v20.20.2');
    fakeNode(join(root, folder), 'v25.1.0');
    const { status, stdout } = launch(root, join(root, 'path'));
    assert.equal(status, 0);
    assert.match(stdout, /^run by v25\.1\.0\n/);
  });
}

test('with an old node on the PATH, as cron has it, the launcher takes the one beside the link that npm made', (t) => {
  const root = packageFolder(t);
  const bin = join(root, '../../../bin');
  fakeNode(join(root, 'path'), 'v20.20.2');
  fakeNode(bin, 'v24.1.0');
  symlinkSync(join(root, 'bin/sealift'), join(bin, 'sealift'));
  const { status, stdout } = launch(join(bin, '..'), join(root, 'path'));
  assert.equal(status, 0);
  assert.match(stdout, /^run by v24\.1\.0\n/);
});

test('what Node.js compiled is kept beside the program, for its owner alone', (t) => {
  const root = packageFolder(t);
  put(join(root, 'dist/main.js'), 'console.log(process.env.NODE_COMPILE_CACHE)');
  fakeNode(join(root, 'path'), 'v24.0.0');
  const folder = join(root, '.compiled');
  const cacheUsed = (): string | undefined => launch(root, join(root, 'path')).stdout.split('\n')[1];
  assert.equal(cacheUsed(), folder);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(readdirSync(folder).length, 1);
  if (process.getuid?.() !== 0) return;
  chownSync(folder, 65534, 65534);
  assert.equal(cacheUsed(), 'undefined', "another's could hold anything");
  rmSync(folder, { recursive: true });
  chownSync(root, 65534, 65534);
  assert.equal(cacheUsed(), 'undefined');
  assert.equal(existsSync(folder), false, 'they could not remove it');
});

test('what Node.js began to keep when the disk was full goes at the next start', (t) => {
  const root = packageFolder(t);
  fakeNode(join(root, 'path'), 'v24.0.0');
  const folder = join(root, '.compiled', 'v24.0.0-x64-0123abcd-0');
  const kept = ['0123abcd', 'notes.txt'];
  mkdirSync(folder, { recursive: true });
  for (const name of [...kept, '0123abcd.AbC123', '4567cdef.XyZ789']) put(join(folder, name), '');
  assert.equal(launch(root, join(root, 'path')).status, 0);
  assert.deepEqual(readdirSync(folder).toSorted(), kept);
});

test('with nothing but an old node, the launcher says what is needed and ends with 2', (t) => {
  const root = packageFolder(t);
  fakeNode(join(root, 'path'), 'v22.11.0');
  const { status, stdout, stderr } = launch(root, join(root, 'path'));
  assert.equal(status, 2);
  assert.equal(stdout, '');
  // No package of another's by our name is fetched from a registry.
  assert.equal(
    stderr,
    'error: sealift needs Node.js 24 or newer (found: v22.11.0)\nhint: npm install -g node@24\n',
  );
});
