import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import { SealiftError } from '../../src/errors.ts';
import { put, temporary } from '../support/temporary.ts';

const store = 'store: { kind: directory, path: /b }';
const job = (lines: string): string => `${store}\njobs:\n  nightly:\n${lines.replaceAll(/^/gm, '    ')}`;
const sources = 'sources: [{ name: etc, kind: files, paths: [/etc] }]';
const source = (text: string): string => job(`schedule: "0 3 * * *"\nsources:\n  - ${text}`);

/** Fact, file, and the lines that must be reported, without the file's name. */
const cases: readonly [fact: string, text: string | Buffer, report: readonly (string | RegExp)[]][] = [
  ['an empty file needs a store', '', ['1:1: the file is empty: at least `store` is needed']],
  ['a file of comments needs a store', '# nothing\n', [/the file is empty/]],
  ['a file that is a list', '- a\n', ['1:1: must be a group of settings, not a list']],
  ['a missing store', 'host: web\n', ['1:1: store: is missing']],
  [
    'a store without a kind',
    'store:\n  path: /b\n',
    ['1:1: store.kind: is missing: it must be s3 or directory'],
  ],
  [
    'an unknown kind of store lists the kinds',
    'store:\n  kind: sftp\n',
    ['2:9: store.kind: "sftp" is not known; it must be s3 or directory'],
  ],
  [
    'a kind of store with a typo is guessed',
    'store: { kind: s4 }',
    [/it must be s3 or directory; did you mean "s3"\?/],
  ],
  ['an s3 store without a bucket', 'store:\n  kind: s3\n', ['1:1: store.bucket: is missing']],
  ['a directory without a path', 'store: { kind: directory }', ['1:1: store.path: is missing']],
  [
    'a bucket name that is too short',
    'store:\n  kind: s3\n  bucket: ab\n',
    ['3:11: store.bucket: must have at least 3 characters'],
  ],
  [
    'a bucket with a folder in it',
    'store:\n  kind: s3\n  bucket: backups/jabber\n',
    [/^3:11: store.bucket: must be the name alone: .* prefix, as in "jabber\/"; it is "backups\/jabber"$/],
  ],
  [
    'an endpoint that is no URL',
    'store:\n  kind: s3\n  bucket: abc\n  endpoint: minio:9000\n',
    ['4:13: store.endpoint: must be a URL such as https://fsn1.example-objects.com; it is "minio:9000"'],
  ],
  [
    'an endpoint with a password, which is not repeated',
    'store:\n  kind: s3\n  bucket: abc\n  endpoint: https://key:canary@s3.example/\n',
    [
      '4:13: store.endpoint: must hold no user and password: they belong into accessKeyId and secretAccessKey',
    ],
  ],
  [
    'a prefix without a slash at its end',
    'store:\n  kind: s3\n  bucket: abc\n  prefix: jabber\n',
    [/^4:11: store.prefix: must be empty or end with a slash/],
  ],
  [
    'an access key without its secret',
    'store:\n  kind: s3\n  bucket: abc\n  accessKeyId: x\n',
    [/^4:3: store.accessKeyId: needs secretAccessKey beside it/],
  ],
  [
    'a secret without its access key',
    'store:\n  kind: s3\n  bucket: abc\n  secretAccessKey: { env: X }\n',
    [/^4:3: store.secretAccessKey: needs accessKeyId beside it/],
  ],
  [
    'a key of the other kind of store',
    'store:\n  kind: directory\n  path: /b\n  bucket: abc\n',
    ['4:3: store.bucket: is not a setting; here these are known: kind, path'],
  ],
  [
    'a typo is guessed',
    `${store}\nretenton: { maxAge: 9d }\n`,
    ['2:1: retenton: is not a setting; did you mean "retention"?'],
  ],
  [
    'an unknown key that is like no other lists them',
    `${store}\nretention:\n  keepLast: 3\n`,
    ['3:3: retention.keepLast: is not a setting; here these are known: maxAge'],
  ],
  [
    'a host name with capitals',
    `host: Web1\n${store}`,
    [/^1:7: host: must be lower-case letters, digits and dashes, at most 41.*; it is "Web1"$/],
  ],
  [
    'a host name that YAML reads as a number',
    `host: 12\n${store}`,
    ['1:7: host: must be text, not the number 12'],
  ],
  ['a number of workers out of range', `${store}\nworkers: 0\n`, ['2:10: workers: must be 1 or more']],
  ['too many workers', `${store}\nworkers: 65\n`, ['2:10: workers: must be 64 or less']],
  ['workers as text', `${store}\nworkers: many\n`, ['2:10: workers: must be a number, not the text "many"']],
  [
    'half a worker',
    `${store}\nworkers: 1.5\n`,
    ['2:10: workers: must be a whole number, not the number 1.5'],
  ],
  [
    'a duration without a unit',
    `${store}\nreuseWindow: 26\n`,
    ['2:14: reuseWindow: must be a whole number with s, m, h or d, such as 26h or 7d'],
  ],
  [
    'a duration in weeks',
    `${store}\nretention: { maxAge: 2w }\n`,
    ['2:22: retention.maxAge: must be a whole number with s, m, h or d, such as 26h or 7d; it is "2w"'],
  ],
  [
    'an age that ends in no year',
    `${store}\nretention: { maxAge: 36501d }\n`,
    ['2:22: retention.maxAge: must be at most 36500d, 100 years'],
  ],
  [
    'an age one second too short for the window',
    `${store}\nretention: { maxAge: 179999s }\nreuseWindow: 26h\n`,
    [
      '2:22: retention.maxAge: must be at least reuseWindow + 24 h: 179999s is less than 50h; with reuseWindow: 93599s or less it would do',
    ],
  ],
  [
    'an age too short for the default window',
    `${store}\nretention: { maxAge: 2d }\n`,
    [
      /^2:22: retention.maxAge: must be at least reuseWindow \+ 24 h: 48h is less than 50h; with reuseWindow: 24h or less it would do$/,
    ],
  ],
  ['a duration in two units', `${store}\nreuseWindow: 6d1h\n`, [/^2:14: reuseWindow: .*it is "6d1h"$/]],
  [
    'a window too long for the default age',
    `${store}\nreuseWindow: 7d\n`,
    [
      '2:14: reuseWindow: must be at most retention.maxAge - 24 h: 168h is more than 144h, because maxAge is 7d by default',
    ],
  ],
  [
    'no age at all',
    `${store}\nretention: { maxAge: 0 }\nreuseWindow: 0\n`,
    [/^2:22: .*: 0h is less than 24h$/],
  ],
  ['a job name with a space', `${store}\njobs:\n  "a b": {}\n`, [/^3:3: jobs.a b: "a b" must be lower-case/]],
  [
    'a job whose name means something else to JavaScript',
    job(`schedule: "0 3 * * *"\n${sources}`).replace('nightly', '__proto__'),
    [/^3:3: jobs.__proto__: "__proto__" must be lower-case/],
  ],
  [
    'a job without anything',
    `${store}\njobs:\n  a:\n`,
    ['3:5: jobs.a: must be a group of settings, not empty'],
  ],
  ['a job without a schedule', job(sources), ['3:3: jobs.nightly.schedule: is missing']],
  [
    'a schedule that is a number',
    job(`schedule: 5\n${sources}`),
    ['4:15: jobs.nightly.schedule: must be text, not the number 5'],
  ],
  [
    'a minute that does not exist',
    job(`schedule: "61 * * * *"\n${sources}`),
    ['4:15: jobs.nightly.schedule: "61 * * * *" is not a cron line: 61 is no minute'],
  ],
  [
    'a weekday that does not exist',
    job(`schedule: "0 3 * * Funday"\n${sources}`),
    [/^4:15: .*Funday is no weekday$/],
  ],
  ['a day that no month has', job(`schedule: "0 3 31 2 *"\n${sources}`), [/^4:15: .*is not a cron line/]],
  [
    'a cron line with four fields',
    job(`schedule: "0 3 * *"\n${sources}`),
    [/^4:15: .*it needs 5 fields \(minute hour day month weekday\), or 6 with seconds first$/],
  ],
  [
    'a cron line with seven fields',
    job(`schedule: "0 0 0 3 * * *"\n${sources}`),
    [/^4:15: .*it needs 5 fields/],
  ],
  ['a cron nickname', job(`schedule: "@daily"\n${sources}`), [/^4:15: .*it needs 5 fields/]],
  ['an empty schedule', job(`schedule: ""\n${sources}`), [/^4:15: .*it needs 5 fields/]],
  [
    'a time zone that does not exist',
    job(`schedule: "0 3 * * *"\ntimezone: Mars/Phobos\n${sources}`),
    ['5:15: jobs.nightly.timezone: "Mars/Phobos" is not a time zone such as UTC or Europe/Berlin'],
  ],
  [
    'a job without sources',
    job('schedule: "0 3 * * *"\nsources: []'),
    ['5:14: jobs.nightly.sources: must not be an empty list'],
  ],
  [
    'two jobs of one name',
    `${store}\njobs:\n  a:\n    schedule: "0 3 * * *"\n    ${sources}\n  a:\n    schedule: "0 4 * * *"\n    ${sources}\n`,
    ['6:3: jobs.a: stands here twice; the first is on line 3'],
  ],
  [
    'one setting twice',
    `${store}\nworkers: 2\nworkers: 3\n`,
    ['3:1: workers: stands here twice; the first is on line 2'],
  ],
  [
    'two sources of one name',
    job(
      'schedule: "0 3 * * *"\nsources:\n  - { name: a, kind: files, paths: [/a] }\n  - { name: a, kind: sqlite, path: /b }',
    ),
    ['7:17: jobs.nightly.sources[1].name: "a" is already the name of source 1 of this job'],
  ],
  [
    'a source without a kind',
    source('{ name: a }'),
    [/^6:9: jobs.nightly.sources\[0\].kind: is missing: it must be .*postgres/],
  ],
  [
    'an unknown kind of source lists the kinds and guesses',
    source('{ name: a, kind: postgresql }'),
    [
      /^6:26: jobs.nightly.sources\[0\].kind: "postgresql" is not known; it must be .*postgres.*; did you mean "postgres"\?$/,
    ],
  ],
  [
    'a typo in a source is guessed from the settings of its kind',
    source('{ name: a, kind: postgres, paswort: x }'),
    ['6:36: jobs.nightly.sources[0].paswort: is not a setting; did you mean "password"?'],
  ],
  [
    'databases as a number',
    source('{ name: a, kind: postgres, databases: 5 }'),
    [/^6:47: .*\.databases: must be all or a list of database names$/],
  ],
  [
    'a port out of range',
    source('{ name: a, kind: postgres, port: 70000 }'),
    ['6:42: jobs.nightly.sources[0].port: must be 65535 or less'],
  ],
  [
    'a cluster that is no cluster',
    source('{ name: a, kind: postgres, cluster: main }'),
    [/^6:45: .*\.cluster: must be VERSION\/NAME, as pg_lsclusters shows them: 15\/main; it is "main"$/],
  ],
  [
    'TLS to a socket, also of the database behind a server',
    source('{ name: a, kind: postgres, tls: { ca: ca.pem } }').concat(
      '\n      - { name: b, kind: prosody, database: { kind: mysql, host: /run/s, tls: { ca: ca.pem } } }',
      '\n      - { name: c, kind: redis, tls: { ca: ca.pem } }',
      "\n      - { name: d, kind: postgres, host: 'db.example,/run/s', tls: { ca: ca.pem } }",
    ),
    [
      /^6:\d+: jobs.nightly.sources\[0\].tls: is for a server that is reached over the network: name its host$/,
      /^7:\d+: jobs.nightly.sources\[1\].database.tls: is for a server/,
      /^9:\d+: jobs.nightly.sources\[3\].tls: is for a server/,
    ],
  ],
  [
    'a cluster with a port beside it, also of the database behind a server',
    source('{ name: a, kind: postgres, cluster: 15/main, port: 5432 }').concat(
      '\n      - { name: b, kind: prosody, database: { kind: postgres, cluster: 15/main, host: h } }',
    ),
    [
      /^6:54: jobs.nightly.sources\[0\].port: is not needed beside cluster/,
      /^7:\d+: jobs.nightly.sources\[1\].database.host: is not needed beside cluster/,
    ],
  ],
  [
    'a pattern of tables with too many parts, or a quote that does not end',
    source(`{ name: a, kind: postgres, excludeTables: [a.b.c.d], excludeTableData: ['"a'] }`),
    [/excludeTables\[0\]: must be a pattern of table names as in psql/, /excludeTableData\[0\]: must be/],
  ],
  [
    'more at once than is sane',
    source('{ name: a, kind: postgres, parallel: 9 }'),
    [/^6:46: .*\.parallel: must be 8 or less$/],
  ],
  [
    'a secret of an unknown form',
    source('{ name: a, kind: postgres, password: { evn: X } }'),
    ['6:46: jobs.nightly.sources[0].password: must be the secret itself, { env: NAME } or { file: PATH }'],
  ],
  [
    'globals as text',
    source('{ name: a, kind: postgres, globals: "yes" }'),
    [/^6:45: .*must be true or false, not the text "yes"$/],
  ],
  [
    'a tree without paths',
    source('{ name: a, kind: files, paths: [] }'),
    [/^6:40: .*\.paths: must not be an empty list$/],
  ],
  [
    'a path in a list that is a number',
    source('{ name: a, kind: files, paths: [/a, 5] }'),
    [/^6:45: .*\.paths\[1\]: must be text, not the number 5$/],
  ],
  [
    'a command without a program',
    source('{ name: a, kind: command }'),
    [
      '6:26: jobs.nightly.sources[0].kind: needs argv (a program and its arguments) or shell (a line for bash)',
    ],
  ],
  [
    'a command with argv and shell',
    source('{ name: a, kind: command, argv: [mongodump], shell: mongodump }'),
    ['6:54: jobs.nightly.sources[0].shell: stands beside argv: a command has one of them'],
  ],
  [
    'an argv that is a line of text',
    source('{ name: a, kind: command, argv: mongodump --archive }'),
    [/^6:41: .*\.argv: must be a list, not the text "mongodump --archive"$/],
  ],
  [
    'an argv that is empty, or holds an empty program',
    source('{ name: a, kind: command, argv: [] }'),
    [/^6:41: .*\.argv: must not be an empty list$/],
  ],
  [
    'a file name that leads elsewhere',
    source('{ name: a, kind: command, argv: [x], file: ../x }'),
    [/^6:52: .*\.file: must be a file name of letters, digits and _ \. -; it is "\.\.\/x"$/],
  ],
  [
    'a magic with a byte that YAML has made of an escape',
    source('{ name: a, kind: command, argv: [x], magic: "\\x89PNG" }'),
    [/^6:53: .*\.magic: must be printable ASCII, with \\xHH for any other byte and \\\\ for a backslash$/],
  ],
  [
    'a magic with an escape of another language',
    source(String.raw`{ name: a, kind: command, argv: [x], magic: 'a\n' }`),
    [/^6:53: .*\.magic: must be printable ASCII/],
  ],
  [
    'a variable with a name that none can have',
    source('{ name: a, kind: command, argv: [x], env: { A-B: c } }'),
    [/^6:53: .*\.env\.A-B: .*is not the name of a variable/],
  ],
  [
    'a command that may write nothing',
    source('{ name: a, kind: command, argv: [x], minBytes: 0 }'),
    [/^6:56: .*\.minBytes: must be 1 or more$/],
  ],
  [
    'a hook that is a line of text',
    job(`schedule: "0 3 * * *"\nbefore: systemctl stop x\n${sources}`),
    ['5:13: jobs.nightly.before: must be a list, not the text "systemctl stop x"'],
  ],
  [
    'a home folder that the shell would know',
    'store: { kind: directory, path: ~/backups }',
    ['1:33: store.path: ~ is not replaced by your home folder here: write the whole path'],
  ],
  ['a tab as indentation', 'store:\n\tkind: s3\n', [/^2:\d+: .*[Tt]ab/]],
  ['an open bracket', 'store: { kind: s3\n', [/^\d+:\d+: /]],
  [
    'a tag that nobody defined',
    `host: !env HOST\n${store}`,
    ['1:7: Unresolved tag; is it a text that belongs in quotes?'],
  ],
  [
    'an alias without an anchor',
    `${store}\nhost: *nobody\n`,
    ['2:7: Unresolved alias (the anchor must be set before the alias); is it a text that belongs in quotes?'],
  ],
  [
    'a cron line without quotes that begins with a star',
    job(`schedule: * * * * *\n${sources}`),
    ['4:15: Alias cannot be an empty string; is it a text that belongs in quotes?'],
  ],
  [
    'another one',
    job(`schedule: */5 * * * *\n${sources}`),
    ['4:19: Unexpected alias at node end; is it a text that belongs in quotes?'],
  ],
  [
    'two documents',
    `${store}\n---\nhost: b\n`,
    ['2:1: a second document begins here, and one is all there is'],
  ],
  [
    'aliases that grow without end',
    `a: &a [${'x,'.repeat(10)}]\nb: &b [${'*a,'.repeat(10)}]\nc: &c [${'*b,'.repeat(10)}]\nd: [${'*c,'.repeat(10)}]\n`,
    ['1:1: Excessive alias count indicates a resource exhaustion attack'],
  ],
  [
    'text in another encoding than UTF-8',
    Buffer.from('host: web\nstore: { kind: directory, path: /srv/st\xE9re }\n', 'latin1'),
    ['2:1: this line is not UTF-8: save the file in that encoding'],
  ],
  [
    'all problems come at once, in the order of the file',
    `host: A\nstoer: 1\n${store}\nreuseWindow: 7d\njobs:\n  a:\n    schedule: "x"\n    timezone: Y\n    sources:\n      - { name: e, kind: file }\n`,
    [
      /^1:7: host/,
      /^2:1: stoer/,
      /^4:14: reuseWindow/,
      /^7:15: .*schedule/,
      /^8:15: .*timezone/,
      /^10:26: .*kind/,
    ],
  ],
];

for (const [fact, text, expected] of cases) {
  test(`refused: ${fact}`, (t) => {
    const cwd = temporary(t);
    put(join(cwd, 'sealift.yaml'), text);
    const error = assertThrows(() => loadConfig(undefined, environment({ HOME: cwd }, cwd)));
    assert.equal(error.code, 'config-invalid');
    const [headline = '', ...reported] = error.message.split('\n');
    assert.match(headline, /^the configuration has (a problem|\d+ problems):$/);
    const lines = reported.map((line) => line.replace(/^sealift\.yaml:/, ''));
    assert.equal(lines.length, expected.length, error.message);
    for (const [index, line] of lines.entries()) {
      const want = expected[index];
      if (typeof want === 'string') assert.equal(line, want);
      else assert.match(line, want ?? /never/);
    }
  });
}

for (const sign of '*!|>]}')
  test(`a password without quotes that begins with ${sign} is not repeated`, (t) => {
    const cwd = temporary(t);
    const file = join(cwd, 'sealift.yaml');
    put(file, `store:\n  kind: s3\n  bucket: abc\n  accessKeyId: x\n  secretAccessKey: ${sign}canary\n`);
    const { message } = assertThrows(() => loadConfig(undefined, environment({ HOME: cwd }, cwd)));
    assert.match(message, /:5:(20|21): .*is it a text that belongs in quotes\?/);
    assert.doesNotMatch(message, /canary/);
  });

function assertThrows(run: () => unknown): SealiftError {
  try {
    run();
  } catch (error) {
    if (error instanceof SealiftError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}
