import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A folder that can become a disk which answers nothing, as that of a server that is away, and a folder again. */
export interface HangingDisk {
  readonly path: string;
  hang(): void;
  goOn(): void;
}

export function hangingDisk(t: TestContext): HangingDisk {
  const path = mkdtempSync(join(tmpdir(), 'sl-'));
  let end: (() => void) | undefined;
  const goOn = (): void => {
    end?.();
    end = undefined;
  };
  t.after(() => {
    goOn();
    rmSync(path, { recursive: true });
  });
  return { path, hang: () => (end = mountOver(path)), goOn };
}

/** A file system that nobody serves. Returns what ends it, and lets go whoever waits there. */
function mountOver(path: string): () => void {
  const kernel = openSync('/dev/fuse', 'r+');
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0';
  try {
    execFileSync('mount', ['-i', '-t', 'fuse', '-o', options, 'hangs', path], {
      stdio: ['ignore', 'ignore', 'ignore', kernel],
    });
  } catch (error) {
    closeSync(kernel);
    throw error;
  }
  return () => {
    closeSync(kernel);
    execFileSync('umount', ['--lazy', path]);
  };
}

export const needsHangingDisk: { skip: string | false } = (() => {
  const probe = mkdtempSync(join(tmpdir(), 'sl-'));
  try {
    mountOver(probe)();
    return { skip: false };
  } catch {
    return { skip: 'needs the right to mount, and FUSE' };
  } finally {
    rmSync(probe, { recursive: true });
  }
})();
