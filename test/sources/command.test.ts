import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { inspect } from 'node:util';
import { environment } from '../../src/config/environment.ts';
import { parseConfig } from '../../src/config/load.ts';
import { SealiftError } from '../../src/errors.ts';
import { openSource } from '../../src/sources/open.ts';
import type { SourceContext } from '../../src/sources/source.ts';
import { canary, watchForCanary } from '../support/canary.ts';
import { put } from '../support/temporary.ts';

const bin = join(import.meta.dirname, '../fixtures/bin');
const fixture = (name: string, ...args: string[]): string[] => [join(bin, name), ...args];
const never = new AbortController().signal;
const skip = process.geteuid?.() !== 0 && 'needs root';

let scratch = '';
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'sealift-command-'));
  chmodSync(scratch, 0o755);
});
after(() => rmSync(scratch, { recursive: true, force: true }));

interface Run extends SourceContext {
  readonly details: Record<string, unknown>[];
}

function newRun(signal: AbortSignal = never): Run {
  const details: Run['details'] = [];
  return {
    signal,
    details,
    problem: (code, text) => assert.fail(`${code}: ${text}`),
    detail: async (record) => void details.push(record),
    temporary: () => assert.fail('nothing is written to a disk'),
  };
}

/** What the source yields whose settings stand in a configuration file. */
async function save(settings: object, run = newRun()): Promise<{ file: string; text: string }> {
  const sources = [{ name: 'it', kind: 'command', ...settings }];
  const jobs = { j: { schedule: '0 3 * * *', sources } };
  const text = JSON.stringify({ store: { kind: 'directory', path: '/b' }, jobs });
  const config = parseConfig(join(scratch, 'sealift.yaml'), text, environment({ HOME: '/' }, scratch));
  const [stream, ...more] = await openSource(config.jobs[0]!.sources[0]!).streams(run);
  assert.ok(stream && more.length === 0);
  let out = '';
  // A chunk is good only until the next is asked for.
  for await (const chunk of stream.open(run)) out += Buffer.from(chunk).toString('latin1');
  return { file: stream.file, text: out };
}

const fails = async (
  settings: object,
  code: string,
  message: RegExp,
  hint = /(?:)/,
): Promise<SealiftError> => {
  const error = await save(settings).then(
    () => assert.fail('it succeeded'),
    (error: unknown) => error,
  );
  assert.ok(error instanceof SealiftError, inspect(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  assert.match(error.hint ?? '', hint);
  return error;
};

suite('a command', () => {
  test('is started without a shell, in its folder, and its output is one file of the given name', async () => {
    const odd = ['a b', '$HOME', '"', ';', '*', 'ü\n'];
    const saved = await save({ argv: fixture('ok', ...odd), file: 'all.archive' });
    assert.deepEqual(saved, {
      file: 'all.archive',
      text: Buffer.from(`${odd.join('\n')}\n`).toString('latin1'),
    });
    assert.equal((await save({ argv: ['pwd'] })).text, '/\n');
    assert.deepEqual(await save({ argv: ['pwd'], cwd: '.' }), { file: 'output', text: `${scratch}\n` });
  });

  test('may be a script that lies in its folder', async () => {
    put(join(scratch, 'dump.sh'), '#!/bin/sh\necho "dumped $1"\n', 0o755);
    assert.equal((await save({ argv: ['./dump.sh', 'it'], cwd: '.' })).text, 'dumped it\n');
  });

  test('runs as another user', { skip }, async () => {
    assert.equal((await save({ argv: ['id', '-un'], runAs: 'nobody' })).text, 'nobody\n');
    assert.equal((await save({ shell: 'id -un | cat', runAs: 'nobody' })).text, 'nobody\n');
    await fails({ argv: ['true'], runAs: 'no-such-user' }, 'config-invalid', /no user "no-such-user"/);
  });

  for (const [name, code, message] of [
    ['empty', 'source-empty', /^the output of empty is empty, although its program reported success$/],
    ['dies-midway', 'tool-failed', /^dies-midway was ended by SIGKILL$/],
    ['fails-at-the-end', 'tool-failed', /ended with status 1: the disk of the server is broken$/],
  ] as const)
    test(`that is "${name}" ends in ${code}`, () =>
      fails({ argv: fixture(name) }, code, message).then(() => {}));

  test('runs as another user with a PATH of its own', { skip }, async () => {
    put(join(scratch, 'own'), '#!/bin/sh\n/usr/bin/id -un\n', 0o755);
    const { text } = await save({ argv: ['own'], env: { PATH: scratch }, runAs: 'nobody' });
    assert.equal(text, 'nobody\n');
  });

  test('that its user may not start is told before it is started', { skip }, async () => {
    const script = put(join(scratch, 'private'), '#!/bin/sh\necho x\n', 0o700);
    assert.equal((await save({ argv: [script] })).text, 'x\n');
    await fails(
      { argv: [script], runAs: 'nobody' },
      'tool-failed',
      /private could not be started by the user nobody$/,
      /that user has to be able to read and execute it/,
    );
  });

  test('that floods its standard error is not held up, and its last word is told if it fails', async () => {
    assert.equal((await save({ argv: fixture('floods-stderr') })).text, 'PGDMP');
    const error = await fails({ argv: fixture('floods-stderr', '3') }, 'tool-failed', /the last word$/);
    assert.ok(error.message.length < 5000);
  });

  test('that hangs ends with the signal', async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('enough')), 200);
    const mark = `hangs-${process.pid}`;
    await assert.rejects(save({ argv: fixture('hangs', mark) }, newRun(abort.signal)), /enough/);
    const left = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && cmdlineOf(pid).includes(mark));
    assert.deepEqual(left, []);
  });

  test('that is missing, cannot be started, or has no folder to start in is told', async () => {
    await fails(
      { argv: ['sealift-no-such'] },
      'tool-missing',
      /sealift-no-such is not installed/,
      /whole path/,
    );
    await fails({ argv: ['./nothing'], cwd: '.' }, 'tool-missing', /\.\/nothing is not installed/);
    put(join(scratch, 'plain'), 'text', 0o644);
    await fails({ argv: [join(scratch, 'plain')] }, 'tool-failed', /plain could not be started/);
    await fails({ argv: ['true'], cwd: 'gone' }, 'config-invalid', /^cwd: .*\/gone is not there$/);
    await fails({ argv: ['true'], cwd: 'plain' }, 'config-invalid', /^cwd: .*\/plain is not a folder$/);
  });

  test('whose first line names what is not there is told before it is started', async () => {
    for (const [first, says, hint] of [
      ['#!/no/such/perl -w', /script cannot be started: .* "\/no\/such\/perl"/, /install it/],
      ['#! ./gone', /script cannot be started: .* "\.\/gone"/, /install it/],
      ['#!/bin/sh\r', /script cannot be started: .* "\/bin\/sh\\r"/, /Windows/],
      ['#!/usr/bin/env no-such-python', /script cannot be started: .* "no-such-python"/, /install it/],
      ['#!/usr/bin/env -S no-such-python -u', /script cannot be started: .* "no-such-python"/, /install it/],
    ] as const) {
      const script = put(join(scratch, 'script'), `${first}\necho x\n`, 0o755);
      await fails({ argv: [script] }, 'tool-missing', says, hint);
      await fails({ argv: ['script'], env: { PATH: scratch } }, 'tool-missing', says, hint);
    }
    const odd = join(scratch, 'café');
    symlinkSync('/bin/sh', odd);
    for (const first of [
      `#!${odd}`,
      '#!/bin/sh',
      '#! /bin/sh -e',
      '#!/usr/bin/env sh',
      '#!/usr/bin/env -S sh -e',
      '#!',
      'true',
    ]) {
      const script = put(join(scratch, 'script'), `${first}\necho x\n`, 0o755);
      assert.equal((await save({ argv: [script] })).text, 'x\n', first);
    }
  });

  test('says in the sealed details what was run', async () => {
    const run = newRun();
    await save({ argv: ['echo', 'x'] }, run);
    assert.deepEqual(JSON.parse(JSON.stringify(run.details)), [
      { type: 'command', source: 'it', argv: ['echo', 'x'] },
    ]);
  });
});

const print = (format: string): string[] => ['printf', format];

suite('what the output must be', () => {
  test('begins with the magic, byte for byte', async () => {
    const gzip = String.raw`\x1f\x8B`;
    assert.equal((await save({ argv: print(String.raw`\037\213\010`), magic: gzip })).text, '\x1F\x8B\b');
    await fails(
      { argv: print(String.raw`\037\212`), magic: gzip },
      'source-damaged',
      /does not begin as it should/,
    );
    await fails({ argv: print(String.raw`\037`), magic: gzip }, 'source-damaged', /does not begin/);
    // Nothing in it is a pattern.
    await save({ argv: print('.*[(+\\134 '), magic: String.raw`.*[(+\\ ` });
    await fails({ argv: print('abc'), magic: '.*' }, 'source-damaged', /does not begin/);
    await fails({ argv: print('\nPGDMP'), magic: 'PGDMP' }, 'source-damaged', /does not begin/);
  });

  test('a program that says "usage" and succeeds is no backup', () =>
    fails(
      { argv: fixture('something-else'), magic: 'PGDMP' },
      'source-damaged',
      /something-else does not begin/,
    ).then(() => {}));

  test('is at least as long as configured', async () => {
    await save({ argv: print('12345'), minBytes: 5 });
    await fails(
      { argv: print('1234'), minBytes: 5 },
      'source-damaged',
      /has only 4 bytes, less than 5, although/,
    );
  });
});

suite('a shell line', () => {
  test('is run by bash, with pipes and variables', async () => {
    const { text } = await save({ shell: 'echo one two | tr a-z A-Z; echo "${BASH_VERSION:+bash}"' });
    assert.equal(text, 'ONE TWO\nbash\n');
  });

  test('fails with any part of a pipe', async () => {
    const shell = `${bin}/fails-at-the-end | gzip`;
    await fails({ shell }, 'tool-failed', /^bash ended with status 1: the disk of the server is broken$/);
    await fails({ shell: `${bin}/dies-midway | cat` }, 'tool-failed', /status 137/);
    await fails(
      { shell: 'sealift-no-such | cat' },
      'tool-failed',
      /status 127: .*sealift-no-such.*not found/,
    );
  });

  test('fails with its first command that fails, with a variable that is not set, and in $()', async () => {
    await fails({ shell: 'cd /nonexistent; echo data' }, 'tool-failed', /nonexistent/);
    await fails({ shell: 'echo "$NOT_SET"' }, 'tool-failed', /NOT_SET/);
    await fails({ shell: 'x=$(false; echo y); echo "$x"' }, 'tool-failed', /status 1$/);
  });

  test('whose pipe ends early says what status 141 is', async () => {
    await fails({ shell: 'yes | head -c 100' }, 'tool-failed', /status 141$/, /was still writing/);
  });

  test('needs bash, and says so', async () => {
    await fails(
      { shell: 'echo', env: { PATH: scratch } },
      'tool-missing',
      /^bash is not installed/,
      /apt-get/,
    );
  });

  test('that hangs ends with the signal, every part of it', async () => {
    const mark = `600.${process.pid}7`;
    const shell = `echo; sleep ${mark} | sleep ${mark}`;
    await assert.rejects(save({ shell }, newRun(AbortSignal.timeout(300))), /timeout/);
    // What bash had started is signalled with it, but only init can wait for it.
    for (let i = 0; i < 100 && running(mark).length > 0; i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(running(mark), []);
  });
});

suite('a variable of its environment', () => {
  const secret = `${canary}-p4ss word`;

  test('reaches the program, and beside it only what every program sees', async () => {
    process.env['SEALIFT_TEST_CANARY'] = secret;
    try {
      const { text } = await save({ argv: ['env'], env: { DB_PASSWORD: secret, EMPTY: 'x' } });
      const lines = text.trim().split('\n');
      assert.ok(lines.includes(`DB_PASSWORD=${secret}`));
      assert.deepEqual(
        lines.filter((line) => line.includes(secret)),
        [`DB_PASSWORD=${secret}`],
      );
    } finally {
      delete process.env['SEALIFT_TEST_CANARY'];
    }
  });

  test('is in no argument of any process, no error and no detail, also where the program repeats it', async () => {
    const seen = watchForCanary(['cmdline']);
    const run = newRun();
    const script = 'echo "login of $DB_PASSWORD refused" >&2; sleep 0.3; exit 5';
    const error = await save({ shell: script, env: { DB_PASSWORD: secret } }, run).catch(
      (error: unknown) => error,
    );
    const found = seen();
    assert.ok(error instanceof SealiftError);
    assert.match(error.message, /login of \[redacted\] refused/);
    // With the cause and what hangs on it.
    assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(canary));
    assert.ok(!JSON.stringify(run.details).includes(canary));
    assert.deepEqual(found, []);
  });

  test('that cannot be one is refused without being repeated', async () => {
    const error = await fails(
      { argv: ['env'], env: { X: `${canary}\0` } },
      'config-invalid',
      /env\.X holds a zero byte/,
    );
    assert.ok(!inspect(error, { depth: 9 }).includes(canary));
  });

  test('is read when it is used', async () => {
    await fails({ argv: ['env'], env: { X: { env: 'NOT_SET' } } }, 'config-invalid', /NOT_SET is not set/);
    put(join(scratch, 'secret'), 'from a file\n', 0o600);
    assert.match((await save({ argv: ['env'], env: { X: { file: 'secret' } } })).text, /^X=from a file$/m);
  });
});

function cmdlineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

const running = (text: string): string[] =>
  readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid && cmdlineOf(pid).includes(text),
  );
