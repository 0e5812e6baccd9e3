import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A new folder that goes away with the test. */
export function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sl-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes a file of the given mode, whatever the umask is. */
export function put(path: string, content: string | Uint8Array, mode = 0o644): string {
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}
