import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync, mkdirSync, openSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { printFiles } from '../../src/commands/show-files.ts';
import { createOutput } from '../../src/output.ts';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { freshGpg } from '../support/gpg.ts';
import { resign } from '../support/resign.ts';
import { screenOf } from '../support/screen.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';
import { backup, treeSource } from './bad-input.ts';

const source = (name: string, shell: string) => ({ name, kind: 'command', shell, file: name });

test("what goes to systemd's journal is readable and has its priority, and what goes elsewhere is JSON", async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  world.setJobs({ j: { schedule: every2h, sources: [source('broken', 'false'), source('whole', 'echo')] } });
  const journal = join(world.dir, 'journal');
  const stderr = openSync(journal, 'w');
  const { dev, ino } = fstatSync(stderr);
  const heard = (stream: string, ...args: string[]): string => {
    const from = readFileSync(journal).length;
    const env = { ...programEnv(world.dir), JOURNAL_STREAM: stream };
    spawnSync(launcher, ['-c', world.configFile, ...args], { env, stdio: ['ignore', 'ignore', stderr] });
    return readFileSync(journal, 'utf8').slice(from);
  };
  assert.match(heard(`${dev}:${ino}`, 'backup'), /^<3>error: broken\/broken failed .* \(job=j .*\)\n$/);
  assert.match(heard(`${dev}:${ino}`, 'show', 'x'), /^<3>error: .*\n<3>hint: .*\n$/);
  // Another stream is the journal's, as of a program whose errors somebody has sent to a file.
  assert.match(heard(`${dev}:1`, 'backup'), /^\{"level":"error",.*\}\n$/);
});

test('what is logged while a bar is drawn stands on the terminal in lines of its own', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const sources = [
    source('slow', 'sleep 1.5; echo yes'),
    source('broken', 'false'),
    source('last', 'sleep 1.5; echo'),
  ];
  world.setJobs({ j: { schedule: every2h, sources } });
  const command = `${launcher} -c ${world.configFile} backup`;
  const env = { ...programEnv(world.dir), TERM: 'xterm', COLUMNS: '200' };
  const { stdout } = await promisify(execFile)('script', ['-qc', `stty cols 200; ${command}`, '/dev/null'], {
    env,
  });
  assert.match(stdout, /backing up j/, 'a bar was drawn');
  const lines = screenOf(stdout).filter((line) => line !== '');
  assert.match(lines[0] ?? '', /^[\d:]{8}Z error: broken\/broken failed and is not in the snapshot: [^·]*$/);
  assert.match(lines[1] ?? '', /^\d{8}T\d{6}Z-j-\w{6}  partial$/);
  assert.doesNotMatch(lines.join('\n'), /backing up/);
});

test('what a host signed or sealed does not steer the terminal of whoever looks at it', async (t) => {
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources: [treeSource] } } });
  mkdirSync(join(world.dir, 'tree'));
  symlinkSync('away\u001B[2J', join(world.dir, 'tree/link'));
  const id = await backup(world);
  const steered = /[^\P{Cc}\n]/u;
  const symlink = ['--include', 'link', '--stdout', '--key', world.key];
  const { status, stderr } = await world.run('restore', ...symlink);
  assert.equal(status, 2);
  assert.match(stderr, /It points to away\./);
  assert.doesNotMatch(stderr, steered);

  await resign(world, id, (text) => {
    const index = JSON.parse(text) as { streams: object[] };
    const [first, ...others] = index.streams;
    const streams = [{ ...first, kind: 'files\u001B[5m' }, ...others];
    const said = { schedule: '\u001B]0;a\u0007', timezone: '\u009B31m', tool: '\u001B[2J' };
    return JSON.stringify({ ...index, ...said, streams });
  });
  const shown = await world.run('show', id);
  assert.equal(shown.status, 0, shown.stderr);
  assert.doesNotMatch(shown.stdout, steered);

  await resign(world, id, () => JSON.stringify({ format: '\u009B2J' }));
  for (const command of [['verify', '--all'], ['status'], ['show', id]]) {
    const told = await world.run(...command);
    assert.match(told.stdout + told.stderr, /its format is/);
    assert.doesNotMatch(told.stdout + (command[0] === 'show' ? told.stderr : ''), steered, command.join(' '));
  }
});

async function* odd() {
  for (const value of [null, { toString: 1 }, [], true]) {
    const fields = ['stream', 'path', 'kind', 'size', 'mode', 'uid', 'gid', 'mtime', 'target'];
    yield Object.fromEntries(fields.map((field) => [field, value]));
  }
}

test('whatever the details say, a listing of files is text', async () => {
  let text = '';
  const output = createOutput({ write: (piece) => (text += piece), colour: false });
  const entry = { kind: 'file', mode: 0o644, size: 1, path: '/a\u001B[2J' };
  async function* entries() {
    yield {
      ...entry,
      stream: '\u001B[1m',
      uid: '\u001B[2J',
      gid: '\u001B[3J',
      mtime: '\u001B[4J',
      target: '\u009B',
    };
  }
  await printFiles(output, entries());
  await printFiles(output, odd());
  assert.doesNotMatch(text, /[^\P{Cc}\n]/u);
});

test('binary data does not go to a terminal, and text does', async (t) => {
  const sources = [source('text', 'echo plain'), source('binary', String.raw`printf '\033[31m\0'`)];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  assert.equal((await world.run('backup')).status, 0);
  const shown = (name: string) =>
    spawnSync(
      'script',
      [
        '-qec',
        `${launcher} -c ${world.configFile} restore --key ${world.key} --stdout --source ${name}`,
        '/dev/null',
      ],
      { env: { ...programEnv(world.dir), TERM: 'xterm' }, encoding: 'utf8' },
    );
  const text = shown('text');
  assert.deepEqual([text.status, text.stdout], [0, 'plain\r\n']);
  const binary = shown('binary');
  assert.equal(binary.status, 2);
  assert.match(binary.stdout, /^error: this is binary data, and standard output is a terminal\r\nhint: /);
});

test('while gpg may ask on the terminal, no bar is drawn there', async (t) => {
  const sources = [source('s', 'echo x')];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  assert.equal((await world.run('backup')).status, 0);
  const gpg = freshGpg(t);
  gpg.run(['--import', world.key]);
  const bin = join(world.dir, 'bin');
  mkdirSync(bin);
  const asks = `printf '<asks' > /dev/tty; sleep 2.5; printf 'asked>' > /dev/tty`;
  put(join(bin, 'gpg'), `#!/bin/sh\n${asks}\nPATH=\${PATH#*:} exec gpg "$@"\n`, 0o755);
  const command = `stty cols 200; ${launcher} -c ${world.configFile} restore --to out`;
  const { PATH, ...more } = programEnv(world.dir);
  const env = { ...more, PATH: `${bin}:${PATH}`, TERM: 'xterm', GNUPGHOME: gpg.home };
  const { stdout } = await promisify(execFile)('script', ['-qec', command, '/dev/null'], {
    env,
    cwd: world.dir,
  });
  assert.match(stdout, /<asksasked>/);
  assert.match(stdout, /restored/);
});

suite('a question', needs('postgres'), () => {
  test('stays on the terminal as long as it is not answered, and no bar takes its place', async (t) => {
    const { tcpHost, port, host, user: admin } = theService('postgres');
    const database = await freshDatabase();
    const user = `user_${database}`;
    await psql(
      'postgres',
      `CREATE ROLE ${user} LOGIN PASSWORD 'secret'; CREATE DATABASE ${user} OWNER ${user}`,
    );
    await psql(database, 'CREATE TABLE t AS SELECT 1 AS one');
    const pg = { name: 'pg', kind: 'postgres', databases: [database], globals: false, host, port };
    const world = await makeWorld(t, {
      jobs: { j: { schedule: every2h, sources: [{ ...pg, user: admin }] } },
    });
    assert.equal((await world.run('backup')).status, 0);

    const url = `postgres://${user}@${tcpHost}:${port}/${user}`;
    const command = `${launcher} -c ${world.configFile} restore --key ${world.key} --into ${url}`;
    const child = spawn('script', ['-qec', `stty cols 200; ${command}`, '/dev/null'], {
      env: { ...programEnv(world.dir), TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let sent = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (sent += text));
    while (!sent.includes('Password of')) await delay(20);
    await delay(2500);
    assert.equal(screenOf(sent).at(-1), 'Password of the database user:');
    child.stdin.end('secret\n');
    const [status] = (await once(child, 'close')) as [number];
    assert.equal(status, 0, sent);
    assert.match(screenOf(sent).join('\n'), /restored .*loaded/);
  });
});
