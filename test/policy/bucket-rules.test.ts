import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { LifecycleRule } from '@aws-sdk/client-s3';
import {
  backstopDays,
  deletingLiveData,
  judgeBucket,
  lockTooLong,
  longestLockSeconds,
  wantedLifecycle,
  type BucketFacts,
  type BucketSubject,
} from '../../src/policy/bucket-rules.ts';

const hour = 3600;
const day = 24 * hour;

const subject: BucketSubject = {
  address: 's3://b/jabber/',
  prefix: 'jabber/',
  hosts: ['h1', 'h2'],
  maxAge: 7 * day,
  reuseWindow: 26 * hour,
};
/** A + W of exactly eight days. */
const eight: BucketSubject = { ...subject, reuseWindow: day };

const rule = (change: Partial<LifecycleRule>): LifecycleRule => ({
  ID: 'theirs',
  Status: 'Enabled',
  ...change,
});
const expiring = (Days: number, Filter: LifecycleRule['Filter'] = { Prefix: '' }): LifecycleRule =>
  rule({ Filter, Expiration: { Days } });

const daysFor = (seconds: number): number => backstopDays({ maxAge: seconds, reuseWindow: 0 });

test('the backstop is a day more than the longest life, in whole days', () => {
  assert.equal(backstopDays(subject), 10);
  assert.equal(backstopDays(eight), 9);
  assert.deepEqual([8 * day - 1, 8 * day, 8 * day + 1].map(daysFor), [9, 9, 10]);
});

suite('the wanted rules', () => {
  test('are two for every host', () => {
    const filter = { Prefix: 'jabber/h1/snap/' };
    assert.deepEqual(wantedLifecycle([], { ...subject, hosts: ['h1'] }, true), [
      {
        ID: 'sealift-jabber/h1',
        Status: 'Enabled',
        Filter: filter,
        Expiration: { Days: 10 },
        NoncurrentVersionExpiration: { NoncurrentDays: 10 },
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
      },
      {
        ID: 'sealift-jabber/h1.markers',
        Status: 'Enabled',
        Filter: filter,
        Expiration: { ExpiredObjectDeleteMarker: true },
      },
    ]);
  });

  test('say nothing of versions to a store that knows none', () => {
    assert.deepEqual(wantedLifecycle([], { ...subject, prefix: '', hosts: ['h1'] }, false), [
      {
        ID: 'sealift-h1',
        Status: 'Enabled',
        Filter: { Prefix: 'h1/snap/' },
        Expiration: { Days: 10 },
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
      },
    ]);
  });

  test('leave foreign rules as they are, those of stores with another prefix and lookalikes included', () => {
    const foreign = [
      'theirs',
      undefined,
      'sealift-h1',
      'sealift-other/h1',
      'sealift-jabber/UPPER',
      'sealift-jabber/h1.x',
    ];
    const present = foreign.map((ID) => ({ ...expiring(3, { Prefix: 'logs/' }), ID }));
    const wanted = wantedLifecycle(present, subject, true);
    assert.deepEqual(wanted.slice(0, foreign.length), present);
    assert.equal(wanted.length, foreign.length + 4);
  });

  test('are the same when they are there already, and follow new limits', () => {
    const first = wantedLifecycle([expiring(30)], subject, true);
    assert.deepEqual(wantedLifecycle(first, subject, true), first);
    const longer = wantedLifecycle(first, { ...subject, maxAge: 8 * day }, true);
    assert.deepEqual(
      longer.map(({ Expiration }) => Expiration?.Days),
      [30, 11, undefined, 11, undefined],
    );
  });

  test('of another host stay as they are, whatever limits ours has', () => {
    const first = wantedLifecycle([], { ...subject, maxAge: 60 * day }, true);
    const [one, ...others] = subject.hosts;
    const ours = { ...subject, hosts: [one!] };
    const rules = wantedLifecycle(first, ours, true);
    const daysOf = (host: string) => rules.find(({ ID }) => ID?.endsWith(`/${host}`))?.Expiration?.Days;
    assert.deepEqual([daysOf(one!), daysOf(others[0]!)], [10, 63]);
  });

  test('leave nothing to be said, and delete nothing that lives', () => {
    for (const versions of [true, false])
      for (const limits of [subject, eight, { ...subject, maxAge: day, reuseWindow: 0 }]) {
        const lifecycle = { value: wantedLifecycle([], limits, versions) };
        const versioning = { value: versions ? ('Enabled' as const) : ('off' as const) };
        assert.deepEqual(judgeBucket({ ...good, lifecycle, versioning }, limits), []);
      }
  });
});

const deletes = (one: LifecycleRule, of = eight): boolean => deletingLiveData([one], of).length > 0;

suite('a rule deletes live data', () => {
  const cases: [string, boolean, LifecycleRule][] = [
    ['a day too early', true, expiring(7)],
    ['on the last day that counts', false, expiring(8)],
    ['that is switched off', false, { ...expiring(1), Status: 'Disabled' }],
    [
      'without an expiration',
      false,
      rule({ Filter: {}, NoncurrentVersionExpiration: { NoncurrentDays: 1 } }),
    ],
    [
      'of lone deletion markers',
      false,
      rule({ Filter: {}, Expiration: { ExpiredObjectDeleteMarker: true } }),
    ],
    ['on a date', true, rule({ Filter: {}, Expiration: { Date: new Date('2099-01-01') } })],
    ['without any filter', true, rule({ Expiration: { Days: 1 } })],
    ['with a prefix of the old form', true, rule({ Prefix: 'jab', Expiration: { Days: 1 } })],
    ['with another prefix of the old form', false, rule({ Prefix: 'logs/', Expiration: { Days: 1 } })],
    ['for the whole store', true, expiring(1, { Prefix: 'jabber/' })],
    ['for one host', true, expiring(1, { Prefix: 'jabber/h1/' })],
    ['for a name that begins as a host does', true, expiring(1, { Prefix: 'jabber/h' })],
    ['for some snapshots of one host', true, expiring(1, { Prefix: 'jabber/h2/snap/2026' })],
    ['for another host', false, expiring(1, { Prefix: 'jabber/h3/' })],
    ['for a longer name than the host has', false, expiring(1, { Prefix: 'jabber/h11' })],
    ['for the keys of a host, which are written again', false, expiring(1, { Prefix: 'jabber/h1/keys/' })],
    ['for objects with a tag', false, expiring(1, { Tag: { Key: 'k', Value: 'v' } })],
    ['for tags and a prefix', false, expiring(1, { And: { Prefix: '', Tags: [{ Key: 'k', Value: 'v' }] } })],
    ['for a prefix and no tags', true, expiring(1, { And: { Prefix: 'jabber/', Tags: [] } })],
    [
      'for another prefix and a size',
      false,
      expiring(1, { And: { Prefix: 'logs/', ObjectSizeGreaterThan: 1 } }),
    ],
    [
      'for a prefix and a size',
      true,
      expiring(1, { And: { Prefix: 'jabber/', ObjectSizeLessThan: 2 ** 20 } }),
    ],
    ['for larger objects than we write', false, expiring(1, { ObjectSizeGreaterThan: 5 * 2 ** 30 })],
    ['for objects of the largest size', true, expiring(1, { ObjectSizeGreaterThan: 5 * 2 ** 30 - 1 })],
    ['for empty objects', false, expiring(1, { ObjectSizeLessThan: 1 })],
  ];
  for (const [name, expected, one] of cases)
    test(`${expected ? 'if it deletes' : 'but not one'} ${name}`, () => assert.equal(deletes(one), expected));

  test('ours included, where it was made for shorter limits', () => {
    const ours = wantedLifecycle([], eight, true);
    const longer = { ...eight, maxAge: 9 * day };
    assert.deepEqual(deletingLiveData(ours, eight), []);
    assert.deepEqual(deletingLiveData(ours, { ...eight, maxAge: 8 * day }), []);
    const [first, ...more] = deletingLiveData(ours, longer);
    assert.deepEqual([first?.id, more.length], ['sealift-jabber/h1', 1]);
    assert.match(first?.reason ?? '', /objects of h1 after 9 days; they are needed for 10d /);
  });

  test('what is ours is written anew by apply, and what is not has to be changed by whoever made it', () => {
    const remedies = (present: LifecycleRule[]) =>
      deletingLiveData(present, { ...eight, maxAge: 9 * day }).map(({ remedy }) => remedy);
    const ours = remedies(wantedLifecycle([], eight, true));
    assert.ok(ours.length > 0);
    for (const remedy of ours)
      assert.match(
        remedy,
        /raised since, run `sealift bucket apply` with .* that host; if they were lowered/,
      );
    const others = wantedLifecycle([], { ...eight, hosts: ['h3'] }, true).map((one) => ({
      ...one,
      Filter: { Prefix: 'jabber/' },
    }));
    for (const present of [[expiring(3)], others]) {
      assert.match(remedies(present).join(), /^Change or remove the rule/);
      assert.doesNotMatch(remedies(present).join(), /apply/);
    }
  });

  test('as soon as its days are a second too few', () => {
    assert.ok(!deletes(expiring(8), { ...eight, maxAge: 7 * day }));
    assert.ok(deletes(expiring(8), { ...eight, maxAge: 7 * day + 1 }));
  });
});

const good: BucketFacts = {
  lifecycle: { value: wantedLifecycle([], subject, true) },
  versioning: { value: 'Enabled' },
  lock: { value: undefined },
  publicBy: { value: [] },
};
const saidOf = (change: Partial<BucketFacts>, of = subject): string[] =>
  judgeBucket({ ...good, ...change }, of).map(
    ({ severity, subject, message }) => `${severity} ${subject}: ${message}`,
  );

const full = (days: number, change: Partial<LifecycleRule> = {}): LifecycleRule =>
  rule({
    Filter: { Prefix: 'jabber/' },
    Expiration: { Days: days },
    NoncurrentVersionExpiration: { NoncurrentDays: 10 },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: 10 },
    ...change,
  });

const saidOfH1 = (one: LifecycleRule): string =>
  saidOf({ lifecycle: { value: [one] } }).find((text) => text.startsWith('warning h1: ')) ?? '';

suite('a missing backstop is a warning:', () => {
  const cases: [string, LifecycleRule, RegExp | undefined][] = [
    ['one that comes in time', full(10), undefined],
    ['one that comes earlier', full(9), undefined],
    ['one that comes a day late', full(11), /its objects within 10 days/],
    [
      'one that is switched off',
      full(10, { Status: 'Disabled' }),
      /its objects, older versions, unfinished uploads/,
    ],
    ['one for tags', full(10, { Filter: { Tag: { Key: 'k', Value: 'v' } } }), /its objects/],
    ['one for large objects', full(10, { Filter: { ObjectSizeGreaterThan: 1 } }), /its objects/],
    ['one for objects of any size', full(10, { Filter: { ObjectSizeGreaterThan: 0 } }), undefined],
    ['one for some snapshots', full(10, { Filter: { Prefix: 'jabber/h1/snap/2' } }), /its objects/],
    ['one on a date', full(0, { Expiration: { Date: new Date('2026-01-01') } }), /its objects/],
    [
      'older versions late',
      full(10, { NoncurrentVersionExpiration: { NoncurrentDays: 11 } }),
      /its older versions/,
    ],
    [
      'some older versions kept for ever',
      full(10, { NoncurrentVersionExpiration: { NoncurrentDays: 1, NewerNoncurrentVersions: 1 } }),
      /its older versions/,
    ],
    [
      'uploads late',
      full(10, { AbortIncompleteMultipartUpload: { DaysAfterInitiation: 11 } }),
      /its unfinished uploads/,
    ],
  ];
  for (const [name, one, expected] of cases)
    test(name, () => {
      const said = saidOf({ lifecycle: { value: [one] } }).filter((text) => text.startsWith('warning h1: '));
      assert.equal(said.length, expected ? 1 : 0, said.join());
      if (expected) assert.match(said[0] ?? '', expected);
      if (expected) assert.match(said[0] ?? '', /sealift bucket apply/);
    });

  test('a part of our own rule that the store left out', () => {
    const ours = full(10, { ID: 'sealift-jabber/h1', Filter: { Prefix: 'jabber/h1/snap/' } });
    delete ours.AbortIncompleteMultipartUpload;
    assert.match(
      saidOfH1(ours),
      /no lifecycle rule deletes its unfinished uploads .* The store left that out/,
    );
    assert.doesNotMatch(saidOfH1(ours), /Run `sealift bucket apply`/);
    assert.match(
      saidOfH1({ ...ours, Expiration: { Days: 11 } }),
      /Run `sealift bucket apply`/,
      'of another maxAge',
    );
    assert.match(saidOfH1({ ...ours, Status: 'Disabled' }), /Run `sealift bucket apply`/);
  });

  test('none at all, for every host', () => {
    const said = saidOf({ lifecycle: { value: [] } });
    assert.deepEqual(
      said.map((text) => text.slice(0, 11)),
      ['warning h1:', 'warning h2:'],
    );
  });

  test('older versions do not matter where none are kept', () => {
    const value = wantedLifecycle([], subject, false);
    assert.deepEqual(saidOf({ lifecycle: { value }, versioning: { value: 'off' } }), []);
    assert.deepEqual(saidOf({ lifecycle: { value }, versioning: { unread: 'unknown' } }), []);
    for (const state of ['Enabled', 'Suspended'] as const)
      assert.equal(saidOf({ lifecycle: { value }, versioning: { value: state } }).length, 2);
  });
});

test('a rule that deletes live data breaks a promise, and the finding names the rule', () => {
  const [first, ...more] = judgeBucket(
    { ...good, lifecycle: { value: [expiring(3), ...wantedLifecycle([], subject, true)] } },
    subject,
  );
  assert.deepEqual([first?.severity, first?.subject, more], ['broken', 'lifecycle rule theirs', []]);
  assert.match(
    first?.message ?? '',
    /^it deletes objects of h1, h2 after 3 days; they are needed for 8d 2h /,
  );
});

const judgedLock = (lock: object) => saidOf({ lock: { value: lock } });

suite('a default lock', () => {
  test('may last for maxAge less the longest run and two hours, and not a second more', () => {
    // (7 d) - (70 h) - 2 h
    assert.equal(longestLockSeconds(subject), 96 * hour);
    assert.equal(lockTooLong(96 * hour, subject), undefined);
    assert.match(
      lockTooLong(96 * hour + 1, subject) ?? '',
      /at most 4d are possible: .*\(7d\) less the longest run \(2d 22h\) and 2h/,
    );
  });

  test('in days or years is judged as such', () => {
    assert.deepEqual(judgedLock({ Mode: 'GOVERNANCE', Days: 4 }), []);
    for (const lock of [
      { Mode: 'GOVERNANCE', Days: 5 },
      { Mode: 'COMPLIANCE', Days: 5 },
      { Mode: 'COMPLIANCE', Years: 1 },
    ])
      assert.match(judgedLock(lock).join(), /^broken default Object Lock: a lock of (5d|365d) keeps objects/);
  });

  test('that is not known is not held against the bucket', () => {
    for (const unread of ['denied', 'unknown'] as const) assert.deepEqual(saidOf({ lock: { unread } }), []);
  });
});

test('a public bucket breaks a promise, and one of which it may not be asked is a warning', () => {
  assert.match(
    saidOf({ publicBy: { value: ['its policy'] } }).join(),
    /^broken s3:\/\/b\/jabber\/: everybody .* by its policy\./,
  );
  assert.match(saidOf({ publicBy: { unread: 'denied' } }).join(), /^warning .*GetBucketPolicyStatus/);
  assert.deepEqual(saidOf({ publicBy: { unread: 'unknown' } }), []);
});

test('lifecycle rules that cannot be read are one warning', () => {
  assert.match(
    saidOf({ lifecycle: { unread: 'denied' } }).join('\n'),
    /^warning s3:.*s3:GetLifecycleConfiguration\.$/,
  );
  assert.match(
    saidOf({ lifecycle: { unread: 'unknown' } }).join('\n'),
    /^warning s3:.*knows no lifecycle rules.*$/,
  );
});
