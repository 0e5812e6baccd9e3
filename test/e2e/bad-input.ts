import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher, sealift, type CliResult } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import {
  every2h,
  makeWorld,
  type BackupSummary,
  type Listing,
  type World,
  type WorldOptions,
} from '../support/world.ts';

export const treeSource = { name: 'tree', kind: 'files', paths: ['tree'] };
export const treeJob = { tree: { schedule: every2h, sources: [treeSource] } };

/** A host with one small tree and one snapshot of it. */
export async function hostWithSnapshot(
  t: TestContext,
  options: Partial<WorldOptions> = {},
): Promise<{ world: World; id: string; nothingLost: () => Promise<void> }> {
  const world = await makeWorld(t, { jobs: treeJob, ...options });
  const file = join(world.dir, 'tree/file');
  mkdirSync(join(world.dir, 'tree'));
  const bytes = pseudoRandom(1, 700_000);
  put(file, bytes);
  const id = await backup(world);
  return { world, id, nothingLost: () => nothingLost(world, id, join('tree', file), bytes) };
}

/** Makes a complete snapshot of the only job; returns its id. */
export async function backup(world: World): Promise<string> {
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.equal(snapshots[0]?.status, 'complete');
  return snapshots[0].snapshot;
}

/** The snapshot lists, verifies with all its data, and gives this file back. */
async function nothingLost(world: World, id: string, file: string, bytes: Buffer): Promise<void> {
  const { snapshots } = await world.json<Listing>('list');
  assert.equal(snapshots.find(({ snapshot }) => snapshot === id)?.status, 'complete');
  const verified = await world.run('verify', id, '--read-data');
  assert.equal(verified.status, 0, verified.stdout);
  const out = join(world.dir, randomUUID());
  const restored = await world.run('restore', id, '--source', 'tree', '--to', out, '--key', world.key);
  assert.equal(restored.status, 0, restored.stderr);
  assert.ok(readFileSync(join(out, file)).equals(bytes));
}

export interface Refusal {
  /** The exit status of the contract. */
  readonly exit: number;
  readonly code: string;
  /** The sentence, which names the object. */
  readonly says: RegExp;
  readonly hint?: RegExp;
}

/** What a run that must fail said, as it says it to programs. */
export function assertRefusal(result: CliResult, { exit, code, says, hint }: Refusal): void {
  assert.equal(result.status, exit, result.stdout + result.stderr);
  const last = result.stdout.trimEnd().split('\n').at(-1) ?? '';
  const error = JSON.parse(last) as { type: string; code: string; message: string; hint?: string };
  assert.deepEqual([error.type, error.code], ['error', code], last);
  assert.match(error.message, says);
  assert.doesNotMatch(error.message, /unexpected error/);
  if (hint) assert.match(error.hint ?? '', hint);
}

export async function refuses(world: Pick<World, 'run'>, args: string[], refusal: Refusal): Promise<void> {
  assertRefusal(await world.run(...args, '--json'), refusal);
}

/** Every file below a folder with its content: two that are equal hold the same. */
export function fingerprints(folder: string): Map<string, string> {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();
  const files = paths.filter((path) => statSync(join(folder, path)).isFile());
  const hash = (path: string) =>
    createHash('sha256')
      .update(readFileSync(join(folder, path)))
      .digest('hex');
  return new Map(files.map((path) => [path, hash(path)]));
}

/**
 * Runs the program where these mounts exist, and nowhere else: they go with the shell that made them, which ends with
 * the test's process.
 */
export async function underMounts(t: TestContext, script: string): Promise<Mounted> {
  const holder = spawn('unshare', ['--mount', 'sh', '-ec', `${script}\necho ready\nexec cat`]);
  t.after(() => holder.stdin.end());
  const [ready] = (await once(holder.stdout, 'data')) as [Buffer];
  assert.equal(ready.toString(), 'ready\n');
  const enter = ['--target', String(holder.pid), '--mount', '--'];
  return Object.assign(
    (args: readonly string[], options: { cwd: string; env?: Record<string, string> }) =>
      sealift([...enter, launcher, ...args], { ...options, program: '/usr/bin/nsenter' }),
    { shell: (line: string) => void execFileSync('/usr/bin/nsenter', [...enter, 'sh', '-ec', line]) },
  );
}

/** The program, and a shell line, where the mounts are. */
export interface Mounted {
  (args: readonly string[], options: { cwd: string; env?: Record<string, string> }): Promise<CliResult>;
  shell(line: string): void;
}

/** Mounts need a right that a container may not have. */
export const needsMounts: { skip: string | false } = await (async () => {
  const probe = spawn('unshare', ['--mount', 'true'], { stdio: 'ignore' });
  const [status] = (await once(probe, 'exit').catch(() => [1])) as [number];
  return { skip: status !== 0 && 'needs the right to mount' };
})();
