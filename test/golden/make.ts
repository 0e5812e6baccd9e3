/**
 * Made the store in `format-1/`, once, with the first version that wrote this format. It is kept to show what is in
 * there; no test runs it. Every later version must read those files as they are: a new format gets a folder and a
 * script of its own, and this one refuses to run where its files exist.
 *
 *     node test/golden/make.ts
 *
 * Job `tree` has two snapshots of a folder, with two files that fill several segments; the second uses most of the
 * first one's segments again. Job `data` has two snapshots of a SQLite database; in the second, another database is
 * missing, so it is partial. They expire after 100 years, so that they can be verified at any date.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const target = join(import.meta.dirname, 'format-1');
const launcher = join(import.meta.dirname, '../../bin/sealift');
if (existsSync(join(target, 'store'))) throw new Error(`${target} is there already and must never change`);

const dir = mkdtempSync(join(tmpdir(), 'sealift-golden-'));
const run = (...args: string[]): Buffer =>
  execFileSync(launcher, ['-c', join(dir, 'sealift.yaml'), ...args], {
    cwd: dir,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
  });
/** A partial snapshot ends with status 3. */
const runPartial = (...args: string[]): void => {
  try {
    run(...args);
  } catch (error) {
    if ((error as { status?: unknown }).status !== 3) throw error;
  }
};
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const schedule = '0 3 * * *';
const jobs = {
  tree: {
    schedule,
    timezone: 'Europe/Berlin',
    sources: [{ name: 'home', kind: 'files', paths: [join(dir, 'home')] }],
  },
  data: {
    schedule,
    sources: [
      { name: 'notes', kind: 'sqlite', path: join(dir, 'notes.db') },
      { name: 'more', kind: 'sqlite', path: join(dir, 'more.db') },
    ],
  },
};

/** Compresses to almost nothing and still fills segments: blocks of one byte each. */
const blocks = (sizeBytes: number, seed: number): Buffer =>
  Buffer.concat(
    Array.from({ length: sizeBytes / 65_536 }, (_, i) => Buffer.alloc(65_536, (seed + i * 7) % 256)),
  );

mkdirSync(join(dir, 'store'));
run('keys', 'generate', '--user-id', 'Op <op@example.org>', '--out', join(dir, 'op'), '--no-passphrase');
const config = {
  host: 'golden',
  stateDir: join(dir, 'state'),
  store: { kind: 'directory', path: join(dir, 'store') },
  retention: { maxAge: '36500d' },
  jobs,
};
writeFileSync(join(dir, 'sealift.yaml'), JSON.stringify(config), { mode: 0o600 });
run('init', '--recipient', join(dir, 'op', 'op.pub.asc'));

mkdirSync(join(dir, 'home', 'empty folder'), { recursive: true });
writeFileSync(join(dir, 'home', 'a-large'), blocks(9 * 2 ** 20, 0));
writeFileSync(join(dir, 'home', 'b-large'), blocks(6 * 2 ** 20, 100));
writeFileSync(join(dir, 'home', 'grüße.txt'), 'Grüße aus 2026\n', { mode: 0o640 });
symlinkSync('grüße.txt', join(dir, 'home', 'link'));
const notes = new DatabaseSync(join(dir, 'notes.db'));
notes.exec("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note (text) VALUES ('first')");
const more = new DatabaseSync(join(dir, 'more.db'));
more.exec('CREATE TABLE n (x); INSERT INTO n VALUES (1), (2), (3)');
more.close();
run('backup');

writeFileSync(join(dir, 'home', 'z-new.txt'), 'new in the second snapshot\n');
notes.exec("INSERT INTO note (text) VALUES ('second')");
notes.close();
rmSync(join(dir, 'more.db'));
runPartial('backup');

const listing = JSON.parse(run('list', '--json').toString()) as {
  snapshots: { snapshot: string; job: string; status: string; streams: { name: string }[] }[];
};
const snapshots = listing.snapshots.map(({ snapshot, job, status, streams }) => ({
  snapshot,
  job,
  status,
  streams: streams
    .filter(({ name }) => !name.startsWith('_/'))
    .map(({ name }) => {
      const content = run(
        'restore',
        snapshot,
        '--source',
        name,
        '--stdout',
        '--key',
        join(dir, 'op', 'op.key.asc'),
      );
      return { name, bytes: content.length, sha256: sha256(content) };
    }),
}));

/** What the second snapshot of the tree holds, by path below `home`. */
const files = Object.fromEntries(
  ['a-large', 'b-large', 'grüße.txt', 'z-new.txt'].map((name) => [
    name,
    sha256(readFileSync(join(dir, 'home', name))),
  ]),
);

mkdirSync(target, { recursive: true });
rmSync(join(dir, 'store', '.tmp'), { recursive: true, force: true });
cpSync(join(dir, 'store'), join(target, 'store'), { recursive: true });
cpSync(join(dir, 'keys', 'hosts'), join(target, 'hosts'), { recursive: true });
cpSync(join(dir, 'op', 'op.key.asc'), join(target, 'op.key.asc'));
writeFileSync(join(target, 'expected.json'), `${JSON.stringify({ snapshots, files }, null, 2)}\n`);
rmSync(dir, { recursive: true });

const written = readdirSync(target, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name !== 'SHA256SUMS')
  .map((entry) => relative(target, join(entry.parentPath, entry.name)))
  .toSorted();
const sums = written.map((file) => `${sha256(readFileSync(join(target, file)))}  ${file}\n`);
writeFileSync(join(target, 'SHA256SUMS'), sums.join(''));
