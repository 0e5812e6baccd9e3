import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { makeWorld } from '../support/world.ts';

test('a run leaves nobody behind who listens to a signal that it combined, for that would stay in memory', async (t) => {
  const world = await makeWorld(t, {
    jobs: {
      all: {
        schedule: '0 3 1 1 *',
        before: ['true'],
        after: ['true'],
        sources: [
          { name: 'tree', kind: 'files', paths: ['tree'] },
          { name: 'gone', kind: 'files', paths: ['gone'] },
          { name: 'chat', kind: 'sqlite', path: 'chat.db' },
          { name: 'tool', kind: 'command', argv: ['echo', 'some'], file: 'out.txt' },
          { name: 'broken', kind: 'command', argv: ['false'], file: 'out.txt' },
        ],
      },
    },
  });
  writeFileSync(join(world.dir, 'tree'), 'some');
  using database = new DatabaseSync(join(world.dir, 'chat.db'));
  database.exec('CREATE TABLE message (body TEXT)');
  const combined = t.mock.method(AbortSignal, 'any').mock;
  const { status, stderr } = await world.run('backup');
  assert.equal(status, 3, stderr);
  const signals = combined.calls.map(({ result }) => result!);
  assert.ok(signals.length > 5);
  assert.deepEqual(
    signals.flatMap((signal) => getEventListeners(signal, 'abort')),
    [],
  );
});
