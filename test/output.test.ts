import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { test } from 'node:test';
import { formatDuration, parseDuration, rfc3339 } from '../src/clock.ts';
import { Secret } from '../src/config/secrets.ts';
import { createLog, type LogOptions } from '../src/log.ts';
import { createOutput, formatSize, printable } from '../src/output.ts';

function lines(width?: number, colour = false): { out: ReturnType<typeof createOutput>; text: () => string } {
  const written: string[] = [];
  return {
    out: createOutput({ write: (text) => written.push(text), colour, width }),
    text: () => written.join(''),
  };
}

test('a table lines its columns up and ends no line with spaces', () => {
  const { out, text } = lines();
  out.table(
    [{ title: 'name' }, { title: 'size', align: 'right' }, { title: 'note' }],
    [
      ['a', '1', ''],
      ['long name', '1000', 'x'],
    ],
  );
  assert.equal(text(), 'name       size  note\na             1\nlong name  1000  x\n');
});

test('on a narrow terminal a column that may shrink is cut, and only there', () => {
  const rows = [['abcdefghij', 'klmnopqrst']];
  const columns = [{ title: 'a' }, { title: 'b', shrinkTo: 4 }];
  const narrow = lines(18);
  narrow.out.table(columns, rows);
  assert.equal(narrow.text(), 'a           b\nabcdefghij  klmno…\n');
  const pipe = lines();
  pipe.out.table(columns, rows);
  assert.match(pipe.text(), /klmnopqrst/);
});

test('colour changes no width', () => {
  const { out, text } = lines(undefined, true);
  out.table([{ title: 'a' }, { title: 'b' }], [[out.paint('bad', 'no'), 'x']]);
  // oxlint-disable-next-line no-control-regex
  assert.match(text(), /\u001B\[31mno\u001B\[39m {2}x/);
});

test('a document with a list is JSON whatever is in it, and one that cannot begin prints nothing', async () => {
  for (const items of [[], [{ a: 'x\n' }], [1, 'two', null]])
    for (const [head, rest] of [
      [{}, {}],
      [{ b: { c: [] } }, { d: 1 }],
    ]) {
      const { out, text } = lines();
      // oxlint-disable-next-line typescript/await-thenable
      const listed = (async function* () {
        yield* items;
      })();
      await out.jsonWithList(head!, 'list', listed, () => rest!);
      assert.deepEqual(JSON.parse(text()), { ...head, list: items, ...rest });
    }
  const { out, text } = lines();
  // oxlint-disable-next-line require-yield
  const broken = (async function* () {
    throw new Error('no key');
  })();
  await assert.rejects(
    out.jsonWithList({}, 'list', broken, () => ({})),
    /no key/,
  );
  assert.equal(text(), '');
});

test('a line with a list is one, and may be longer than any string', async () => {
  for (const items of [[], [1], [{ a: 'b' }, 'c']]) {
    const { out, text } = lines();
    await out.jsonLineWithList({ head: 1 }, 'list', items);
    assert.match(text(), /^[^\n]+\n$/);
    assert.deepEqual(JSON.parse(text()), { head: 1, list: items });
  }
  let [length, waiting] = [0, 0];
  const write = (text: string, taken?: () => void): boolean => {
    length += text.length;
    waiting++;
    assert.equal(waiting, 1);
    setImmediate(() => {
      waiting--;
      taken?.();
    });
    return false;
  };
  const item = 'x'.repeat(2 ** 24);
  const items = Array.from({ length: 40 }, () => item);
  await createOutput({ write, colour: false }).jsonLineWithList({ head: 1 }, 'list', items);
  assert.ok(length > constants.MAX_STRING_LENGTH);
});

test('an error is a line, and where a document has been begun its last member', async () => {
  const error = { type: 'error', code: 'verify-failed' };
  for (const items of [[], [1], [1, { a: 2 }]]) {
    const { out, text } = lines();
    // oxlint-disable-next-line typescript/await-thenable
    const broken = (async function* () {
      yield 'first';
      yield* items;
      throw new Error('damaged');
    })();
    await assert.rejects(
      out.jsonWithList({ head: 1 }, 'list', broken, () => ({})),
      /damaged/,
    );
    out.jsonError(error);
    assert.deepEqual(JSON.parse(text()), { head: 1, list: ['first', ...items], error });
  }
  const { out, text } = lines();
  await out
    .jsonWithList({}, 'list', (async function* () {})(), () => {
      throw new Error('problem');
    })
    .catch(() => out.jsonError(error));
  assert.deepEqual(JSON.parse(text()), { list: [], error });
  const whole = lines();
  await whole.out.jsonWithList({}, 'list', (async function* () {})(), () => ({}));
  whole.out.jsonError(error);
  assert.equal(whole.text().trimEnd().split('\n').at(-1), JSON.stringify(error));
});

test('sizes are given in binary units with two or three digits', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 KiB'],
    [1024, '1.0 KiB'],
    [10_240, '10 KiB'],
    [1_048_576, '1.0 MiB'],
    [658_505_728, '628 MiB'],
    [2 ** 50, '1.0 PiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatSize(bytes), text);
});

test('durations are given in their two largest units', () => {
  const cases: [number, string][] = [
    [0, '0s'],
    [59, '59s'],
    [60, '1m'],
    [3661, '1h 1m'],
    [86_400, '1d'],
    [90_061, '1d 1h'],
    [86_401, '1d'],
    [-3600, '-1h'],
  ];
  for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text);
});

test('durations are read in one unit, and nothing else is a duration', () => {
  const good: [unknown, number][] = [
    [0, 0],
    ['90s', 90],
    ['30m', 1800],
    ['26h', 93_600],
    ['7d', 604_800],
  ];
  for (const [text, seconds] of good) assert.equal(parseDuration(text), seconds);
  for (const text of [1, '', '7', 'd', '-1d', '1.5h', '1w', '1h 1m', null])
    assert.equal(parseDuration(text), undefined);
});

test('times have whole seconds', () => {
  assert.equal(rfc3339(new Date('2026-11-22T12:00:00.999Z')), '2026-11-22T12:00:00Z');
});

test('control characters from elsewhere do not reach the terminal', () => {
  assert.equal(printable('a\u001B[2Jb\u0007c\u202Ed\n'), 'ab\uFFFDc\uFFFDd\uFFFD');
});

function logged(options: Partial<LogOptions>, write: (log: ReturnType<typeof createLog>) => void): string {
  const written: string[] = [];
  const sink = { write: (line: string) => written.push(line) };
  write(createLog({ level: 'info', form: 'json', colour: false, sink, ...options }));
  return written.join('');
}

test('a log line is JSON with time, level and message', () => {
  const line = JSON.parse(logged({}, (log) => log.warn({ job: 'databases' }, 'slow'))) as Record<
    string,
    unknown
  >;
  assert.equal(line['level'], 'warn');
  assert.equal(line['msg'], 'slow');
  assert.equal(line['job'], 'databases');
  assert.match(String(line['time']), /^\d{4}-.*Z$/);
});

test('on a terminal a log line is one readable line', () => {
  const text = logged({ form: 'terminal' }, (log) => {
    log.info('done');
    log.warn({ job: 'web db', count: 2 }, 'slow');
    log.debug('not shown');
  });
  assert.match(text, /^\d\d:\d\d:\d\dZ done\n\d\d:\d\d:\d\dZ warning: slow \(job="web db" count=2\)\n$/);
});

test('in the journal every line of an entry has its priority, and no time, as the journal has its own', () => {
  const text = logged({ form: 'journal' }, (log) => {
    log.info('done');
    log.warn({ job: 'web' }, 'slow');
    log.error('this:\n<6>that');
  });
  assert.equal(text, '<6>done\n<4>warning: slow (job=web)\n<3>error: this:\n<3>          <6>that\n');
});

test('on a terminal a log line that names what is foreign neither steers it nor passes for another line', () => {
  const text = logged({ form: 'terminal' }, (log) =>
    log.warn({ key: 'a\u009B2J\u001B[2Jb' }, 'x\u001B[2Jy\n12:00:00 all is well'),
  );
  assert.match(text, /^\d\d:\d\d:\d\dZ warning: xy\n {10}12:00:00 all is well \(key=ab\)\n$/);
});

test('no secret is logged, whether it is a Secret or has a telling name', () => {
  for (const form of ['json', 'terminal', 'journal'] as const) {
    const text = logged({ form }, (log) => {
      log.info(
        { value: new Secret(() => 'geheim'), store: { secretAccessKey: 'geheim' }, password: 'geheim' },
        'x',
      );
    });
    assert.doesNotMatch(text, /geheim/);
    assert.match(text, /redacted/);
  }
});
