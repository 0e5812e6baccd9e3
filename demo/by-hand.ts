import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { demandSameTree, readTree, type Tree } from './compare.ts';
import { execute, shellWord } from './program.ts';
import type { Stage } from './stage.ts';

/**
 * How to open a snapshot with nothing of ours: prints the lines, and where the tools are there, runs these very lines.
 * They bring back the tree of the `system` job, for which one piece is to be opened; every further one would cost
 * gpg's agent another derivation of the key from the passphrase.
 */
export async function openByHand(stage: Stage, snapshot: string, wanted: Tree): Promise<void> {
  const { tell, laptop, server } = stage;
  const home = keyRing(laptop.folder);
  const lines = byHand({ folder: laptop.folder, home, snapshot });
  tell.heading('Without sealift');
  tell.say(`In ten years there may be no sealift, but there will be gpg and zstd. These lines bring etc/ back;
    restore-kit/RESTORE.md has more of this, for every kind of store. In bash:`);
  tell.verbatim(lines.map((line) => `  ${line}`).join('\n'));

  const missing = tools.filter((tool) => !installed(tool));
  if (missing.length > 0) {
    tell.say(`Not tried here: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not installed.`);
    return;
  }
  const said = await runLines(lines, home, stage);
  demandSameTree(wanted, readTree(join(laptop.folder, 'by-hand', server.folder, 'etc')));
  tell.say('The demo has run exactly these lines:');
  tell.proved(/^gpgv: Good signature from .*/m.exec(said)?.[0] ?? 'gpgv found the signature to be good');
  tell.proved(`what they unpacked is identical to etc/: content, mode, time, target`);
}

/** Resolves with what the tools said. The key ring goes, and its agent with it, however the lines end. */
async function runLines(lines: readonly string[], home: string, { env, signal }: Stage): Promise<string> {
  const script = ['set -euo pipefail', ...lines].join('\n');
  try {
    const { stderr } = await execute({ argv: ['bash', '-c', script], cwd: '/', env, output: 'pipe', signal });
    return stderr;
  } finally {
    await execute({
      argv: ['gpgconf', '--homedir', home, '--kill', 'all'],
      cwd: '/',
      env,
      output: 'pipe',
      signal: new AbortController().signal,
    });
    rmSync(home, { recursive: true, force: true });
  }
}

const tools = ['gpg', 'gpgv', 'gpgconf', 'zstd', 'jq', 'tar', 'diff', 'bash', 'sha256sum'];

function installed(tool: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Where the key ring goes. Its agent listens on a socket in it, and the path of a socket has at most 107 bytes. */
function keyRing(folder: string): string {
  const home = join(folder, 'gnupg');
  return home.length <= 80 ? home : mkdtempSync(join(tmpdir().length < 40 ? tmpdir() : '/tmp', 'g-'));
}

interface Place {
  readonly folder: string;
  readonly home: string;
  readonly snapshot: string;
}

function byHand({ folder, home, snapshot }: Place): string[] {
  return [
    `cd ${shellWord(folder)}`,
    `export GNUPGHOME=${home.startsWith(folder) ? `$PWD/${basename(home)}` : shellWord(home)} SNAP=../store/jabber1/snap`,
    'mkdir -p -m 700 "$GNUPGHOME"',
    'gpg --batch -q --import keys/ada-lovelace.key.asc',
    `gpgv -q --keyring restore-kit/host.gpg -o - \\`,
    `  $SNAP/${snapshot}/index.json.gpg > index.json`,
    `jq -r --arg snap $SNAP '.folders as $from | .streams[]`,
    `  | select(.name == "etc/files.tar") | .segments[]`,
    `  | "\\(.[3])  \\($snap)/\\($from[.[0]].snapshot)/s/\\(.[1]).zst.gpg"' \\`,
    '  index.json > pieces',
    'sha256sum --check --quiet pieces',
    'mkdir -p by-hand',
    'cut -c 67- pieces | xargs -n 1 gpg --batch -qd --pinentry-mode loopback \\',
    '  --passphrase-file passphrase | zstd -qd | tar -xpC by-hand',
    'diff -r --no-dereference by-hand restored/system/etc',
    'gpgconf --kill all; unset GNUPGHOME SNAP',
  ];
}
