import assert from 'node:assert/strict';
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pseudoRandom } from '../support/bytes.ts';
import { resign } from '../support/resign.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';
import { refuses } from './bad-input.ts';

interface Restored {
  readonly restored: readonly string[];
  readonly skipped: readonly string[];
  readonly damaged: readonly string[];
  readonly files: number;
}

const blob = (seed: number): Buffer => pseudoRandom(seed, 3_000_000);
const files: Readonly<Record<string, Buffer>> = {
  'a-small': pseudoRandom(1, 5000),
  'b-blob': blob(2),
  'c-small': pseudoRandom(3, 5000),
  'd-blob': blob(4),
  'e-small': pseudoRandom(5, 5000),
};

test('what a store has lost or damaged is told by its files, and all else comes back', async (t) => {
  const sources = [
    { name: 'dump', kind: 'command', argv: ['cat', 'dump'], cwd: '.', file: 'dump' },
    { name: 'tree', kind: 'files', paths: ['tree'] },
    { name: 'other', kind: 'files', paths: ['other'] },
  ];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  const tree = join(world.dir, 'tree');
  mkdirSync(join(tree, 'z'), { recursive: true });
  for (const [name, content] of Object.entries(files)) put(join(tree, name), content, 0o600);
  for (const name of ['b-blob', 'e-small']) linkSync(join(tree, name), join(tree, 'z', name));
  put(join(world.dir, 'dump'), blob(6));
  mkdirSync(join(world.dir, 'other'));
  put(join(world.dir, 'other/file'), 'of other');
  await world.json('backup');

  const snap = join(world.dir, 'store/h1/snap');
  const folder = join(snap, readdirSync(snap)[0]!, 's');
  const objects = readdirSync(folder).map((name) => join(folder, name));
  const restore = async (to: string, ...more: string[]) => {
    const out = join(world.dir, to);
    const { status, stdout, stderr } = await world.run(
      '--json',
      'restore',
      '--to',
      out,
      '--key',
      world.key,
      ...more,
    );
    const lines = stdout.trimEnd().split('\n');
    return { status, stderr, out, ...(JSON.parse(lines.at(-1)!) as Restored) };
  };
  /** Compares what is back with what was saved; returns the names of what is not. */
  const lacking = (out: string): string[] => {
    const back = join(out, 'tree', tree);
    return [...Object.keys(files), 'z/b-blob', 'z/e-small'].filter((name) => {
      if (!existsSync(join(back, name))) return true;
      assert.ok(readFileSync(join(back, name)).equals(files[name.replace('z/', '')]!), name);
      return false;
    });
  };

  const whole = await restore('whole');
  assert.deepEqual([whole.status, whole.damaged, whole.files, lacking(whole.out)], [0, [], 9, []]);

  await t.test('by whichever of its large objects', async () => {
    const seen = new Set<string>();
    for (const [number, object] of objects.entries()) {
      if (statSync(object).size < 400_000) continue;
      const content = readFileSync(object);
      if (number % 2 === 0) rmSync(object);
      else put(object, Buffer.from(content).fill(0, 100_000, 100_100));
      const back = await restore(`back-${number}`);
      assert.equal(back.status, 21, back.stderr);
      assert.deepEqual(back.skipped, []);
      const [what = '', ...named] = back.damaged;
      assert.match(what, /^(dump\/dump|tree\/files\.tar) of .* cannot be read whole: the object of segment /);
      assert.equal(readFileSync(join(back.out, 'other', world.dir, 'other/file'), 'utf8'), 'of other');
      const lost = lacking(back.out);
      assert.deepEqual(
        named
          .filter((line) => !line.includes('/: its owner, mode and time are not'))
          .map((line) => line.replace(/: .*/, ''))
          .toSorted(),
        lost.map((name) => join(back.out, 'tree', tree, name)),
      );
      assert.equal(existsSync(join(back.out, 'dump/dump')), !what.startsWith('dump'));
      assert.equal(what.startsWith('dump'), lost.length === 0, back.damaged.join('\n'));
      assert.ok(
        !lost.includes('b-blob') || lost.includes('z/b-blob'),
        'a hard link has no more than its file',
      );
      assert.ok(lost.length < 6, lost.join());
      assert.deepEqual(
        readdirSync(join(back.out, 'dump')).length,
        what.startsWith('dump') ? 0 : 1,
        'no draft is left',
      );
      for (const name of lost) seen.add(name);
      put(object, content);
    }
    assert.ok(seen.has('b-blob') && seen.has('d-blob') && seen.has('z/b-blob'));
  });

  await t.test('also if only some files are wanted, and several objects are gone', async () => {
    const gone = objects.filter((object) => statSync(object).size > 400_000);
    const contents = gone.map((object) => readFileSync(object));
    for (const object of gone) rmSync(object);
    const back = await restore('some', '--include', '*-blob', '--include', '*-small', '--include', 'file');
    for (const [number, object] of gone.entries()) put(object, contents[number]!);
    assert.equal(back.status, 21, back.stderr);
    const lost = lacking(back.out);
    const named = back.damaged.filter((line) => line.endsWith('not whole in the store'));
    assert.deepEqual(
      named.map((line) => line.replace(/: .*/, '')).toSorted(),
      lost.map((name) => join(back.out, 'tree', tree, name)),
    );
    assert.ok(['b-blob', 'd-blob', 'z/b-blob'].every((name) => lost.includes(name)));
    assert.ok(existsSync(join(back.out, 'other', world.dir, 'other/file')));
  });

  await t.test('where the details are lost, the way by hand is told', async () => {
    const last = await world.json<{ streams: { name: string }[] }>('show', 'latest');
    assert.equal(last.streams.at(-1)?.name, '_/details.jsonl', 'by hand they come last, too');
    const small = objects.filter((object) => statSync(object).size < 400_000);
    const contents = small.map((object) => readFileSync(object));
    for (const object of small) rmSync(object);
    await refuses(world, ['restore', '--to', join(world.dir, 'without'), '--key', world.key], {
      exit: 21,
      code: 'verify-failed',
      says: /^_\/details\.jsonl of .* cannot be read whole/,
      hint: /By hand, as RESTORE\.md says/,
    });
    for (const [number, object] of small.entries()) put(object, contents[number]!);
  });
});

test('a job whose details are lost does not keep the others from coming back', async (t) => {
  const jobs = Object.fromEntries(
    ['a', 'b', 'c'].map((name) => {
      const sources = [
        { name, kind: 'command', argv: ['echo', name], file: 'out' },
        { name: `${name}-tree`, kind: 'files', paths: ['tree'] },
      ];
      return [name, { schedule: every2h, sources }];
    }),
  );
  const world = await makeWorld(t, { jobs });
  put(join(mkdirSync(join(world.dir, 'tree'), { recursive: true })!, 'file'), 'content');
  await world.json('backup');
  const snap = join(world.dir, 'store/h1/snap');
  const lose = async (job: string): Promise<void> => {
    const id = readdirSync(snap).find((name) => name.includes(`-${job}-`))!;
    await resign(world, id, (text) => {
      const { streams } = JSON.parse(text) as { streams: { name: string; segments: [number, string][] }[] };
      const [first] = streams.find(({ name }) => name === '_/details.jsonl')!.segments;
      rmSync(join(snap, id, 's', `${first![1]}.zst.gpg`));
      return text;
    });
  };
  await lose('b');
  const to = (folder: string) => ['restore', '--to', join(world.dir, folder), '--key', world.key];
  const { status, stdout } = await world.run('--json', ...to('two'));
  const { damaged } = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Restored;
  assert.equal(status, 21);
  assert.equal(damaged.length, 1);
  assert.match(damaged[0]!, /^_\/details\.jsonl of .*-b-.* cannot be read whole/);
  assert.deepEqual(readdirSync(join(world.dir, 'two')), ['a', 'c']);
  assert.equal(readFileSync(join(world.dir, 'two/c/c/out'), 'utf8'), 'c\n');

  const some = await world.run('--json', ...to('some'), '--include', 'file');
  const found = JSON.parse(some.stdout.trimEnd().split('\n').at(-1)!) as Restored;
  assert.deepEqual([some.status, found.damaged, found.files], [21, damaged, 2]);
  assert.deepEqual(readdirSync(join(world.dir, 'some')), ['a', 'c']);
  const refusal = { exit: 21, code: 'verify-failed', says: /cannot be read whole/ };
  await refuses(world, [...to('no'), '--include', 'nothing'], refusal);
  const one = await world.run('restore', '--stdout', '--key', world.key, '--include', 'file');
  assert.deepEqual([one.status, one.stdout], [21, ''], one.stderr);

  for (const job of ['a', 'c']) await lose(job);
  await refuses(world, to('none'), refusal);
  assert.ok(!existsSync(join(world.dir, 'none')));
});

test('a store that has lost every object is told by each of them, however many', async (t) => {
  const sources = [{ name: 'dump', kind: 'command', argv: ['printf', 'of the dump'], file: 'dump' }];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  const count = 150_000;
  const { snapshots } = await world.json<{ snapshots: { snapshot: string }[] }>('backup');
  await resign(world, snapshots[0]!.snapshot, (text) => {
    const index = JSON.parse(text) as { streams: { segments: unknown[] }[] };
    const ids = Array.from({ length: count }, (_, i) => i.toString(16).padStart(32, '0'));
    index.streams[0]!.segments = ids.map((id) => [0, id, 4096, '0'.repeat(64)]);
    return JSON.stringify(index);
  });
  const { status, stdout } = await world.run('--json', 'verify');
  assert.equal(status, 21);
  const { failures } = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { failures: unknown[] };
  assert.equal(failures.length, count);
});

test('a snapshot of a later format is told with what reads it, by whoever passes over it', async (t) => {
  const sources = [{ name: 'dump', kind: 'command', argv: ['printf', 'of the dump'], file: 'dump' }];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  const { snapshots } = await world.json<{ snapshots: { snapshot: string }[] }>('backup');
  await resign(world, snapshots[0]!.snapshot, (text) => text.replace('sealift-index/1', 'sealift-index/2'));
  for (const [args, stream] of [
    [['list'], 'stderr'],
    [['restore', '--key', world.key, '--to', 'back'], 'stderr'],
    [['verify'], 'stdout'],
    [['status'], 'stdout'],
    [['audit'], 'stdout'],
  ] as const) {
    const told = (await world.run(...args))[stream];
    assert.match(told, /A later version of sealift made it: install that one here(?!\.\.)/, args[0]);
  }
});

test('an object that several snapshots share is told once', async (t) => {
  const dump = { name: 'dump', kind: 'command', argv: ['printf', 'of the dump'], file: 'dump' };
  const sources = [dump, { ...dump, name: 'twin' }];
  const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
  const { snapshots } = await world.json<{ snapshots: { snapshot: string }[] }>('backup');
  for (let i = 0; i < 2; i++) await world.json('backup');
  const first = snapshots[0]!.snapshot;
  const folder = join(world.dir, 'store/h1/snap', first, 's');
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
  const { status, stdout } = await world.run('verify', '--all');
  assert.equal(status, 21);
  const failed = stdout.split('\n').filter((line) => line.startsWith('failed'));
  const shared = failed.filter(
    (line) => line.includes(`  h1/snap/${first}/s/`) && line.includes('of dump/dump'),
  );
  assert.deepEqual(
    shared.map((line) => line.split('  ')[1]),
    [`${first} and 2 more`],
  );
  const of = failed.map((line) => /is missing: a piece of (.*)/.exec(line)?.[1]);
  assert.deepEqual(new Set(of), new Set(['dump/dump', '_/details.jsonl']));
});
