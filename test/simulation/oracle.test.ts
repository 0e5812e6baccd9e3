import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WorkerPool } from '../../src/segments/pool.ts';
import { parseKey } from '../../src/snapshot/object-key.ts';
import { makeKey } from '../support/keys.ts';
import { Oracle, stranger, type PruneReport } from './oracle.ts';
import { SimHost } from './sim-host.ts';
import { SimBucket, storeOf } from './sim-store.ts';
import { Timeline } from './timeline.ts';

const hourMs = 3_600_000;
const longAgo = new Date('2026-01-01T00:00:00Z');
const limits = { maxAgeSeconds: 72 * 3600, reuseWindowSeconds: 26 * 3600 };
const nothing: PruneReport = { failed: [], problems: [] };

interface Scene {
  readonly bucket: SimBucket;
  /** Keys of this type, oldest first. */
  keys(type: 'index' | 'segment'): string[];
  remove(key: string, by: string): void;
  readonly oracle: Oracle;
  /** The whole of a prune by a pruner that does only this. */
  prune(act: () => void, report?: PruneReport): void;
}

/** One host that backed up at hours 0, 2, 4 and 6, with what the test does at hour 5, and then what it does at this hour. */
async function complaintsAt(
  hour: number,
  { versioned = false, atFive }: { versioned?: boolean; atFive?: (scene: Scene) => void },
  act: (scene: Scene) => void,
): Promise<readonly string[]> {
  const dir = mkdtempSync(join(tmpdir(), 'sealift-sim-'));
  await using pool = new WorkerPool(1);
  try {
    const timeline = new Timeline();
    const bucket = new SimBucket(timeline, { versioned, startAt: '2026-06-01T00:00:00Z' });
    const keys = [await makeKey({ date: longAgo })];
    const host = await SimHost.create(
      dir,
      'web',
      { keys, pool, now: longAgo },
      { ...limits, recipients: [0] },
    );
    const oracle = new Oracle(bucket, () => [host.key.publicKey]);
    bucket.witness = oracle;
    timeline.afterStep = () => oracle.judge();
    const run = (): void =>
      void timeline.start('run', { latencyMs: () => 100 }, async (actor) => {
        await host.runLightly(storeOf(bucket, actor), 'databases', {
          schedule: '0 */2 * * *',
          timezone: 'UTC',
          fails: false,
          signal: new AbortController().signal,
          clock: () => new Date(bucket.nowMs),
        });
      });
    for (const start of [0, 2, 4, 6]) timeline.at(start * hourMs, run);
    const remove = (key: string, by: string): void => {
      for (const held of bucket.versionsOf(key)) bucket.drop(held, by);
    };
    const scene: Scene = {
      bucket,
      oracle,
      remove,
      keys: (type) =>
        [...new Set(bucket.everything().map(({ key }) => key))].filter((key) => parseKey(key)?.type === type),
      prune(act, report = nothing) {
        const run = {
          by: 'pruner',
          hosts: ['web'],
          own: undefined,
          maxAgeMs: 72 * hourMs,
          windowMs: 26 * hourMs,
        };
        oracle.pruneBegins(run);
        act();
        oracle.pruneEnds('pruner', report);
      },
    };
    if (atFive) timeline.at(5 * hourMs, () => atFive(scene));
    timeline.at(hour * hourMs, () => act(scene));
    await timeline.run();
    return oracle.complaints;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const everything = ({ keys, remove }: Scene): void =>
  [...keys('index'), ...keys('segment')].forEach((key) => remove(key, 'pruner'));

const pruneOfIndexes = (scene: Scene): void =>
  scene.prune(() => scene.keys('index').forEach((key) => scene.remove(key, 'pruner')));

function layOrphan({ bucket, keys }: Scene): string {
  const key = keys('segment')[0]!.replace(/[0-9a-f]{32}/, 'f'.repeat(32));
  bucket.lay(key, Buffer.from('of a run that died'), 'run');
  return key;
}

/** Before the next run, which then follows the run before. */
const takeNewest = ({ keys, remove }: Scene): void => remove(keys('index').at(-1)!, stranger);

/** Removes something that the third snapshot alone names, and reports a doubt. */
function pruneOfThird({ keys, oracle, prune, remove }: Scene): void {
  const [last] = oracle.live().toSorted((a, b) => b.sequence - a.sequence);
  const own = keys('segment').find((key) => key.includes('T04') && last?.names.has(key) === false)!;
  prune(() => remove(own, 'pruner'), { failed: [], problems: ['an index is missing'] });
}

suite('the oracle of the simulation', () => {
  test('has nothing to say where everything is as it should be', async () => {
    assert.deepEqual(await complaintsAt(70, {}, (scene) => scene.prune(() => undefined)), []);
    assert.deepEqual(await complaintsAt(79, {}, (scene) => scene.prune(() => everything(scene))), []);
  });

  test('misses an object that a live snapshot names, whoever removed it', async () => {
    const complaints = await complaintsAt(60, {}, (scene) =>
      scene.prune(() => scene.remove(scene.keys('segment')[0]!, 'pruner')),
    );
    assert.match(complaints.join('\n'), /removed web\/snap\/.*needs \(R3\)/);
    assert.match(complaints.join('\n'), /which is not there/);
    const byRun = await complaintsAt(60, {}, (scene) => scene.remove(scene.keys('segment')[0]!, 'a run'));
    assert.match(byRun.join('\n'), /is no pruner/);
  });

  test('misses the index of a live snapshot', async () => {
    const complaints = await complaintsAt(71, {}, (scene) =>
      scene.prune(() => scene.remove(scene.keys('index')[0]!, 'pruner')),
    );
    assert.match(complaints.join('\n'), /an index that has not ended \(R2\)/);
  });

  test('sees an index that a prune left after its end', async () => {
    const complaints = await complaintsAt(73, {}, (scene) => scene.prune(() => undefined));
    assert.match(complaints.join('\n'), /left web\/snap\/20260601T0000.*its snapshot has ended \(R2\)/);
    assert.equal(complaints.filter((text) => text.includes('(R2)')).length, 1);
  });

  test('sees objects that nobody names after their grace, and those past the ceiling', async () => {
    assert.match((await complaintsAt(79, {}, pruneOfIndexes)).join('\n'), /older than the grace \(R4\)/);
    assert.match((await complaintsAt(105, {}, pruneOfIndexes)).join('\n'), /older than the ceiling \(R5\)/);
  });

  test('lets a delete pass that was refused and reported', async () => {
    const complaints = await complaintsAt(79, {}, (scene) =>
      scene.prune(() => undefined, {
        ...nothing,
        failed: [...scene.keys('index'), ...scene.keys('segment')].map((key) => ({ key })),
      }),
    );
    assert.deepEqual(complaints, []);
  });

  test('sees deletion markers and older versions that stayed', async () => {
    const markers = await complaintsAt(79, { versioned: true }, (scene) =>
      scene.prune(() => {
        for (const key of scene.keys('segment')) scene.bucket.lay(key, undefined, 'pruner');
        everything(scene);
      }),
    );
    assert.deepEqual(markers, [], 'a marker that came and went is no matter');
    const hidden = await complaintsAt(79, { versioned: true }, (scene) => {
      for (const key of scene.keys('segment')) scene.bucket.lay(key, undefined, stranger);
      scene.prune(() => {
        for (const held of scene.bucket.everything())
          if (held.bytes && parseKey(held.key)?.host === 'web' && held.key.includes('/snap/'))
            scene.bucket.drop(held, 'pruner');
      });
    });
    assert.match(hidden.join('\n'), /left a marker of .*a trace of what is gone \(R8\)/);
  });

  test('sees what goes before its grace, and more so when an index cannot be read', async () => {
    const early = await complaintsAt(60, {}, (scene) => {
      const key = layOrphan(scene);
      scene.prune(() => scene.remove(key, 'pruner'));
    });
    assert.match(early.join('\n'), /within the grace of 49.00 h \(R4\)/);
    const doubt = await complaintsAt(60, {}, (scene) => {
      const index = scene.keys('index')[1]!;
      scene.bucket.lay(index, Buffer.from('rubbish'), stranger);
      scene.prune(() => scene.remove(scene.keys('segment').at(-1)!, 'pruner'));
    });
    assert.match(doubt.join('\n'), /cannot be read \(R6\)/);
    assert.match(doubt.join('\n'), /says nothing of an index/);
  });

  test('does not ask for what no index tells of any longer, and asks for what one does', async () => {
    assert.match(
      (await complaintsAt(73, { atFive: takeNewest }, pruneOfThird)).join('\n'),
      /needs \(R3\)/,
      'the first that is left shows the gap',
    );
    const afterwards = await complaintsAt(75, { atFive: takeNewest }, (scene) => {
      const [first, second] = scene.keys('index');
      for (const key of [first!, second!]) scene.remove(key, stranger);
      pruneOfThird(scene);
    });
    assert.doesNotMatch(afterwards.join('\n'), /needs \(R3\)/);
  });

  test('sees a pruner that touches what is not its own', async () => {
    const complaints = await complaintsAt(60, {}, (scene) => {
      scene.bucket.lay('web/snap/notes.txt', Buffer.from('mine'), stranger);
      scene.prune(() => {
        scene.remove('web/snap/notes.txt', 'pruner');
        scene.remove('web/RESTORE.md', 'pruner');
      });
    });
    assert.equal(complaints.filter((text) => text.includes('not for pruners to touch')).length, 2);
  });
});
