import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, symlinkSync } from 'node:fs';
import { inspect } from 'node:util';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PostgresConfig, S3Config } from '../../src/config/config.ts';
import { environment } from '../../src/config/environment.ts';
import { configJsonSchema, findConfig, loadConfig } from '../../src/config/load.ts';
import { launcher, programEnv } from '../support/cli.ts';
import { put, temporary } from '../support/temporary.ts';

const minimal = 'store: { kind: directory, path: /b }\n';
const isRoot = process.geteuid?.() === 0;

test('a configuration of a store alone gets every default', (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), minimal);
  const { workers, ...config } = loadConfig(undefined, environment({ HOME: '/home/ada' }, cwd));
  assert.deepEqual(config, {
    file: join(cwd, 'sealift.yaml'),
    host: undefined,
    stateDir: isRoot ? '/var/lib/sealift' : '/home/ada/.local/state/sealift',
    store: { kind: 'directory', path: '/b' },
    recipients: [join(cwd, 'keys/recipients')],
    hosts: [join(cwd, 'keys/hosts')],
    maxAgeSeconds: 7 * 86_400,
    reuseWindowSeconds: 26 * 3600,
    jobs: [],
  });
  assert.ok(workers >= 1 && workers <= 4);
});

test('relative paths start at the folder of the configuration, not at the current one', (t) => {
  const cwd = temporary(t);
  mkdirSync(join(cwd, 'etc'));
  put(
    join(cwd, 'etc/sealift.yaml'),
    `stateDir: ../state
store: { kind: directory, path: store }
recipients: [a.asc, /keys/b.asc]
hosts: pinned
jobs:
  j:
    schedule: " 0  3 * * *"
    sources:
      - { name: s, kind: sqlite, path: data.db }
      - { name: f, kind: files, paths: [www, /etc] }
`,
  );
  const config = loadConfig('etc/sealift.yaml', environment({}, cwd));
  const etc = join(cwd, 'etc');
  assert.equal(config.stateDir, join(cwd, 'state'));
  assert.deepEqual(config.store, { kind: 'directory', path: join(etc, 'store') });
  assert.deepEqual(config.recipients, [join(etc, 'a.asc'), '/keys/b.asc']);
  assert.deepEqual(config.hosts, [join(etc, 'pinned')]);
  assert.equal(config.jobs[0]?.schedule, '0 3 * * *');
  assert.equal(config.jobs[0]?.timezone, 'UTC');
  const [sqlite, files] = config.jobs[0]?.sources ?? [];
  assert.equal(sqlite?.kind === 'sqlite' && sqlite.path, join(etc, 'data.db'));
  assert.deepEqual(files?.kind === 'files' && files.paths, [join(etc, 'www'), '/etc']);
});

test('a chat server knows every SQLite database that a source saves', (t) => {
  const cwd = temporary(t);
  put(
    join(cwd, 'sealift.yaml'),
    `${minimal}jobs:
  chat:
    schedule: '0 3 * * *'
    sources:
      - { name: p, kind: prosody, database: { kind: sqlite, path: p.sqlite } }
      - { name: e, kind: ejabberd, database: { kind: postgres, databases: [e] } }
  other:
    schedule: '0 4 * * *'
    sources:
      - { name: s, kind: sqlite, path: /s.sqlite }
`,
  );
  const { jobs } = loadConfig(undefined, environment({}, cwd));
  assert.deepEqual(
    jobs[0]?.sources.map((source) => 'sqlitePaths' in source && source.sqlitePaths),
    [
      [join(cwd, 'p.sqlite'), '/s.sqlite'],
      [join(cwd, 'p.sqlite'), '/s.sqlite'],
    ],
  );
});

test('an age of exactly the window and a day is accepted', (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), `${minimal}retention: { maxAge: 50h }\nreuseWindow: 26h\n`);
  assert.equal(loadConfig(undefined, environment({}, cwd)).maxAgeSeconds, 50 * 3600);
});

test('a window of 0 is accepted, and a day is then the shortest age', (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), `${minimal}retention: { maxAge: 1d }\nreuseWindow: 0\n`);
  assert.equal(loadConfig(undefined, environment({}, cwd)).reuseWindowSeconds, 0);
});

test('cron lines of five and six fields with names, lists and steps are accepted', (t) => {
  const cwd = temporary(t);
  const lines = ['*/5 * * * *', '0 0 3 * * *', '15 2,14 1-7 jan,jul mon-fri', '0 3 * * 7'];
  const jobs = lines.map(
    (line, index) =>
      `  j${index}: { schedule: "${line}", timezone: Europe/Berlin, sources: [{ name: e, kind: files, paths: [/e] }] }`,
  );
  put(join(cwd, 'sealift.yaml'), `${minimal}jobs:\n${jobs.join('\n')}\n`);
  const config = loadConfig(undefined, environment({}, cwd));
  assert.deepEqual(
    config.jobs.map(({ schedule }) => schedule),
    lines,
  );
});

test('jobs with nothing but comments below them are no jobs', (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), `${minimal}jobs:\n#  a:\n`);
  assert.deepEqual(loadConfig(undefined, environment({}, cwd)).jobs, []);
});

test('path style is the default with an endpoint, and not at AWS', (t) => {
  const cwd = temporary(t);
  const style = (more: string): boolean => {
    put(join(cwd, 'sealift.yaml'), `store: { kind: s3, bucket: abc${more} }\n`);
    return (loadConfig(undefined, environment({}, cwd)).store as S3Config).forcePathStyle;
  };
  assert.equal(style(''), false);
  assert.equal(style(', endpoint: https://s3.example'), true);
  assert.equal(style(', endpoint: https://s3.example, forcePathStyle: false'), false);
});

function withSecrets(t: Parameters<typeof temporary>[0]): {
  cwd: string;
  secrets: () => PostgresConfig['password'][];
} {
  const cwd = temporary(t);
  put(
    join(cwd, 'sealift.yaml'),
    `${minimal}jobs:
  j:
    schedule: "0 3 * * *"
    sources:
      - { name: a, kind: postgres, password: plain-text }
      - { name: b, kind: postgres, password: { env: DB_PASSWORD } }
      - { name: c, kind: postgres, password: { file: secret } }
      - { name: d, kind: postgres }
`,
    0o600,
  );
  const variables: Record<string, string> = { DB_PASSWORD: 'from-env' };
  const config = loadConfig(undefined, environment(variables, cwd));
  // What changes later must not matter.
  variables['DB_PASSWORD'] = 'changed';
  return {
    cwd,
    secrets: () => config.jobs[0]?.sources.map((source) => (source as PostgresConfig).password) ?? [],
  };
}

test('a secret comes from the text, the environment at load, or a file without its last newline', (t) => {
  const { cwd, secrets } = withSecrets(t);
  put(join(cwd, 'secret'), ' from file \n\n', 0o600);
  assert.deepEqual(
    secrets().map((secret) => secret?.reveal()),
    ['plain-text', 'from-env', ' from file \n', undefined],
  );
});

test('no secret shows when the configuration is printed', (t) => {
  const { secrets } = withSecrets(t);
  for (const shown of [JSON.stringify(secrets()), inspect(secrets(), { depth: 9 }), String(secrets())]) {
    assert.match(shown, /\[redacted\]/);
    assert.doesNotMatch(shown, /plain-text|from-env/);
  }
});

test('a secret that is not there is missed when it is used, not when the file is read', (t) => {
  const cwd = temporary(t);
  put(
    join(cwd, 'sealift.yaml'),
    'store: { kind: s3, bucket: abc, accessKeyId: { env: NOPE }, secretAccessKey: { file: nope } }\n',
  );
  const store = loadConfig(undefined, environment({}, cwd)).store as S3Config;
  assert.throws(() => store.accessKeyId?.reveal(), {
    code: 'config-invalid',
    message: /variable NOPE is not set/,
  });
  assert.throws(() => store.secretAccessKey?.reveal(), {
    code: 'config-invalid',
    message: /nope does not exist/,
  });
});

test('a secret file with nothing in it is missed as a variable is', (t) => {
  const { cwd, secrets } = withSecrets(t);
  for (const nothing of ['', '\n']) {
    put(join(cwd, 'secret'), nothing, 0o600);
    assert.throws(() => secrets()[2]?.reveal(), { code: 'config-invalid', message: /secret is empty$/ });
  }
});

test('a secret file that others can write is refused', (t) => {
  const { cwd, secrets } = withSecrets(t);
  put(join(cwd, 'secret'), 'x', 0o666);
  assert.throws(() => secrets()[2]?.reveal(), {
    code: 'config-invalid',
    message: /can be written by everybody/,
  });
});

test('a secret that is a device is refused for what it is', (t) => {
  const { cwd, secrets } = withSecrets(t);
  symlinkSync('/dev/null', join(cwd, 'secret'));
  assert.throws(() => secrets()[2]?.reveal(), {
    code: 'config-invalid',
    message: /secret is a pipe or a device, not a file$/,
  });
});

test('a configuration that is a pipe is refused at once, and one from a program is taken', (t) => {
  const cwd = temporary(t);
  execFileSync('mkfifo', ['-m', '600', join(cwd, 'sealift.yaml')]);
  const check = (line: string): string =>
    spawnSync('bash', ['-c', `exec "$0" ${line} 2>&1`, launcher], {
      cwd,
      env: programEnv(cwd),
      encoding: 'utf8',
      timeout: 20_000,
      // Who waits for a pipe does not hear SIGTERM.
      killSignal: 'SIGKILL',
    }).stdout;
  assert.match(check('config check'), /sealift\.yaml is a pipe or a device, not a file/);
  assert.match(check(`-c <(sleep 0.3; echo '${minimal.trim()}') config check`), /no problems/);
});

for (const [mode, who] of [
  [0o664, 'its group'],
  [0o646, 'everybody'],
] as const) {
  test(`a configuration that ${who} can write is refused`, (t) => {
    const cwd = temporary(t);
    put(join(cwd, 'sealift.yaml'), minimal, mode);
    assert.throws(() => loadConfig(undefined, environment({}, cwd)), {
      code: 'config-invalid',
      message: new RegExp(`can be written by ${who} \\(mode 0${mode.toString(8)}\\)`),
      hint: /chmod go-w/,
    });
  });
}

test('a configuration that belongs to another user is refused', { skip: !isRoot && 'needs root' }, (t) => {
  const cwd = temporary(t);
  chownSync(put(join(cwd, 'sealift.yaml'), minimal), 65_534, 65_534);
  assert.throws(() => loadConfig(undefined, environment({}, cwd)), {
    code: 'config-invalid',
    message: /belongs to user id 65534/,
  });
});

test('a configuration that may not be read says who may', { skip: !isRoot && 'needs root' }, (t) => {
  const cwd = temporary(t);
  chmodSync(cwd, 0o755);
  const file = put(join(cwd, 'sealift.yaml'), minimal, 0o600);
  process.seteuid!(65_534);
  try {
    assert.throws(() => loadConfig(file, environment({}, cwd)), {
      code: 'config-invalid',
      message: /sealift\.yaml cannot be read: permission denied/,
      hint: 'run sealift as its owner or as root',
    });
  } finally {
    process.seteuid!(0);
  }
});

test('a problem is told by the path from the working folder, and by the whole one where that is elsewhere or `/`', (t) => {
  const dir = temporary(t);
  mkdirSync(join(dir, 'etc'));
  const file = put(join(dir, 'etc/sealift.yaml'), 'nonsense: 1\n');
  const told = (cwd: string): string => {
    let message = '';
    assert.throws(
      () => loadConfig(file, environment({}, cwd)),
      (error: Error) => (message = error.message) !== '',
    );
    return message;
  };
  assert.match(told(dir), /\netc\/sealift\.yaml:1:1: /);
  for (const cwd of [join(dir, 'elsewhere'), '/'])
    assert.ok(told(cwd).includes(`\n${file}:1:1: `), told(cwd));
});

test('a configuration is looked for in four places, in order', (t) => {
  const root = temporary(t);
  const place = (...parts: string[]): string => {
    const folder = join(root, ...parts);
    mkdirSync(folder, { recursive: true });
    return folder;
  };
  const [cwd, home] = [place('cwd'), place('home')];
  const atHome = put(join(place('home/.config/sealift'), 'sealift.yaml'), minimal);
  assert.equal(findConfig(undefined, environment({ HOME: home }, cwd)), atHome);
  const xdg = put(join(place('xdg/sealift'), 'sealift.yaml'), minimal);
  const variables = { HOME: home, XDG_CONFIG_HOME: join(root, 'xdg') };
  assert.equal(findConfig(undefined, environment(variables, cwd)), xdg);
  const here = put(join(cwd, 'sealift.yaml'), minimal);
  assert.equal(findConfig(undefined, environment(variables, cwd)), here);
  const named = put(join(root, 'named.yaml'), minimal);
  assert.equal(
    findConfig(undefined, environment({ ...variables, SEALIFT_CONFIG: '../named.yaml' }, cwd)),
    named,
  );
  const asked = put(join(root, 'asked.yaml'), minimal);
  assert.equal(findConfig('../asked.yaml', environment({ ...variables, SEALIFT_CONFIG: named }, cwd)), asked);
});

test('a user who has no home anywhere is no obstacle', { skip: !isRoot && 'needs root' }, () => {
  const { HOME } = process.env;
  delete process.env['HOME'];
  process.seteuid!(54_321);
  try {
    assert.equal(environment({}, '/srv').configHome, '/.config');
  } finally {
    process.seteuid!(0);
    if (HOME !== undefined) process.env['HOME'] = HOME;
  }
});

test('a file that was asked for and is missing is not replaced by another', (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), minimal);
  const wanted = { code: 'config-not-found' };
  assert.throws(() => loadConfig('other.yaml', environment({}, cwd)), wanted);
  assert.throws(() => loadConfig(undefined, environment({ SEALIFT_CONFIG: 'other.yaml' }, cwd)), {
    ...wanted,
    message: /other\.yaml \(\$SEALIFT_CONFIG\)/,
  });
});

test('the JSON Schema describes the file as it is written', () => {
  const schema = configJsonSchema() as { required: string[]; properties: Record<string, unknown> };
  assert.deepEqual(schema.required, ['store']);
  assert.ok('jobs' in schema.properties && 'retention' in schema.properties);
});
