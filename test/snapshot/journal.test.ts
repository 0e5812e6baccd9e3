import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { forgetJournals, openJournal, readJournals } from '../../src/snapshot/journal.ts';
import { temporary } from '../support/temporary.ts';
import { ada, bob, idOf } from './fixture.ts';

const run = '20261122T120000Z-databases-aaaaaa';
const segment = (content: string, folder = run) => ({
  folder,
  id: idOf(content),
  storedBytes: content.length,
  sha256: createHash('sha256').update(content).digest('hex'),
});

async function written(dir: string, contents: readonly string[], snapshot = run): Promise<string> {
  await using journal = await openJournal(dir, snapshot, [ada, bob]);
  for (const content of contents) journal.add(segment(content, snapshot));
  return join(dir, snapshot);
}

test('what was added is read back with the recipients of its folder', async (t) => {
  const dir = temporary(t);
  const file = await written(dir, ['a', 'b', 'c']);
  assert.deepEqual(await readJournals(dir), [
    { snapshot: run, recipients: [ada, bob], segments: [segment('a'), segment('b'), segment('c')] },
  ]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('a run that stored nothing yet has nothing to adopt', async (t) => {
  const dir = temporary(t);
  await written(dir, []);
  assert.deepEqual(await readJournals(dir), [{ snapshot: run, recipients: [ada, bob], segments: [] }]);
});

test('many segments that are added at once are all written', async (t) => {
  const dir = temporary(t);
  const contents = Array.from({ length: 500 }, (_, i) => `content ${i}`);
  await written(dir, contents);
  const [journal] = await readJournals(dir);
  assert.deepEqual(
    journal?.segments.map(({ id }) => id),
    contents.map(idOf),
  );
});

test('a line that was torn when the process died is left out, and those before it count', async (t) => {
  const dir = temporary(t);
  const file = await written(dir, ['a', 'b', 'c']);
  const whole = readFileSync(file, 'utf8');
  const lastLine = whole.trimEnd().split('\n').at(-1)!;
  for (let cut = 1; cut <= lastLine.length + 1; cut++) {
    truncateSync(file, whole.length - cut);
    const [journal] = await readJournals(dir);
    assert.deepEqual(journal?.segments, [segment('a'), segment('b')], `without the last ${cut} bytes`);
    writeFileSync(file, whole);
  }
});

test('a torn or empty first line leaves nothing to adopt', async (t) => {
  const dir = temporary(t);
  writeFileSync(join(dir, run), '{"recipients":[{"prim');
  assert.deepEqual(await readJournals(dir), []);
  writeFileSync(join(dir, run), '');
  assert.deepEqual(await readJournals(dir), []);
});

test('a file that begins with garbage is not adopted and harms nobody', async (t) => {
  const dir = temporary(t);
  const other = '20261122T130000Z-databases-bbbbbb';
  await written(dir, ['b'], other);
  for (const line of ['null', '7', '{}', '[1,2,3]']) {
    writeFileSync(join(dir, run), `${line}\n${line}\n`);
    assert.deepEqual(
      (await readJournals(dir)).map(({ snapshot }) => snapshot),
      [other],
      line,
    );
  }
});

test('of a file with garbage in it, or a line of another version, what lies before counts', async (t) => {
  const dir = temporary(t);
  const { id, storedBytes, sha256 } = segment('b');
  const whole = JSON.stringify([id, storedBytes, sha256]);
  for (const line of [
    '\0'.repeat(100),
    'null',
    '{}',
    JSON.stringify([id, storedBytes]),
    JSON.stringify([id, storedBytes, null]),
    JSON.stringify([id, `${storedBytes}`, sha256]),
    JSON.stringify([id, -1, sha256]),
    JSON.stringify([`${id}/`, storedBytes, sha256]),
    JSON.stringify([id, storedBytes, sha256.toUpperCase()]),
  ]) {
    const file = await written(dir, ['a']);
    appendFileSync(file, `${line}\n${whole}\n`);
    assert.deepEqual((await readJournals(dir))[0]?.segments, [segment('a')], line);
    rmSync(file);
  }
});

test('a folder that is gone leaves nothing to adopt, and is made anew', async (t) => {
  const dir = join(temporary(t), 'journal');
  assert.deepEqual(await readJournals(dir), []);
  await forgetJournals(dir, 'databases', 0);
  await written(dir, ['a']);
  assert.equal((await readJournals(dir)).length, 1);
});

test('other files in the folder are not journals and stay', async (t) => {
  const dir = temporary(t);
  writeFileSync(join(dir, 'README'), 'x');
  await written(dir, ['a']);
  assert.equal((await readJournals(dir)).length, 1);
  await forgetJournals(dir, 'databases', 0);
  assert.deepEqual(readdirSync(dir), ['README']);
});

test('a commit forgets the journals of its own job, and of others those that are too old to be of use', async (t) => {
  const dir = temporary(t);
  const system = '20261122T120000Z-system-aaaaaa';
  const alike = '20261122T120000Z-databases-2-aaaaaa';
  const removed = '20261115T115959Z-removed-aaaaaa';
  for (const snapshot of [run, '20261121T120000Z-databases-cccccc', system, alike, removed])
    await written(dir, ['a'], snapshot);
  await forgetJournals(dir, 'databases', Date.parse('2026-11-15T12:00:00Z'));
  assert.deepEqual(readdirSync(dir).toSorted(), [alike, system].toSorted());
});

test('a journal is never opened twice', async (t) => {
  const dir = temporary(t);
  await written(dir, ['a']);
  await assert.rejects(openJournal(dir, run, [ada]), { code: 'EEXIST' });
});
