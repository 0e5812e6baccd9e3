import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

export interface Gpg {
  readonly home: string;
  /** Standard output; throws if gpg fails. */
  run(args: readonly string[], input?: Uint8Array): Buffer;
}

/** The machine's own gpg with a keyring of its own. Its path is short, because it holds the agent's socket. */
export function freshGpg(t: TestContext): Gpg {
  const home = mkdtempSync(join(tmpdir(), 'g-'));
  t.after(() => {
    spawnSync('gpgconf', ['--homedir', home, '--kill', 'all']);
    // The agent removes its sockets while it ends; rmSync stops without a word where a file goes under its hands.
    while (existsSync(home)) rmSync(home, { recursive: true, force: true });
  });
  return {
    home,
    run: (args, input) =>
      execFileSync('gpg', ['--homedir', home, '--batch', '--no-tty', '--quiet', ...args], {
        input,
        stdio: ['pipe', 'pipe', 'pipe'],
      }),
  };
}
