import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemUser } from '../../src/process.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld, type BackupSummary } from '../support/world.ts';
import { needsMounts, underMounts } from './bad-input.ts';
import { watched } from './watched.ts';

const canary = 'cAnArY:\\pass"word\'%';
const trace = /cAnArY/;
const jobOf = (...sources: object[]) => ({ j: { schedule: every2h, sources } });

test('a secret of a command is in that program alone', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  put(join(world.dir, 'secret'), `${canary}\n`, 0o600);
  // It tells whether it got the secret, and takes its time to be looked at.
  const shell = 'test ${#DB_PASSWORD} = 19; sleep 0.5; echo yes';
  const own = { kind: 'command', shell, file: 'secret-holder' };
  world.setJobs(
    jobOf(
      { name: 'plain', ...own, env: { DB_PASSWORD: canary } },
      { name: 'file', ...own, env: { DB_PASSWORD: { file: 'secret' } } },
      { name: 'env', ...own, env: { DB_PASSWORD: { env: 'SEALIFT_CANARY' } } },
      { name: 'other', kind: 'command', shell: 'sleep 0.5; env' },
      {
        name: 'fails',
        kind: 'command',
        shell: 'echo "$DB_PASSWORD" >&2; false',
        env: { DB_PASSWORD: canary },
      },
    ),
  );
  const env = { PATH: process.env['PATH'] ?? '', HOME: world.dir, SEALIFT_CANARY: canary };
  const holders = new Set<string>();
  const args = ['-c', world.configFile, '-v', '-v', '--json', 'backup'];
  const { status, stdout, stderr } = await watched(args, env, (started, self) => {
    assert.doesNotMatch(self.cmdline, trace);
    for (const { cmdline, environ } of started) {
      assert.doesNotMatch(cmdline, trace);
      if (trace.test(environ)) holders.add(cmdline);
    }
  });
  assert.equal(status, 3, stdout + stderr);
  assert.doesNotMatch(stdout + stderr, trace);
  assert.match(stderr, /\[redacted\]/);
  for (const argv of holders) assert.match(argv, /DB_PASSWORD|^sleep/, 'the three, and what they start');
  assert.ok(holders.size > 0, 'they were seen');

  const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
  assert.deepEqual(
    snapshots[0]?.problems.map(({ source, code }) => `${source} ${code}`),
    ['fails stream-failed'],
  );
  const restore = async (stream: string): Promise<string> => {
    const { status, stdout } = await world.start(
      'restore',
      '--source',
      stream,
      '--stdout',
      '--key',
      world.key,
    );
    assert.equal(status, 0);
    return stdout;
  };
  for (const source of ['plain', 'file', 'env'])
    assert.equal(await restore(`${source}/secret-holder`), 'yes\n');
  assert.doesNotMatch(await restore('other/output'), trace);
  const shown = await world.run('show', 'latest', '--files', '--key', world.key, '--json');
  assert.equal(shown.status, 0);
  assert.doesNotMatch(shown.stdout, trace);
  for (const folder of ['store', 'state', 'restore-kit', 'keys'])
    for (const entry of readdirSync(join(world.dir, folder), { recursive: true, withFileTypes: true }))
      if (entry.isFile())
        assert.doesNotMatch(readFileSync(join(entry.parentPath, entry.name), 'latin1'), trace, entry.name);
});

test('a command that hangs ends at its time limit, alone, and one that works is piped into its own restore', async (t) => {
  const world = await makeWorld(t, { jobs: {} });
  const good = { name: 'good', kind: 'command', shell: 'tar -c -C / etc/hostname', file: 'x.tar' };
  world.setJobs(
    jobOf(
      { name: 'slow', kind: 'command', argv: ['sleep', '600'], timeLimit: '1s' },
      { ...good, magic: 'etc/host' },
    ),
  );
  const { status, stdout } = await world.run('backup', '--json');
  assert.equal(status, 3);
  const { snapshots } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
  assert.equal(snapshots[0]?.problems.length, 1);
  assert.match(
    snapshots[0].problems[0]?.text ?? '',
    /^slow\/output: source slow took longer than its timeLimit of 1s/,
  );
  const line = `"${launcher}" -c ${world.configFile} restore --source good --stdout --key ${world.key} | tar -x -O`;
  const env = programEnv(world.dir);
  const back = execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', line], { env, encoding: 'utf8' });
  assert.equal(back, readFileSync('/etc/hostname', 'utf8'));
});

test(
  'of two users with one number, a command has the groups of the one that is named',
  needsMounts,
  async (t) => {
    const world = await makeWorld(t, { jobs: {} });
    const add = (file: string, line: string) =>
      put(join(world.dir, file), `${readFileSync(`/etc/${file}`, 'utf8').trimEnd()}\n${line}\n`);
    const { uid, gid } = await systemUser('nobody', AbortSignal.timeout(5000));
    add('passwd', `second:x:${uid}:${gid}::/:/bin/sh`);
    add('group', 'of-the-second:x:54321:second');
    const mounts = ['passwd', 'group'].map((file) => `mount --bind ${join(world.dir, file)} /etc/${file}`);
    const mounted = await underMounts(t, mounts.join('\n'));
    world.setJobs(jobOf({ name: 'who', kind: 'command', argv: ['id', '-G'], runAs: 'second' }));
    const run = (...args: string[]) => mounted(['-c', world.configFile, ...args], { cwd: world.dir });
    const saved = await run('backup');
    assert.equal(saved.status, 0, saved.stderr);
    const { stdout } = await run('restore', '--source', 'who', '--stdout', '--key', world.key);
    assert.equal(stdout, `${gid} 54321\n`);
  },
);
