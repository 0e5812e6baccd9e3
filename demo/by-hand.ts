import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { demandSame } from './compare.ts';
import { readContent } from './chat-database.ts';
import { execute, shellWord } from './program.ts';
import type { Stage } from './stage.ts';

/**
 * How to open a snapshot with nothing of ours: prints the lines, and where the tools are there, runs these very lines.
 * They leave the key ring behind, for the reader to go on; the demo takes its own away.
 */
export async function openByHand(stage: Stage, snapshot: string, restored: string): Promise<void> {
  const { tell, laptop, env, signal } = stage;
  const home = keyRing(laptop.folder);
  const lines = byHand({ folder: laptop.folder, home, snapshot, restored });
  tell.heading('Without sealift');
  tell.say(`In ten years there may be no sealift, but there will be gpg and zstd. These lines bring the database back;
    restore-kit/RESTORE.md explains them, for every kind of store. In bash:`);
  tell.verbatim(lines.map((line) => `  ${line}`).join('\n'));

  const missing = tools.filter((tool) => !installed(tool));
  if (missing.length > 0) {
    tell.say(`Not tried here: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not installed.`);
    return;
  }
  const script = ['set -euo pipefail', ...lines].join('\n');
  try {
    await execute({ argv: ['bash', '-c', script], cwd: '/', env, stdout: 'pipe', signal });
  } finally {
    await endAgent(home, env);
    rmSync(home, { recursive: true, force: true });
  }
  demandSame(
    readContent(join(laptop.folder, restored)),
    readContent(join(laptop.folder, 'by-hand.sqlite')),
    'the database that was opened by hand',
  );
  tell.verbatim('The demo ran exactly these lines:');
  tell.proved('by-hand.sqlite is identical, byte for byte, to the database that sealift restored');
}

const tools = ['gpg', 'gpgv', 'gpgconf', 'zstd', 'jq', 'bash', 'sha256sum'];

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
  readonly restored: string;
}

function byHand({ folder, home, snapshot, restored }: Place): string[] {
  return [
    `cd ${shellWord(folder)}`,
    `export GNUPGHOME=${shellWord(home)} SNAP=../store/jabber1/snap`,
    'mkdir -p -m 700 "$GNUPGHOME"',
    'gpg --batch -q --import keys/ada-lovelace.key.asc',
    `gpgv -q --keyring restore-kit/host.gpg -o - \\`,
    `  $SNAP/${snapshot}/index.json.gpg > index.json`,
    `jq -r --arg snap $SNAP '.folders as $from | .streams[]`,
    `  | select(.name == "chat/ejabberd.sqlite") | .segments[]`,
    `  | "\\(.[3])  \\($snap)/\\($from[.[0]].snapshot)/s/\\(.[1]).zst.gpg"' index.json > pieces`,
    'sha256sum --check --quiet pieces',
    'cut -c 67- pieces | xargs -n 1 gpg --batch -qd --pinentry-mode loopback \\',
    '  --passphrase-file passphrase | zstd -qd > by-hand.sqlite',
    `cmp by-hand.sqlite ${restored}`,
    'gpgconf --kill all; unset GNUPGHOME SNAP',
  ];
}

/** The lines end it themselves, if none of them fails. */
async function endAgent(home: string, env: Stage['env']): Promise<void> {
  const argv = ['gpgconf', '--homedir', home, '--kill', 'all'] as const;
  await execute({ argv: [...argv], cwd: '/', env, stdout: 'pipe', signal: new AbortController().signal });
}
