import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, openSync, closeSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { draftName, removeAbandoned } from '../../src/sources/drafts.ts';
import { folderHandle } from '../../src/sources/folder-handle.ts';
import { put, temporary } from '../support/temporary.ts';

const ofProcess = (pid: number): string => draftName().replace(`-${process.pid}-`, `-${pid}-`);
const inMinutes = (minutes: number): number => Date.now() + minutes * 60_000;

test('of drafts in a folder those go whose process is gone, and those of nobody known once they are old', (t) => {
  const folder = temporary(t);
  const gone = ofProcess(spawnSync('true').pid);
  const running = [draftName(), ofProcess(process.ppid)];
  const elsewhere = draftName().replace(/^\.sealift-[0-9a-f]{12}/, '.sealift-0123456789ab');
  const former = `.sealift-${randomUUID()}`;
  const others = ['.sealift-mine', `a${gone}`, `${gone}a`];
  for (const name of [gone, ...running, elsewhere, former, ...others]) put(join(folder, name), 'x');
  const ofFolder = ofProcess(spawnSync('true').pid);
  mkdirSync(join(folder, ofFolder));

  const left = (nowMs?: number): Set<string> => {
    const fd = openSync(folder, 'r');
    removeAbandoned(folderHandle(fd, folder), nowMs);
    closeSync(fd);
    return new Set(readdirSync(folder));
  };
  assert.deepEqual(left(), new Set([...running, elsewhere, former, ...others, ofFolder]));
  assert.deepEqual(
    left(inMinutes(24 * 60 - 1)),
    new Set([...running, elsewhere, former, ...others, ofFolder]),
  );
  assert.deepEqual(left(inMinutes(24 * 60 + 1)), new Set([...running, ...others, ofFolder]));
});

test('a pipe in the place of the folder is not waited for', (t) => {
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const script = `import { draftIn } from '${join(import.meta.dirname, '../../src/sources/drafts.ts')}'; draftIn('${pipe}');`;
  const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    timeout: 10_000,
  });
  assert.deepEqual([status, signal], [0, null]);
});
