import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { temporary } from './support/temporary.ts';

const demo = fileURLToPath(new URL('../demo/demo.ts', import.meta.url));

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The folder that it kept. */
  readonly folder: string;
  readonly home: string;
}

/** Runs the demo as a stranger would, somewhere else, with an empty home and a temporary folder of its own. */
async function runDemo(t: TestContext, env: Record<string, string> = {}): Promise<Run> {
  const home = temporary(t);
  const child = spawn(process.execPath, [demo], {
    cwd: home,
    env: { PATH: process.env['PATH'], HOME: home, TMPDIR: tmpdir(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const [stdout, stderr, status] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  const folder = /(?:^ {2}| is in )(\/.*sealift-demo-\w{6})$/m.exec(stderr + stdout)?.[1] ?? '';
  t.after(() => folder !== '' && rmSync(folder, { recursive: true, force: true }));
  return { status, stdout, stderr, folder, home };
}

test('the demo runs to its end and says what it proved', async (t) => {
  const { status, stdout, stderr, folder, home } = await runDemo(t);
  assert.equal(status, 0, stdout + stderr);
  assert.equal(stderr, '');
  const facts = [
    /^jabber1\$ sealift backup$/m,
    /^20\d{6}T\d{6}Z-databases-[a-z2-7]{6} +complete/m,
    /^auditor\$ sealift verify --all --read-data\nverified +4 snapshots/m,
    /^✓ all 3,000 accounts and 30,300 messages are the same, row by row$/m,
    /^✓ all \d+ files, folders and links are the same/m,
    /^✓ 30,000 messages, those of the first backup/m,
    /^ {2}gpgv .*--keyring restore-kit\/host\.gpg/m,
  ];
  const byHand = [
    /^✓ gpgv: Good signature from "sealift host jabber1"$/m,
    /^✓ what they unpacked is identical to etc\//m,
  ];
  for (const fact of [...facts, ...(hasGpg() ? byHand : [/Not tried here/])]) assert.match(stdout, fact);
  assert.match(
    stdout.replaceAll(/\s+/g, ' '),
    /All \d+ MiB of the database were read again, but only the pieces that had changed were stored: [\d.]+ [KM]iB/,
  );
  assert.equal(stripVTControlCharacters(stdout), stdout, 'colours are for terminals');
  assert.deepEqual(readdirSync(home), [], 'nothing is written to the home of whoever watches');
  const remembered = readdirSync(join(folder, '.home/state/sealift'));
  assert.match(remembered.join(), /^audit-\w+\.json$/, 'nor to the state of backups that its machine makes');
  assert.ok(statSync(join(folder, 'store')).isDirectory(), 'the folder stays');
  assert.deepEqual(
    commandLines().filter((line) => line.includes(folder)),
    [],
    'no agent is left',
  );
});

test('a demo that fails says so', async (t) => {
  const { status, stderr, folder } = await runDemo(t, { PATH: '/nowhere' });
  assert.equal(status, 1);
  assert.match(stderr, /sealift/);
  assert.match(stderr, /^What was made so far is in /m);
  assert.ok(existsSync(folder));
});

/** Of all processes, where the system tells. */
function commandLines(): string[] {
  if (!existsSync('/proc/self/cmdline')) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((id) => {
      try {
        return readFileSync(`/proc/${id}/cmdline`, 'utf8');
      } catch {
        return ''; // it has ended meanwhile
      }
    });
}

function hasGpg(): boolean {
  try {
    for (const tool of ['gpg', 'gpgv', 'zstd', 'jq']) execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
