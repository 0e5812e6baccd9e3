import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test, type TestContext } from 'node:test';
import { launcher, sealift, type CliResult } from './support/cli.ts';
import { temporary } from './support/temporary.ts';
import type { Listing } from './support/world.ts';

const golden = join(import.meta.dirname, 'golden', 'format-1');
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Expected {
  readonly snapshots: readonly {
    readonly snapshot: string;
    readonly job: string;
    readonly status: string;
    readonly streams: readonly { readonly name: string; readonly bytes: number; readonly sha256: string }[];
  }[];
  /** SHA-256 of files of the newest tree, by name. */
  readonly files: Readonly<Record<string, string>>;
}
const { snapshots, files } = JSON.parse(readFileSync(join(golden, 'expected.json'), 'utf8')) as Expected;

/** Somebody with a copy of the store, the operator's key, and the host's pinned key; nothing of the host itself. */
function operator(t: TestContext) {
  const dir = temporary(t);
  cpSync(golden, dir, { recursive: true });
  for (const name of readdirSync(join(dir, 'hosts'))) chmodSync(join(dir, 'hosts', name), 0o644);
  const config = { store: { kind: 'directory', path: join(dir, 'store') }, hosts: join(dir, 'hosts') };
  const configFile = join(dir, 'sealift.yaml');
  writeFileSync(configFile, JSON.stringify(config), { mode: 0o600 });
  const run = (...args: string[]): Promise<CliResult> => sealift(['-c', configFile, ...args], { cwd: dir });
  return { dir, run, configFile, key: join(dir, 'op.key.asc') };
}

/** The streams that the details describe. */
const namesIn = (streams: readonly { name: string }[]): string[] =>
  streams.map(({ name }) => name).filter((name) => !name.startsWith('_/'));

test('the golden files of format 1 are those that were made with its first version', () => {
  const sums = new Map(
    readFileSync(join(golden, 'SHA256SUMS'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => [line.slice(66), line.slice(0, 64)]),
  );
  const files = readdirSync(golden, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'SHA256SUMS')
    .map((entry) => relative(golden, join(entry.parentPath, entry.name)));
  assert.deepEqual(files.toSorted(), [...sums.keys()].toSorted());
  for (const [file, sum] of sums) assert.equal(sha256(readFileSync(join(golden, file))), sum, file);
});

suite('a store of format 1', () => {
  test('is listed', async (t) => {
    const { status, stdout, stderr } = await operator(t).run('list', '--json');
    assert.equal(status, 0, stderr);
    const listed = (JSON.parse(stdout) as Listing).snapshots;
    assert.deepEqual(
      listed.map((each) => [each.snapshot, each.job, each.status, namesIn(each.streams)]),
      snapshots.map((each) => [each.snapshot, each.job, each.status, namesIn(each.streams)]),
    );
    assert.deepEqual(listed.map(({ job, status }) => `${job} ${status}`).toSorted(), [
      'data complete',
      'data partial',
      'tree complete',
      'tree complete',
    ]);
    assert.deepEqual(
      listed.flatMap(({ problems }) => problems),
      [{ source: 'more', code: 'source-failed' }],
    );
  });

  test('is verified to the last byte of every stream', async (t) => {
    const { run, key } = operator(t);
    const { status, stdout, stderr } = await run(
      'verify',
      '--all',
      '--read-data',
      '--key',
      key,
      '--json',
      '--quiet',
    );
    assert.equal(status, 0, stdout + stderr);
    const summary = JSON.parse(stdout) as { ok: boolean; snapshots: number; objects: number };
    assert.equal(summary.ok, true);
    assert.equal(summary.snapshots, 4);
  });

  test('gives every stream of every snapshot back as it was', (t) => {
    const { configFile, key } = operator(t);
    for (const { snapshot, streams } of snapshots)
      for (const { name, bytes, sha256: expected } of streams) {
        const args = ['-c', configFile, 'restore', snapshot, '--source', name, '--stdout', '--key', key];
        const content = execFileSync(launcher, args, {
          stdio: ['ignore', 'pipe', 'pipe'],
          maxBuffer: 2 ** 28,
        });
        assert.equal(content.length, bytes);
        assert.equal(sha256(content), expected, `${name} of ${snapshot}`);
      }
  });

  test('gives the newest tree back as files', async (t) => {
    const { run, dir, key } = operator(t);
    const { status, stdout, stderr } = await run('restore', '--job', 'tree', '--to', 'back', '--key', key);
    assert.equal(status, 0, stdout + stderr);
    const paths = readdirSync(join(dir, 'back'), { recursive: true, withFileTypes: true });
    const found = (name: string): string | undefined => {
      const entry = paths.find((each) => each.name === name);
      return entry && join(entry.parentPath, name);
    };
    for (const [name, expected] of Object.entries(files))
      assert.equal(sha256(readFileSync(found(name)!)), expected, name);
    assert.equal(readlinkSync(found('link')!), 'grüße.txt');
    assert.ok(statSync(found('empty folder')!).isDirectory());
  });

  test('gives the newest whole copy of each database back where the newest snapshot is partial', async (t) => {
    const { run, dir, key } = operator(t);
    const { status, stdout, stderr } = await run('restore', '--job', 'data', '--to', 'back', '--key', key);
    assert.equal(status, 0, stdout + stderr);
    assert.match(stderr, /more is not complete in /);
    const paths = readdirSync(join(dir, 'back'), { recursive: true, encoding: 'utf8' });
    const read = (name: string, sql: string): unknown => {
      using database = new DatabaseSync(
        join(
          dir,
          'back',
          paths.find((path) => path.endsWith(name))!,
        ),
        { readOnly: true },
      );
      return database.prepare(sql).get();
    };
    assert.deepEqual(
      { ...(read('notes.sqlite', 'SELECT max(text) AS text FROM note') as object) },
      { text: 'second' },
    );
    assert.deepEqual({ ...(read('more.sqlite', 'SELECT sum(x) AS sum FROM n') as object) }, { sum: 6 });
  });
});
