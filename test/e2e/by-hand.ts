import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { TestContext } from 'node:test';
import type { CliResult } from '../support/cli.ts';
import { freshGpg, type Gpg } from '../support/gpg.ts';
import { temporary } from '../support/temporary.ts';
import type { World } from '../support/world.ts';

/** What the guide asks for, and what every Linux machine has. */
const standard = ['cat', 'dirname', 'grep', 'ls', 'mkdir', 'rm', 'sed', 'sha256sum', 'sort', 'tail', 'tty'];
const tools = ['bash', 'gpg', 'gpgv', 'zstd', 'jq', 'curl', ...standard];

/** A person with the restore kit, the private key, a shell and nothing of ours. */
export interface Person {
  /** Holds `host.gpg`, and what the guide makes. */
  readonly folder: string;
  readonly gpg: Gpg;
  /** Pastes all code blocks of the guide into one bash, or what is made of them. */
  follow(
    env?: Record<string, string>,
    change?: (blocks: readonly string[]) => readonly string[],
  ): Promise<CliResult>;
  /** A stream that came back. */
  restored(stream: string): Buffer;
}

/** The ```bash blocks of a guide. */
const blocksOf = (guide: string): string[] =>
  [...guide.matchAll(/^```bash\r?\n(.*?)^```\r?$/gms)].map(([, block]) => block ?? '');

export function person(
  t: TestContext,
  world: World,
  key: string,
  { passphrase, guide: file }: { passphrase?: string; guide?: string } = {},
): Person {
  const dir = temporary(t);
  const bin = join(dir, 'bin');
  const folder = join(dir, 'empty');
  for (const path of [bin, folder]) mkdirSync(path);
  for (const tool of tools) symlinkSync(pathOf(tool), join(bin, tool));
  copyFileSync(join(world.dir, 'restore-kit/host.gpg'), join(folder, 'host.gpg'));
  const guide = readFileSync(file ?? join(world.dir, 'restore-kit/RESTORE.md'), 'utf8');

  const gpg = freshGpg(t);
  if (passphrase !== undefined) {
    // In place of the dialogue.
    writeFileSync(join(gpg.home, 'passphrase'), passphrase);
    const lines = ['batch', 'pinentry-mode loopback', `passphrase-file ${gpg.home}/passphrase`];
    writeFileSync(join(gpg.home, 'gpg.conf'), lines.join('\n'));
  }
  gpg.run(['--import', key]);
  return {
    folder,
    gpg,
    follow: (env = {}, change = (blocks) => blocks) =>
      bash(change(blocksOf(guide)).join('\n'), folder, { PATH: bin, GNUPGHOME: gpg.home, ...env }),
    restored: (stream) => readFileSync(join(folder, 'restored', stream)),
  };
}

async function bash(script: string, cwd: string, env: Record<string, string>): Promise<CliResult> {
  const child = spawn('/bin/bash', { cwd, env: { HOME: cwd, ...env } });
  // By its input, as when it is pasted; a shell that has stopped reads no more of it.
  child.stdin.on('error', () => undefined).end(script);
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.setEncoding('utf8').toArray(),
    child.stderr.setEncoding('utf8').toArray(),
    new Promise<number | null>((resolve) => child.on('close', resolve)),
  ]);
  return { status, stdout: stdout.join(''), stderr: stderr.join('') };
}

function pathOf(tool: string): string {
  const paths = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, tool));
  const found = paths.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${tool} is not installed`);
  return found;
}
