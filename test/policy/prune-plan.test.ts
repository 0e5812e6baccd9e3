import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  futureToleranceMs,
  planPrune,
  type PlannedObject,
  type PlannedSnapshot,
  type PruneSubject,
} from '../../src/policy/prune-plan.ts';

const hour = 3600_000;
const day = 24 * hour;
const now = Date.parse('2026-11-22T12:00:00Z');
const week = { maxAge: 7 * 86_400, reuseWindow: 26 * 3600 };
const grace = 97 * hour;
const ceiling = 7 * day + 26 * hour;

const snapshot = (name: string, startedMs: number, more: Partial<PlannedSnapshot> = {}): PlannedSnapshot => ({
  snapshot: name,
  sequence: 1,
  startedMs,
  modifiedMs: startedMs + 1000,
  previous: undefined,
  names: [],
  ...week,
  ...more,
});

const names = (...keys: string[]) =>
  keys.map((key) => ({ folder: key.slice(0, key.indexOf('/')), id: key.slice(key.indexOf('/') + 1) }));

const segment = (folder: string, id: string, modifiedMs: number, marker = false): PlannedObject => ({
  folder,
  segment: id,
  modifiedMs,
  marker,
});

const index = (folder: string, modifiedMs: number, marker = false): PlannedObject => ({
  folder,
  segment: undefined,
  modifiedMs,
  marker,
});

const plan = (subject: Partial<PruneSubject<PlannedObject>>) =>
  planPrune<PlannedObject>({
    nowMs: now,
    surveyedMs: now,
    configured: week,
    own: true,
    snapshots: [],
    unreadable: [],
    objects: [],
    ...subject,
  });

const deleted = (subject: Partial<PruneSubject<PlannedObject>>): string[] =>
  plan(subject).objects.map(({ object }) => `${object.folder}/${object.segment ?? 'index'}`);

describe('R2: a snapshot ends at its signed time, to the second', () => {
  for (const [left, ends] of [
    [1000, false],
    [1, false],
    [0, true],
    [-1, true],
  ] as const)
    test(`${left} ms before the end it is ${ends ? 'deleted' : 'kept'}`, () => {
      const startedMs = now - 7 * day + left;
      const { snapshots, nextExpiryMs } = plan({ snapshots: [snapshot('a', startedMs)] });
      assert.deepEqual(
        snapshots.map(({ snapshot: id }) => id),
        ends ? ['a'] : [],
      );
      assert.equal(nextExpiryMs, ends ? undefined : now + left);
    });

  test('it ends with no newer one there, and with newer ones there', () => {
    const old = snapshot('a', now - 8 * day);
    assert.equal(plan({ snapshots: [old] }).snapshots.length, 1);
    assert.equal(plan({ snapshots: [old, snapshot('b', now - day)] }).snapshots.length, 1);
  });

  for (const [own, ends] of [
    [true, true],
    [false, false],
  ] as const)
    test(`a shorter maxAge in the configuration ends it ${ends ? 'on the host' : 'nowhere else'}`, () => {
      const { snapshots } = plan({
        own,
        configured: { maxAge: 3 * 86_400, reuseWindow: 0 },
        snapshots: [snapshot('a', now - 3 * day)],
      });
      assert.equal(snapshots.length, ends ? 1 : 0);
    });

  test('a longer maxAge in the configuration does not lengthen what was promised', () => {
    const configured = { maxAge: 30 * 86_400, reuseWindow: 0 };
    assert.equal(plan({ configured, snapshots: [snapshot('a', now - 7 * day)] }).snapshots.length, 1);
  });

  test('age counts from the earlier of the signed start and the time of the index (R9)', () => {
    const late = snapshot('a', now - day, { modifiedMs: now - 7 * day });
    assert.equal(plan({ snapshots: [late] }).snapshots.length, 1);
    const early = snapshot('a', now - 7 * day, { modifiedMs: now - day });
    assert.equal(plan({ snapshots: [early] }).snapshots.length, 1);
  });
});

describe('R3 and R4: what no live snapshot names goes when it is older than the grace', () => {
  const live = snapshot('b', now - day, { names: names('a/1', 'b/2') });
  for (const [age, gone] of [
    [grace - 1, false],
    [grace, true],
    [grace + 1, true],
  ] as const)
    test(`${age - grace} ms beyond the grace: named stays, unnamed ${gone ? 'goes' : 'stays'}`, () => {
      const objects = [segment('a', '1', now - age), segment('a', '9', now - age)];
      assert.deepEqual(deleted({ snapshots: [live], objects }), gone ? ['a/9'] : []);
    });

  test('the segments of a snapshot go in the same prune as its index, and after it', () => {
    const ended = snapshot('a', now - 7 * day, { names: names('a/1', 'a/2') });
    const written = now - 7 * day + 70 * hour; // the longest run there is
    const objects = [index('a', written), segment('a', '1', written), segment('a', '2', written)];
    assert.deepEqual(deleted({ snapshots: [ended, live], objects }), ['a/index', 'a/2']);
  });

  test('the grace is that of the largest limits of anything live, and of the host', () => {
    const objects = [segment('a', '9', now - grace)];
    const long = { maxAge: 30 * 86_400, reuseWindow: 26 * 3600 };
    assert.deepEqual(deleted({ objects, snapshots: [live, snapshot('c', now - day, long)] }), []);
    assert.deepEqual(deleted({ objects, snapshots: [live], configured: long }), []);
    assert.deepEqual(deleted({ objects, snapshots: [live], configured: long, own: false }), ['a/9']);
  });

  test('elsewhere and with nothing live, the limits are those of the last snapshots', () => {
    const long = { maxAge: 30 * 86_400, reuseWindow: 26 * 3600 };
    const ended = snapshot('a', now - 31 * day, long);
    const objects = [segment('a', '9', now - grace)];
    assert.deepEqual(deleted({ objects, snapshots: [ended], own: false }), []);
    assert.deepEqual(deleted({ objects, own: false }), ['a/9']);
  });
});

describe('R5: what is older than anything may be goes, whatever names it', () => {
  for (const [age, gone] of [
    [ceiling - 1, false],
    [ceiling, true],
  ] as const)
    test(`${age - ceiling} ms beyond: ${gone ? 'goes' : 'stays'}`, () => {
      const live = snapshot('b', now - day, { names: names('a/1') });
      assert.deepEqual(
        deleted({ snapshots: [live], objects: [segment('a', '1', now - age)] }),
        gone ? ['a/1'] : [],
      );
    });
});

for (const [age, gone] of [
  [ceiling - 1, false],
  [ceiling, true],
] as const)
  test(`R5: a version of an index that nobody can read ${gone ? 'goes' : 'stays'} ${age - ceiling} ms beyond`, () => {
    const unreadable = [{ snapshot: 'x', startedMs: now - ceiling, modifiedMs: now - day }];
    const objects = [index('x', now - day), index('x', now - age)];
    assert.equal(plan({ unreadable, objects }).objects.length, gone ? 1 : 0);
  });

describe('R6: with something live that is missing or cannot be read, nothing but the certain goes', () => {
  const old = snapshot('a', now - 7 * day);
  const objects = [
    index('a', now - 7 * day),
    segment('a', '1', now - 7 * day),
    segment('a', '2', now - ceiling),
  ];
  const certain = ['a/index', 'a/2'];

  test('nothing is wrong: all of it goes', () => {
    assert.deepEqual(deleted({ snapshots: [old], objects }), ['a/index', 'a/1', 'a/2']);
  });
  for (const [age, closed] of [
    [7 * day - 1, true],
    [7 * day, false],
  ] as const)
    test(`an unreadable index ${age - 7 * day} ms past its age ${closed ? 'counts' : 'does not'}`, () => {
      const unreadable = [{ snapshot: 'x', startedMs: now - age, modifiedMs: now - age }];
      const result = plan({ snapshots: [old], unreadable, objects });
      assert.equal(result.problems.length, closed ? 1 : 0);
      assert.equal(result.objects.length, closed ? certain.length : 3);
      assert.equal(
        result.snapshots.some(({ snapshot: id }) => id === 'x'),
        !closed,
      );
    });
  test('an unreadable index with an old name that was written lately stays', () => {
    const unreadable = [{ snapshot: 'x', startedMs: now - 8 * day, modifiedMs: now - day }];
    const result = plan({ unreadable });
    assert.deepEqual([result.snapshots, result.problems], [[], []]);
  });

  const follower = (previousAge: number, expiresMs?: number) =>
    snapshot('c', now - day, {
      sequence: 2,
      previous: { snapshot: 'b', startedMs: now - previousAge, expiresMs },
    });
  test('what ended while all was looked at may be gone or unreadable, and itself goes at the next prune', () => {
    const live = snapshot('d', now - 7 * day + 1000);
    const unreadable = [{ snapshot: 'x', startedMs: now - 7 * day + 1000, modifiedMs: now - 7 * day + 1000 }];
    const subject = { snapshots: [live, follower(7 * day - 1000)], unreadable };
    assert.equal(plan({ ...subject, surveyedMs: now + 999 }).problems.length, 2);
    const result = plan({ ...subject, surveyedMs: now + 1000 });
    assert.deepEqual([result.problems, result.snapshots], [[], []]);
  });
  for (const [age, closed] of [
    [7 * day - 1, true],
    [7 * day, false],
  ] as const)
    test(`a predecessor that is gone ${7 * day - age} ms before its time ${closed ? 'counts' : 'does not'}`, () => {
      for (const expiresMs of [undefined, now - age + 7 * day]) {
        const result = plan({ snapshots: [old, follower(age, expiresMs)], objects });
        assert.equal(result.problems.length, closed ? 1 : 0);
        if (closed) assert.deepEqual(deleted({ snapshots: [old, follower(age)], objects }), certain);
      }
    });
  test('a predecessor that a lower maxAge ended is not missing, on the host or elsewhere', () => {
    const lowered = { maxAge: 3 * 86_400, reuseWindow: 0 };
    const newest = { ...follower(4 * day, now + 3 * day), ...lowered };
    for (const own of [true, false])
      assert.deepEqual(plan({ own, configured: lowered, snapshots: [newest] }).problems, []);
  });
  test('a predecessor by a clock that was set back since is not missing', () => {
    for (const [laterMs, problems] of [
      [5 * 60_000, 1],
      [5 * 60_000 + 1, 0],
      [365 * day, 0],
    ] as const)
      assert.equal(plan({ snapshots: [follower(day - laterMs)] }).problems.length, problems);
  });
  test('a gap in the sequence counts as long as what is missing may be live', () => {
    const before = snapshot('b', now - 2 * day, { sequence: 4 });
    const after = (sequence: number) =>
      snapshot('c', now - day, {
        sequence,
        previous: { snapshot: 'b', startedMs: before.startedMs, expiresMs: now + 5 * day },
      });
    assert.equal(plan({ snapshots: [before, after(6)] }).problems.length, 1);
    assert.equal(plan({ snapshots: [before, after(5)] }).problems.length, 0);
    assert.equal(plan({ snapshots: [before, after(4)] }).problems.length, 1, 'nor may it go back');
  });
  for (const [age, closed] of [
    [3 * day - 1, true],
    [3 * day, false],
  ] as const)
    test(`a gap before one that is ${3 * day - age} ms from the end that maxAge has now ${closed ? 'counts' : 'does not'}`, () => {
      const before = snapshot('b', now - 4 * day, { sequence: 4 });
      const after = snapshot('c', now - age, {
        sequence: 6,
        previous: { snapshot: 'b', startedMs: before.startedMs, expiresMs: now + 3 * day },
      });
      // Whoever lowered maxAge has pruned by it: the newest snapshot tells.
      const newest = snapshot('d', now - hour, { maxAge: 3 * 86_400 });
      const problems = plan({ own: false, snapshots: [before, after, newest] }).problems;
      assert.equal(problems.length, closed ? 1 : 0);
    });
});

describe('R8: deleted means every version and marker', () => {
  test('of an index that ends', () => {
    const objects = [
      index('a', now, true),
      index('a', now - day),
      index('a', now - 8 * day),
      segment('a', '1', now, true),
      segment('a', '1', now - grace),
    ];
    assert.equal(deleted({ snapshots: [snapshot('a', now - 7 * day)], objects }).length, 5);
  });
  test('a marker stays as long as there is something under it, and goes when nothing is', () => {
    const young = [segment('a', '1', now - day, true), segment('a', '1', now - day)];
    assert.deepEqual(deleted({ objects: young }), []);
    assert.deepEqual(deleted({ objects: [segment('a', '1', now, true)] }), ['a/1']);
    assert.deepEqual(deleted({ objects: [index('a', now, true)] }), ['a/index']);
  });
  test('each version of what nobody names goes by its own age, of what is named none', () => {
    const objects = [segment('a', '1', now - day), segment('a', '1', now - grace)];
    assert.deepEqual(
      plan({ objects }).objects.map(({ object }) => object.modifiedMs),
      [now - grace],
    );
    assert.deepEqual(
      deleted({ objects, snapshots: [snapshot('b', now - day, { names: names('a/1') })] }),
      [],
    );
  });
});

describe('R9: what is dated in the future does not count, and is reported', () => {
  for (const [ahead, counts] of [
    [futureToleranceMs, true],
    [futureToleranceMs + 1, false],
  ] as const)
    test(`${ahead} ms ahead it ${counts ? 'counts' : 'does not'}`, () => {
      const result = plan({
        snapshots: [snapshot('f', now + ahead, { names: names('a/1') })],
        objects: [segment('a', '1', now - grace)],
      });
      assert.equal(result.problems.length, counts ? 0 : 1);
      assert.equal(result.objects.length, counts ? 0 : 1);
    });
  test('an unreadable one in the future does not hold the others back', () => {
    const unreadable = [{ snapshot: 'x', startedMs: now + day, modifiedMs: now }];
    assert.deepEqual(plan({ unreadable }).problems, []);
  });
  for (const [ahead, counts] of [
    [futureToleranceMs, true],
    [futureToleranceMs + 1, false],
  ] as const)
    test(`an unreadable one ${ahead - futureToleranceMs} ms beyond what clocks may differ by ${counts ? 'counts' : 'does not'}`, () => {
      const unreadable = [{ snapshot: 'x', startedMs: now + ahead, modifiedMs: now }];
      assert.equal(plan({ unreadable }).problems.length, counts ? 1 : 0);
    });
  test('one whose index was written A ago goes, whatever date it claims', () => {
    const claimed = snapshot('f', now + day, { modifiedMs: now - 7 * day });
    assert.equal(plan({ snapshots: [claimed] }).snapshots.length, 1);
  });
});

test('a million objects are planned in a few seconds', () => {
  const snapshots: PlannedSnapshot[] = [];
  const objects: PlannedObject[] = [];
  for (let i = 0; i < 84; i++) {
    const all: { folder: string; id: string }[] = [];
    const startedMs = now - (i + 1) * 2 * hour;
    for (let j = 0; j < 12_000; j++) {
      const id = (i * 12_000 + j).toString(16).padStart(32, '0');
      objects.push(segment(`s${i}`, id, startedMs));
      all.push({ folder: `s${i}`, id });
    }
    snapshots.push(snapshot(`s${i}`, startedMs, { names: all }));
  }
  const started = performance.now();
  const { objects: gone } = plan({ snapshots, objects });
  assert.equal(gone.length, 12_000, 'the oldest snapshot has just ended');
  assert.ok(performance.now() - started < 60_000, 'not quadratic; the bench has the real limit');
});
