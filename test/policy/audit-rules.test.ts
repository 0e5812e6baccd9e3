import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type {
  AuditedObject,
  AuditedSnapshot,
  Finding,
  HostFacts,
  SeenSnapshot,
} from '../../src/policy/audit-facts.ts';
import { foreignObjects, judgeHost, judgeSample } from '../../src/policy/audit-rules.ts';
import { judgeStore, type StoreFacts } from '../../src/policy/audit-store.ts';

const hour = 3_600_000;
const day = 24 * hour;
const minute = 60_000;
const now = Date.parse('2026-11-22T12:00:00Z');
/** A, W, and what follows from them: 7 d and 26 h. */
const maxAge = 7 * 86_400;
const reuseWindow = 26 * 3600;
const grace = 97 * hour;
const ceiling = 7 * day + 26 * hour;
const late = 2 * hour;

const ada = { primary: 'A'.repeat(40), subkey: 'B'.repeat(40) };
const bob = { primary: 'C'.repeat(40), subkey: 'D'.repeat(40) };

const idAt = (ms: number, job = 'db', random = 'aaaaaa'): string =>
  `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z-${job}-${random}`;

type SnapshotChanges = Partial<AuditedSnapshot> & { age?: number };

/** A snapshot that began so long ago and is fine in every way; it names two objects in its own folder. */
function snapshotOf({ age = hour, ...changes }: SnapshotChanges = {}): AuditedSnapshot {
  const startedMs = now - age;
  const snapshot = changes.snapshot ?? idAt(startedMs, changes.job);
  return {
    snapshot,
    job: 'db',
    sequence: 1,
    sha256: `hash of ${snapshot}`,
    startedMs,
    finishedMs: startedMs,
    modifiedMs: startedMs,
    maxAge,
    reuseWindow,
    previous: undefined,
    schedule: '0 */2 * * *',
    intervalMs: 2 * hour,
    complete: true,
    recipients: [ada],
    folderRecipients: [ada],
    objects: ['one', 'two'].map((id) => ({ folder: snapshot, id, storedBytes: 100 })),
    ...changes,
  };
}

const previousOf = ({ snapshot, sha256, startedMs, maxAge }: AuditedSnapshot) => ({
  snapshot,
  sha256,
  startedMs,
  expiresMs: startedMs + maxAge * 1000,
});

/** A snapshot of which the one before it has ended long ago. */
const far: Pick<AuditedSnapshot, 'sequence' | 'previous'> = {
  sequence: 99,
  previous: { snapshot: 'long ago', sha256: 'any', startedMs: now - 4 * hour, expiresMs: now - hour },
};

/** Snapshots of one job, one for each age, each after the one before it. */
function chainOf(ages: readonly number[], changes: SnapshotChanges = {}): AuditedSnapshot[] {
  const chain: AuditedSnapshot[] = [];
  for (const [i, age] of ages.entries()) {
    const before = chain.at(-1);
    chain.push(snapshotOf({ age, sequence: i + 1, previous: before && previousOf(before), ...changes }));
  }
  return chain;
}

/** A segment of a folder, written so long ago. */
const segment = (folder: string, id: string, age: number, changes: Partial<AuditedObject> = {}) => ({
  key: `h1/snap/${folder}/s/${id}.zst.gpg`,
  folder,
  folderMs: now - age,
  segment: id,
  modifiedMs: now - age,
  sizeBytes: 100,
  marker: false,
  ...changes,
});

const indexObject = (folder: string, startedMs: number, modifiedMs = startedMs): AuditedObject => ({
  key: `h1/snap/${folder}/index.json.gpg`,
  folder,
  folderMs: startedMs,
  segment: undefined,
  modifiedMs,
  sizeBytes: 100,
  marker: false,
});

/** What lies in the folder of a snapshot, as it should. */
const storedBy = ({ snapshot, startedMs, modifiedMs, objects }: AuditedSnapshot): AuditedObject[] => [
  indexObject(snapshot, startedMs, modifiedMs),
  ...objects
    .filter(({ folder }) => folder === snapshot)
    .map(({ id, storedBytes }) => segment(snapshot, id, now - startedMs, { sizeBytes: storedBytes })),
];

interface Changes extends Partial<HostFacts> {
  /** Beside what the snapshots need. */
  readonly extra?: readonly AuditedObject[];
}

function factsOf({ extra = [], ...changes }: Changes = {}): HostFacts {
  const snapshots = changes.snapshots ?? [snapshotOf()];
  return {
    host: 'h1',
    nowMs: now,
    pinned: true,
    offered: [],
    snapshots,
    unreadable: [],
    objects: [...snapshots.flatMap(storedBy), ...extra],
    foreign: [],
    seen: new Map(),
    misdated: 0,
    allowed: [{ primary: ada.primary, subkeys: [ada.primary, ada.subkey] }],
    configured: { maxAge, reuseWindow },
    jobs: undefined,
    ...changes,
  };
}

const brief = (findings: readonly Finding[]): string[] =>
  findings.map(({ severity, rule, subject }) => `${severity} ${rule} ${subject}`);
const found = (changes: Changes = {}): string[] => brief(judgeHost(factsOf(changes)));

/** Nothing at the limit, and these findings a millisecond beyond it. */
function limit(at: (beyond: number) => Changes, ...findings: string[]): void {
  assert.deepEqual(found(at(0)), []);
  assert.deepEqual(found(at(1)), findings);
}

const live = snapshotOf();
const orphanFolder = idAt(now - grace - late);

test('a host that keeps its promises gives no finding', () => {
  assert.deepEqual(found(), []);
  assert.deepEqual(found({ snapshots: chainOf([6 * hour, 4 * hour, 2 * hour, 0]) }), []);
});

suite('what is past its end', () => {
  test('a snapshot may be there two hours beyond its end, and not longer', () => {
    const old = (age: number) => snapshotOf({ age, snapshot: idAt(now - 7 * day), sequence: 1 });
    limit(
      (beyond) => ({ snapshots: [old(7 * day + late + beyond), { ...live, ...far }] }),
      `broken expired-snapshot h1/snap/${idAt(now - 7 * day)}/index.json.gpg`,
      `broken expired-object h1/snap/${idAt(now - 7 * day)}/`,
    );
  });

  test('its age counts from the time of its index, if that is earlier', () => {
    limit(
      (beyond) => ({
        snapshots: [
          snapshotOf({ age: 7 * day, modifiedMs: now - 7 * day - late - beyond, objects: [] }),
          { ...live, ...far },
        ],
      }),
      `broken expired-snapshot h1/snap/${idAt(now - 7 * day)}/index.json.gpg`,
    );
  });

  test('an older version of an index counts as the snapshot that it is', () => {
    const old = snapshotOf({ age: 8 * day, objects: [] });
    const again = { ...indexObject(old.snapshot, old.startedMs), latest: false };
    const findings = judgeHost(factsOf({ snapshots: [old, { ...live, ...far }], extra: [again] }));
    assert.match(findings[0]?.message ?? '', /\(2 versions\)/);
  });

  test('an index that cannot be read ends when its name and its time both say so', () => {
    const folder = idAt(now - 8 * day);
    limit(
      (beyond) => ({
        unreadable: [
          {
            snapshot: folder,
            startedMs: now - 8 * day,
            modifiedMs: now - 7 * day - late - beyond,
            reason: 'it is torn',
          },
        ],
        extra: [indexObject(folder, now - 8 * day, now - 7 * day - late - beyond)],
        snapshots: [live],
      }),
      `broken expired-snapshot h1/snap/${folder}/index.json.gpg`,
    );
  });

  test('an object that nobody names may be there for the grace and two hours', () => {
    limit(
      (beyond) => ({ extra: [segment(orphanFolder, 'x', grace + late + beyond)] }),
      `broken expired-object h1/snap/${orphanFolder}/s/x.zst.gpg`,
    );
  });

  test('the grace is that of the host, the largest of its live snapshots', () => {
    // (14 d + 26 h) / 2
    const longer = { ...live, ...far, maxAge: 14 * 86_400 };
    limit(
      (beyond) => ({
        configured: { maxAge: 14 * 86_400, reuseWindow: 26 * 3600 },
        snapshots: [snapshotOf({ age: 2 * hour }), longer],
        extra: [segment(orphanFolder, 'x', 181 * hour + late + beyond)],
      }),
      `broken expired-object h1/snap/${orphanFolder}/s/x.zst.gpg`,
    );
  });

  test('on the host itself the limits of its configuration count as well, elsewhere those that it signed', () => {
    const configured = { maxAge: 14 * 86_400, reuseWindow: 26 * 3600 };
    const extra = [segment(orphanFolder, 'x', grace + late + 1)];
    const key = `h1/snap/${orphanFolder}/s/x.zst.gpg`;
    assert.deepEqual(found({ configured, extra, jobs: new Set(['db']) }), []);
    assert.deepEqual(found({ configured, extra }), [`broken expired-object ${key}`]);
  });

  test('where nothing is live, those of the last snapshots count', () => {
    const long = { maxAge: 14 * 86_400 };
    const ended = snapshotOf({ age: 15 * day, objects: [], ...long });
    const extra = [segment(orphanFolder, 'x', grace + late + 1)];
    assert.deepEqual(found({ snapshots: [ended], extra }), [
      `broken expired-snapshot h1/snap/${ended.snapshot}/index.json.gpg`,
      'warning no-snapshots h1',
    ]);
  });

  test('an index that went away while it was to be read counts by its name', () => {
    const folder = idAt(now - 7 * day);
    limit(
      (beyond) => ({ extra: [indexObject(folder, now - 7 * day - late - beyond)] }),
      `broken expired-snapshot h1/snap/${folder}/index.json.gpg`,
    );
  });

  test('what a snapshot names that ended lately is no garbage yet', () => {
    const ending = (age: number) => snapshotOf({ age, snapshot: idAt(now - 7 * day) });
    const folder = ending(0).snapshot;
    assert.deepEqual(found({ snapshots: [ending(7 * day + late), { ...live, ...far }] }), []);
    assert.deepEqual(
      found({ extra: [segment(folder, 'one', 7 * day), segment(folder, 'two', 7 * day)] }),
      [`broken expired-object h1/snap/${folder}/`],
      'once its index is gone they are',
    );
  });

  test('an object older than A + W and two hours is broken, whatever names it', () => {
    const old = idAt(now - ceiling);
    const named = (beyond: number): Changes => ({
      snapshots: [{ ...live, objects: [{ folder: old, id: 'x', storedBytes: 100 }] }],
      extra: [segment(old, 'x', ceiling + late + beyond)],
    });
    limit(named, `broken expired-object h1/snap/${old}/s/x.zst.gpg`);
  });

  test('older versions of a named object count by their own age', () => {
    const older = segment(live.snapshot, 'one', ceiling + late + 1);
    assert.deepEqual(found({ extra: [older] }), [`broken expired-object ${older.key}`]);
  });

  test('where an index cannot be read, unnamed objects are kept on purpose: a warning, until A + W', () => {
    const torn = {
      snapshot: idAt(now - 5 * day),
      startedMs: now - 5 * day,
      modifiedMs: now - 5 * day,
      reason: 'it is torn',
    };
    const at = (age: number) => found({ unreadable: [torn], extra: [segment(orphanFolder, 'x', age)] });
    const signature = `broken signature h1/snap/${torn.snapshot}/index.json.gpg`;
    const key = `h1/snap/${orphanFolder}/s/x.zst.gpg`;
    assert.deepEqual(at(ceiling + late), [signature, `warning expired-object ${key}`]);
    assert.deepEqual(at(ceiling + late + 1), [signature, `broken expired-object ${key}`]);
  });

  test('so are they where a predecessor is missing, or a number', () => {
    const extra = [segment(orphanFolder, 'x', grace + late + 1)];
    const kept = `warning expired-object h1/snap/${orphanFolder}/s/x.zst.gpg`;
    const [first, second] = chainOf([3 * hour, hour]);
    const chain = `broken chain ${index(second)}`;
    assert.deepEqual(found({ extra, snapshots: [second!] }), [chain, kept]);
    assert.deepEqual(found({ extra, snapshots: [first!, { ...second!, sequence: 3 }] }), [chain, kept]);
  });

  test('an index that cannot be read counts for that until it must have ended, by its name', () => {
    const at = (startedMs: number) =>
      found({
        unreadable: [{ snapshot: idAt(now - 7 * day), startedMs, modifiedMs: now, reason: 'torn' }],
        extra: [segment(orphanFolder, 'x', grace + late + 1)],
      }).find((line) => line.includes('expired-object'));
    const key = `expired-object h1/snap/${orphanFolder}/s/x.zst.gpg`;
    assert.equal(at(now - 7 * day + 1), `warning ${key}`);
    assert.equal(at(now - 7 * day), `broken ${key}`);
  });

  test('a deletion marker with nothing under it may be there for two hours', () => {
    limit(
      (beyond) => ({ extra: [segment(orphanFolder, 'x', late + beyond, { marker: true })] }),
      `broken leftover h1/snap/${orphanFolder}/s/x.zst.gpg`,
    );
  });

  test('many objects of one folder are one finding, which counts them', () => {
    const extra = ['x', 'y', 'z'].map((id) => segment(orphanFolder, id, 5 * day));
    const [finding, ...more] = judgeHost(factsOf({ extra }));
    assert.deepEqual(more, []);
    assert.equal(finding?.subject, `h1/snap/${orphanFolder}/`);
    assert.match(
      finding?.message ?? '',
      /^3 objects, the oldest written on 2026-11-17T12:00:00Z; .*sealift prune/,
    );
  });
});

suite('what must be there', () => {
  const without = (changed: readonly AuditedObject[]): string[] =>
    found({ objects: [indexObject(live.snapshot, live.startedMs), ...changed] });
  const key = (id: string) => `h1/snap/${live.snapshot}/s/${id}.zst.gpg`;
  const one = segment(live.snapshot, 'one', hour);
  const two = segment(live.snapshot, 'two', hour);

  test('a missing object, and one with another size', () => {
    assert.deepEqual(without([one]), [`broken presence ${key('two')}`]);
    for (const sizeBytes of [99, 101])
      assert.deepEqual(without([one, { ...two, sizeBytes }]), [`broken presence ${key('two')}`]);
    assert.deepEqual(without([]), [`broken presence h1/snap/${live.snapshot}/`]);
  });

  test('any version of the right size will do; that another was laid over it is a warning', () => {
    assert.deepEqual(without([one, { ...two, sizeBytes: 7 }, two]), [`warning presence ${key('two')}`]);
    assert.deepEqual(without([one, two, { ...two, sizeBytes: 7 }]), []);
    assert.deepEqual(without([one, two, two]), []);
    const index = indexObject(live.snapshot, live.startedMs);
    assert.deepEqual(found({ objects: [{ ...index, sizeBytes: 7 }, index, one, two] }), [
      `warning presence ${index.key}`,
    ]);
    assert.deepEqual(found({ objects: [index, index, one, two] }), []);
    const ended = snapshotOf({ age: 7 * day });
    const objects = [
      { ...two, sizeBytes: 7, folder: ended.snapshot },
      { ...two, folder: ended.snapshot },
    ];
    const presence = found({ extra: objects }).filter((line) => line.includes('presence'));
    assert.deepEqual(presence, [], 'nobody needs it');
  });

  test('a marker is no object; over one it is a warning, over the index of a live snapshot it hides it', () => {
    const marker = { ...two, marker: true, modifiedMs: now };
    assert.deepEqual(without([one, marker]), [`broken presence ${key('two')}`]);
    assert.deepEqual(without([one, marker, two]), [`warning presence ${key('two')}`]);
    const index = indexObject(live.snapshot, live.startedMs);
    assert.deepEqual(found({ objects: [{ ...index, marker: true, modifiedMs: now }, index, one, two] }), [
      `broken presence ${index.key}`,
    ]);
  });

  test('a snapshot that has ended needs nothing, from the minute of its end', () => {
    const at = (age: number) => {
      const old = snapshotOf({ age, snapshot: idAt(now - 7 * day), objects: live.objects.slice(0, 1) });
      return found({
        snapshots: [old, { ...live, ...far, objects: [] }],
        objects: [old, { ...live, objects: [] }].map((s) => indexObject(s.snapshot, s.startedMs)),
      });
    };
    assert.deepEqual(at(7 * day), []);
    assert.deepEqual(
      at(7 * day - 1).filter((finding) => finding.includes('presence')),
      [`broken presence ${key('one')}`],
    );
  });
});

const seen = (changes: Partial<SeenSnapshot> = {}): Pick<HostFacts, 'seen'> => ({
  seen: new Map([
    [
      'db',
      {
        sequence: 1,
        snapshot: live.snapshot,
        sha256: live.sha256,
        startedMs: now - day,
        endsMs: now + 1,
        ...changes,
      },
    ],
  ]),
});

const index = (snapshot: AuditedSnapshot | undefined) => `h1/snap/${snapshot?.snapshot}/index.json.gpg`;

/** What is found wrong with the chain alone. */
const chainIn = (snapshots: AuditedSnapshot[]): string[] =>
  found({ snapshots }).filter((line) => line.includes('chain'));

suite('signatures and history', () => {
  test('a host without a pinned key cannot be judged, whatever else there is', () => {
    const facts = factsOf({
      pinned: false,
      offered: ['F'.repeat(40)],
      extra: [segment(orphanFolder, 'x', 9 * day)],
    });
    const [finding, ...more] = judgeHost(facts);
    assert.deepEqual(more, []);
    assert.deepEqual(brief([finding!]), ['broken signature h1']);
    assert.match(finding!.message, /sealift keys trust F{40}$/);
    const [unnamed] = judgeHost({ ...facts, offered: [] });
    assert.match(unnamed!.message, /copy keys\/hosts\/h1\.asc from the host/);
  });

  test('a folder that holds nothing of ours is no host', () => {
    assert.deepEqual(found({ pinned: false, snapshots: [], objects: [], foreign: ['h1/cat.jpg'] }), [
      'warning foreign-object h1/cat.jpg',
    ]);
  });

  test('an index that cannot be verified is broken until it is past', () => {
    const torn = {
      snapshot: idAt(now - day),
      startedMs: now - day,
      modifiedMs: now - 7 * day,
      reason: 'torn',
    };
    const at = (startedMs: number) => found({ unreadable: [{ ...torn, startedMs }] });
    assert.deepEqual(at(now - 7 * day + 1), [`broken signature h1/snap/${torn.snapshot}/index.json.gpg`]);
    assert.deepEqual(at(now - 7 * day), []);
  });

  test('a predecessor may be gone from its end on', () => {
    const [first, second] = chainOf([7 * day, hour], { intervalMs: 7 * day });
    const gone = (startedMs: number) =>
      found({
        snapshots: [
          { ...second!, previous: { ...previousOf(first!), startedMs, expiresMs: startedMs + 7 * day } },
        ],
      });
    assert.deepEqual(gone(now - 7 * day), []);
    assert.deepEqual(gone(now - 7 * day + 1), [`broken chain ${index(second)}`]);
  });

  test('where maxAge was lowered, a predecessor may be gone by the new one', () => {
    const [first, second] = chainOf([3 * day, hour], { intervalMs: 7 * day });
    const newer = { ...second!, maxAge: 3 * 86_400, previous: previousOf(first!) };
    assert.deepEqual(found({ snapshots: [newer] }), []);
    const younger = { ...newer, previous: { ...newer.previous, startedMs: now - 3 * day + 1 } };
    assert.deepEqual(found({ snapshots: [younger] }), [`broken chain ${index(second)}`]);
    // The newest one tells; on the host, its configuration may know it before any snapshot does.
    const older = { ...second!, previous: previousOf(first!) };
    const after = snapshotOf({ age: 0, ...far, job: 'web', maxAge: 3 * 86_400 });
    assert.deepEqual(found({ snapshots: [older] }), [`broken chain ${index(second)}`]);
    assert.deepEqual(found({ snapshots: [older, after] }), []);
    const lowered = { configured: { maxAge: 3 * 86_400, reuseWindow }, jobs: new Set(['db']) };
    assert.deepEqual(
      found({ snapshots: [older], ...lowered }).filter((line) => line.includes('chain')),
      [],
    );
  });

  test('a predecessor by a clock that was set back since is dated wrongly, and not gone', () => {
    const [first, second] = chainOf([-365 * day, hour], { intervalMs: 7 * day });
    const chained = { ...second!, previous: previousOf(first!) };
    assert.deepEqual(chainIn([first!, chained]), []);
    assert.deepEqual(chainIn([chained]), []);
    assert.deepEqual(chainIn([{ ...first!, sha256: 'other' }, chained]), [`broken chain ${index(second)}`]);
  });

  test('an old index without the end of its predecessor is judged by its own maxAge', () => {
    const previous = { ...previousOf(snapshotOf({ age: 7 * day })), expiresMs: undefined };
    assert.deepEqual(found({ snapshots: [{ ...live, previous, intervalMs: 7 * day }] }), []);
    const younger = { ...previous, startedMs: previous.startedMs + 1 };
    assert.deepEqual(found({ snapshots: [{ ...live, previous: younger, intervalMs: 7 * day }] }), [
      `broken chain ${index(live)}`,
    ]);
  });

  test('a predecessor that was replaced, a number that is missing, and one that came twice', () => {
    const [first, second] = chainOf([3 * hour, hour]);
    const chain = [`broken chain ${index(second)}`];
    assert.deepEqual(found({ snapshots: [{ ...first!, sha256: 'other' }, second!] }), chain);
    assert.deepEqual(found({ snapshots: [first!, { ...second!, sequence: 3 }] }), chain);
    assert.deepEqual(found({ snapshots: [first!, { ...second!, sequence: 1 }] }), chain);
    const third = { ...first!, sequence: 3 };
    const back = { ...second!, sequence: 2, previous: previousOf(third) };
    assert.deepEqual(found({ snapshots: [third, back] }), [`warning chain ${index(first)}`, ...chain]);
    assert.deepEqual(
      found({ snapshots: [first!, { ...second!, job: 'web', sequence: 1, previous: undefined }] }),
      [],
    );
  });

  test('a predecessor that cannot be read is not missing as well', () => {
    const [first, second] = chainOf([3 * hour, hour]);
    const torn = { snapshot: first!.snapshot, startedMs: first!.startedMs, modifiedMs: now, reason: 'torn' };
    assert.deepEqual(found({ snapshots: [second!], unreadable: [torn] }), [
      `broken signature ${index(first)}`,
    ]);
  });

  test('the store may not be behind what was seen', () => {
    assert.deepEqual(found(seen()), []);
    assert.deepEqual(found(seen({ sequence: 2 })), ['broken rollback h1/db']);
    assert.deepEqual(found(seen({ sha256: 'other' })), ['broken rollback h1/db']);
  });

  test('what was seen must be there until its end, also where the host went on after the store was emptied', () => {
    const on = snapshotOf({ snapshot: idAt(now - hour, 'db', 'bbbbbb'), sequence: 2 });
    const anew = { ...seen(), snapshots: [{ ...on, previous: undefined }] };
    assert.deepEqual(found(anew), [`warning chain ${index(on)}`, 'broken rollback h1/db']);
    assert.deepEqual(found({ ...anew, ...seen({ endsMs: now }) }), [`warning chain ${index(on)}`]);
    const replaced = { ...live, sha256: 'other' };
    assert.deepEqual(found({ ...seen(), snapshots: [replaced, { ...on, previous: previousOf(replaced) }] }), [
      'broken rollback h1/db',
    ]);
    const torn = { snapshot: live.snapshot, startedMs: live.startedMs, modifiedMs: now, reason: 'torn' };
    assert.deepEqual(
      found({ ...seen(), unreadable: [torn], snapshots: [{ ...on, previous: previousOf(live) }] }),
      [`broken signature ${index(live)}`],
      'what cannot be read is there, and said of as such',
    );
  });

  test('a later snapshot that names none before it is a warning: the store may have been emptied', () => {
    const at = (sequence: number) => found({ snapshots: [{ ...live, sequence, previous: undefined }] });
    assert.deepEqual([at(1), at(2)], [[], [`warning chain ${index(live)}`]]);
  });

  test('what was seen may be gone from its end on, by its own or a lowered maxAge', () => {
    assert.deepEqual(found(seen({ sequence: 2, endsMs: now })), []);
    const lowered = { snapshots: [{ ...live, maxAge: 86_400 }] };
    assert.deepEqual(found({ ...seen({ sequence: 2 }), ...lowered }), []);
    assert.deepEqual(found({ ...seen({ sequence: 2, startedMs: now - day + 1 }), ...lowered }), [
      'broken rollback h1/db',
    ]);
  });

  test('a store that was emptied is behind, also where no key is pinned', () => {
    const empty = { ...seen(), snapshots: [], objects: [] };
    assert.deepEqual(found(empty), ['broken rollback h1/db', 'warning no-snapshots h1']);
    assert.deepEqual(found({ ...empty, pinned: false }), ['broken rollback h1/db']);
  });
});

suite('what is dated in the future', () => {
  test('a snapshot more than five minutes ahead is reported and does not count', () => {
    const at = (ahead: number): Changes => ({
      snapshots: [
        live,
        snapshotOf({ age: -ahead, snapshot: idAt(now + hour), sequence: 2, previous: previousOf(live) }),
      ],
    });
    limit((beyond) => at(5 * minute + beyond), `broken future h1/snap/${idAt(now + hour)}/`);
    const alone = at(5 * minute).snapshots!.slice(1);
    assert.deepEqual(found({ snapshots: alone }), [`broken chain ${index(alone[0])}`], 'it counts');
    assert.deepEqual(found({ snapshots: [at(hour).snapshots![1]!] }), [
      `broken future h1/snap/${idAt(now + hour)}/`,
      'warning no-snapshots h1',
    ]);
  });

  test('one that was seen before the clock was set back is there, and the store is not behind', () => {
    const ahead = snapshotOf({ age: -day, sequence: 2, previous: previousOf(live) });
    const next = snapshotOf({ age: 0, sequence: 3, previous: previousOf(ahead) });
    const { snapshot, sha256, startedMs } = ahead;
    const remembered = { sequence: 2, snapshot, sha256, startedMs, endsMs: startedMs + 7 * day };
    for (const snapshots of [
      [live, ahead],
      [live, next, ahead],
    ])
      assert.deepEqual(found({ snapshots, seen: new Map([['db', remembered]]) }), [
        `broken future h1/snap/${snapshot}/`,
      ]);
  });

  test('so is a folder without an index, and an object whose time is ahead', () => {
    const folder = idAt(now + hour);
    limit(
      (beyond) => ({ extra: [segment(folder, 'x', 0, { folderMs: now + 5 * minute + beyond })] }),
      `broken future h1/snap/${folder}/`,
    );
    limit(
      (beyond) => ({ extra: [segment(folder, 'x', -5 * minute - beyond, { folderMs: now })] }),
      `broken future h1/snap/${folder}/`,
    );
  });
});

/** The first of two runs took three hours. */
const slow = (age: number, finishedLaterMs = 0) => {
  const modifiedMs = now - age - hour + 3 * hour;
  return [
    snapshotOf({ age: age + hour, finishedMs: modifiedMs + finishedLaterMs, modifiedMs }),
    snapshotOf({ age, ...far }),
  ];
};

const last = (age: number) => found({ snapshots: [snapshotOf({ age })] });

suite('freshness', () => {
  // Twice the interval of two hours, and a quarter of an hour.
  const patience = 4 * hour + 15 * minute;

  test('the newest snapshot may be as old as two intervals and a quarter of an hour', () => {
    limit((beyond) => ({ snapshots: [snapshotOf({ age: patience + beyond })] }), 'broken stale h1/db');
  });

  test('a schedule that was made slower since is signed by a backup, which is said', () => {
    const [stale] = judgeHost(factsOf({ snapshots: [snapshotOf({ age: patience + 1 })] }));
    assert.match(stale!.message, /its schedule is slower by now, `sealift backup` signs the new one/);
  });

  test('and as much older as the longest run took', () => {
    limit((beyond) => ({ snapshots: slow(patience + 3 * hour + beyond) }), 'broken stale h1/db');
  });

  test('a run took no longer than until the store had its index, whatever the host signed', () => {
    for (const laterMs of [0, day, 1000 * day])
      assert.deepEqual(found({ snapshots: slow(patience + 3 * hour + 1, laterMs) }), ['broken stale h1/db']);
  });

  test('between two snapshots may lie as much', () => {
    limit((beyond) => ({ snapshots: chainOf([patience + beyond, 0]) }), `broken gap h1/snap/${idAt(now)}/`);
  });

  test('what lived shorter, as maxAge was lowered for a while, leaves no gap before what is live', () => {
    const older = snapshotOf({ age: 2 * day });
    const after = (gapMs: number, expiresMs: number) => {
      const previous = { ...far.previous!, startedMs: live.startedMs - gapMs, expiresMs };
      return found({ snapshots: [older, { ...live, sequence: 9, previous }] });
    };
    assert.deepEqual(after(patience, now), []);
    assert.deepEqual(after(patience + 1, now), [`broken gap h1/snap/${live.snapshot}/`]);
    // One that is gone before its time proves nothing.
    assert.match(after(patience, now + 1).join(), /broken chain .*broken gap/);
    // By the numbers there was none in between.
    const lying = { ...far.previous!, startedMs: live.startedMs - patience, expiresMs: now };
    assert.deepEqual(found({ snapshots: [older, { ...live, sequence: 2, previous: lying }] }), [
      `broken gap h1/snap/${live.snapshot}/`,
    ]);
  });

  test('a gap does not end with the snapshot before it: the signed predecessor tells when that was', () => {
    const after = (gapMs: number, expiresMs: number) =>
      found({
        snapshots: [
          {
            ...live,
            sequence: 2,
            previous: { ...far.previous!, startedMs: live.startedMs - gapMs, expiresMs },
          },
        ],
      });
    assert.deepEqual(after(patience, now), []);
    // It may have had another schedule, which nobody can read any more.
    assert.deepEqual(after(patience + 1, now), [`warning gap h1/snap/${live.snapshot}/`]);
    assert.deepEqual(after(8 * day, live.startedMs - 15 * minute), [`warning gap h1/snap/${live.snapshot}/`]);
    // There was nothing to restore.
    assert.deepEqual(after(8 * day, live.startedMs - 15 * minute - 1), [
      `broken gap h1/snap/${live.snapshot}/`,
    ]);
  });

  test('a gap is judged by the slower of the two schedules', () => {
    const earlier = snapshotOf({ age: 2 * day, intervalMs: day, schedule: '0 3 * * *' });
    const later = snapshotOf({ age: hour, sequence: 2, previous: previousOf(earlier) });
    assert.deepEqual(found({ snapshots: [earlier, later] }), []);
  });

  test('jobs are judged each by itself', () => {
    assert.deepEqual(found({ snapshots: [snapshotOf({ age: 5 * hour, job: 'web' }), live] }), [
      'broken stale h1/web',
    ]);
  });

  test('on the host itself a job that is not configured any more may end', () => {
    const snapshots = [snapshotOf({ age: 5 * hour, job: 'web' }), live];
    assert.deepEqual(found({ snapshots, jobs: new Set(['db']) }), ['warning stale h1/web']);
    assert.deepEqual(found({ snapshots, jobs: new Set(['db', 'web']) }), ['broken stale h1/web']);
  });

  test('on the host itself a job that is configured and has nothing to restore is broken', () => {
    assert.deepEqual(found({ jobs: new Set(['db', 'web']) }), ['broken no-snapshots h1/web']);
    const none = { snapshots: [], objects: [] };
    assert.deepEqual(found({ ...none, jobs: new Set(['db']) }), ['broken no-snapshots h1/db']);
    assert.deepEqual(found({ ...none, jobs: new Set() }), ['warning no-snapshots h1']);
  });

  test('a host that died is stale until its last snapshot ends, and then has nothing', () => {
    assert.deepEqual(last(7 * day - 1), ['broken stale h1/db']);
    assert.deepEqual(last(7 * day), ['warning no-snapshots h1']);
  });

  test('a schedule that cannot be read, and a partial snapshot, are warnings', () => {
    assert.deepEqual(found({ snapshots: [{ ...live, intervalMs: undefined }] }), ['warning stale h1/db']);
    assert.deepEqual(found({ snapshots: [{ ...live, complete: false }] }), ['warning partial h1/db']);
  });
});

test('objects that are dated before the run that wrote them: ages prove nothing', () => {
  assert.deepEqual(found({ misdated: 1 }), ['broken clock h1']);
});

suite('recipients', () => {
  test('a stranger in any live snapshot is broken, named with how many', () => {
    const [first, second] = chainOf([3 * hour, hour]);
    const snapshots = [{ ...first!, recipients: [ada, bob] }, second!];
    const [finding, ...more] = judgeHost(factsOf({ snapshots }));
    assert.deepEqual(more, []);
    assert.deepEqual(brief([finding!]), ['broken recipients h1']);
    assert.match(finding!.message, /^1 live snapshot can be opened by key C{40}/);
  });

  test('so is one of a folder from which a snapshot takes objects, and another subkey', () => {
    assert.deepEqual(found({ snapshots: [{ ...live, folderRecipients: [ada, bob] }] }), [
      'broken recipients h1',
    ]);
    const recipients = [{ ...ada, subkey: 'E'.repeat(40) }];
    assert.deepEqual(found({ snapshots: [{ ...live, recipients }] }), ['broken recipients h1']);
  });

  test('the newest snapshot must be for everybody; older ones need not', () => {
    const allowed = [ada, bob].map(({ primary, subkey }) => ({ primary, subkeys: [subkey] }));
    const findings = judgeHost(factsOf({ allowed }));
    assert.deepEqual(brief(findings), ['broken recipients h1/db']);
    assert.match(findings[0]!.message, /recipients of the host, and run `sealift backup` there, or remove/);
    const [first, second] = chainOf([3 * hour, hour]);
    assert.deepEqual(found({ allowed, snapshots: [first!, { ...second!, recipients: [ada, bob] }] }), []);
  });

  test('without a list of them nothing is said of the host', () => {
    assert.deepEqual(found({ allowed: undefined, snapshots: [{ ...live, recipients: [bob] }] }), []);
  });
});

const keys = (count: number) => Array.from({ length: count }, (_, i) => `h1/x${i}`);

test('foreign objects are named, twenty one by one and then as a number', () => {
  assert.equal(foreignObjects('h1/', keys(20)).length, 20);
  const many = foreignObjects('h1/', keys(23));
  assert.equal(many.length, 21);
  assert.match(many[20]?.message ?? '', /^3 more/);
});

test('a sampled object must be what was signed, and sealed as it was', () => {
  const key = 'h1/x';
  assert.deepEqual(judgeSample([{ key, signed: true, problem: undefined }]), []);
  assert.deepEqual(brief(judgeSample([{ key, signed: false, problem: undefined }])), [
    'broken presence h1/x',
  ]);
  assert.deepEqual(brief(judgeSample([{ key, signed: true, problem: 'it is plain' }])), [
    'broken sealed h1/x',
  ]);
});

const store = (changes: Partial<StoreFacts> = {}): string[] =>
  brief(
    judgeStore({
      address: 's3://b',
      nowMs: now,
      clock: { verdict: 'fine', storeMs: now, localMs: now },
      unfinished: [],
      recipientProblems: [],
      ...changes,
    }),
  );

const write = (age: number | undefined, graceMs: number | undefined) =>
  store({ unfinished: [{ key: 'h1/up', startedMs: age === undefined ? undefined : now - age, graceMs }] });

suite('the store as a whole', () => {
  test('clocks apart are a warning, then broken; no time at all is broken, no right to ask a warning', () => {
    assert.deepEqual(store(), []);
    const clock = (verdict: 'warn' | 'refuse') => store({ clock: { verdict, storeMs: 0, localMs: now } });
    assert.deepEqual(clock('warn'), ['warning clock s3://b']);
    assert.deepEqual(clock('refuse'), ['broken clock s3://b']);
    assert.deepEqual(store({ clock: { verdict: 'none', reason: 'no Date' } }), ['broken clock s3://b']);
    assert.deepEqual(store({ clock: { verdict: 'denied', reason: 'no' } }), ['warning clock s3://b']);
  });

  test('an unfinished write may be there for the grace and two hours; a foreign one is named', () => {
    assert.deepEqual(write(grace + late, grace), []);
    assert.deepEqual(write(grace + late + 1, grace), ['broken leftover h1/up']);
    assert.deepEqual(write(late, undefined), []);
    assert.deepEqual(write(late + 1, undefined), ['warning foreign-object h1/up']);
    assert.deepEqual(write(undefined, grace), ['warning leftover h1/up']);
    assert.deepEqual(write(undefined, undefined), ['warning foreign-object h1/up']);
  });

  test('recipients that are not known are a warning', () => {
    assert.deepEqual(store({ recipientProblems: ['there is none'] }), ['warning recipients s3://b']);
  });
});

test('a host that signs more than this auditor was promised breaks the promise, by a second', () => {
  for (const [more, breaks] of [
    [{ maxAge: 7 * 86_400 + 1 }, true],
    [{ reuseWindow: 26 * 3600 + 1 }, true],
    [{}, false],
    [{ maxAge: 86_400 * 3 }, false],
  ] as const)
    assert.equal(
      found({ snapshots: [{ ...live, ...more }] }).some((line) => line.startsWith('broken promise h1/')),
      breaks,
      JSON.stringify(more),
    );
});

const promiseSaid = (...snapshots: AuditedSnapshot[]): string =>
  judgeHost(factsOf({ snapshots })).find(({ rule }) => rule === 'promise')!.message;

test('until the last of them has gone, also where the host has corrected it: then that is said', () => {
  const corrected =
    /corrected since: .* on 2026-11-29T08:00:00Z where prune .*, on 2026-12-06T08:00:00Z, and/;
  const [longer, kept] = chainOf([4 * hour, 2 * hour]) as [AuditedSnapshot, AuditedSnapshot];
  const more = { maxAge: 14 * 86_400 };
  assert.match(promiseSaid({ ...longer, ...more }, kept), corrected);
  assert.match(promiseSaid(longer, { ...kept, ...more }), /Correct retention on the host/);
  // A host may have gone below what is promised.
  const less = { ...kept, maxAge: 5 * 86_400 };
  assert.match(
    promiseSaid({ ...longer, ...more }, less),
    /corrected since: .* on 2026-11-27T08:00:00Z where prune/,
  );
  // What a host keeps to is the same for all of its jobs.
  assert.match(promiseSaid({ ...longer, ...more, job: 'old' }, kept), corrected);
});

test('and also beside a snapshot that keeps the promise, whatever its limits come to together', () => {
  const kept = snapshotOf({ age: 3 * hour });
  const longer = snapshotOf({
    maxAge: 8 * 86_400,
    reuseWindow: 3600,
    sequence: 2,
    previous: previousOf(kept),
  });
  for (const snapshots of [[longer], [kept, longer]])
    assert.deepEqual(
      found({ snapshots }).filter((line) => line.startsWith('broken promise')),
      ['broken promise h1/db'],
    );
});
