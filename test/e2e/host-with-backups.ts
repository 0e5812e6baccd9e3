import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pseudoRandom } from '../support/bytes.ts';
import { launcher } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld, type BackupSummary, type World } from '../support/world.ts';

const sources = [
  { name: 'chat', kind: 'sqlite', path: 'chat.db' },
  { name: 'etc', kind: 'files', paths: ['tree'] },
];

/** Of the private key `eve/eve.key.asc`. */
export const passphrase = 'correct horse $battery';

/**
 * A host with two recipients, one of them with a passphrase, and two snapshots; most of what the second names lies in
 * the folder of the first.
 */
export async function hostWithBackups(t: TestContext, store?: object): Promise<World> {
  const world = await makeWorld(t, {
    jobs: { all: { schedule: every2h, sources } },
    ...(store && { store }),
  });
  const file = put(join(world.dir, 'passphrase'), `${passphrase}\n`, 0o600);
  const out = join(world.dir, 'eve');
  const eve = ['--user-id', 'Eve <eve@example.org>', '--out', out, '--passphrase-file', file];
  assert.equal((await world.run('keys', 'generate', ...eve)).status, 0);
  copyFileSync(join(world.dir, 'eve/eve.pub.asc'), join(world.dir, 'keys/recipients/eve.asc'));
  const tree = join(world.dir, 'tree');
  mkdirSync(join(tree, 'empty'), { recursive: true });
  put(join(tree, 'blob'), pseudoRandom(1, 3_000_000), 0o640);
  put(join(tree, "spaces and 'quotes' $HOME ünï"), 'small\n', 0o4755);
  put(join(tree, 'zero'), '');
  symlinkSync('blob', join(tree, 'link'));
  using database = new DatabaseSync(join(world.dir, 'chat.db'));
  database.exec('CREATE TABLE message (body TEXT); INSERT INTO message VALUES (hex(randomblob(400000)))');
  await world.json('backup');
  // Names of snapshots tell them apart by seconds, and who restores by hand takes the last name.
  await delay(1000 - (Date.now() % 1000));
  put(join(tree, 'new'), pseudoRandom(2, 700_000));
  const { snapshots } = await world.json<BackupSummary>('backup');
  assert.ok((snapshots[0]?.newSegments ?? 0) < (snapshots[0]?.segments ?? 0), 'the second re-uses the first');
  return world;
}

/** What `sealift restore --stdout` gives. */
export const toStdout = (world: World, stream: string): Buffer =>
  execFileSync(
    launcher,
    ['-c', world.configFile, '-q', 'restore', 'latest', '--source', stream, '--stdout', '--key', world.key],
    { maxBuffer: 2 ** 26 },
  );
