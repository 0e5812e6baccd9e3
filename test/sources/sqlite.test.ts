import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { chmod, chown, copyFile, link, lstat, mkdtemp, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, suite, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { loadSqlite } from '../../src/sources/sqlite-restore.ts';
import { sqliteSource } from '../../src/sources/sqlite.ts';
import { failsWith } from '../support/fails-with.ts';
import { newRun as freshRun, type Run } from './run.ts';

let scratch = '';
const never = new AbortController().signal;
const isRoot = { skip: process.geteuid?.() !== 0 && 'needs root' };

const newDirectory = () => mkdtemp(join(scratch, 'd-'));

const newRun = (signal = never): Run => freshRun(signal, newDirectory);

async function save(path: string, run = newRun()): Promise<{ file: string; bytes: Buffer }> {
  const [stream] = await sqliteSource({ name: 'db', kind: 'sqlite', path }).streams(run);
  assert.ok(stream);
  return { file: stream.file, bytes: Buffer.concat(await Array.fromAsync(stream.open(run))) };
}

async function newDatabase(setup = '', name = 'app.db'): Promise<{ path: string; db: DatabaseSync }> {
  const path = join(await newDirectory(), name);
  const db = new DatabaseSync(path);
  db.exec(`${setup}; CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT); PRAGMA user_version = 7`);
  db.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    INSERT INTO t SELECT i, hex(i) || 'some text' FROM n`);
  return { path, db };
}

async function rowsOf(bytes: Buffer, query = 'SELECT * FROM t ORDER BY id'): Promise<unknown[]> {
  const path = join(await newDirectory(), 'opened.db');
  writeFileSync(path, bytes);
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    return db.prepare(query).all();
  } finally {
    db.close();
  }
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

async function* bodyOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 5000) yield bytes.subarray(at, at + 5000);
}

async function* broken(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
  throw new Error('the segment is damaged');
}

suite('saving a SQLite database', () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-sqlite-'));
  });
  after(() => rm(scratch, { recursive: true, force: true }));

  for (const journal of ['delete', 'wal'])
    test(`rows come back (journal mode ${journal}), and the copy is gone`, async () => {
      const { path, db } = await newDatabase(`PRAGMA journal_mode = ${journal}`);
      const run = newRun();
      const { file, bytes } = await save(path, run);
      assert.equal(file, 'app.sqlite');
      assert.deepEqual(await rowsOf(bytes), db.prepare('SELECT * FROM t ORDER BY id').all());
      assert.deepEqual(run.made.filter(existsSync), []);
      const [detail] = run.details;
      assert.deepEqual(
        [detail?.['type'], detail?.['journalMode'], detail?.['userVersion']],
        ['sqlite', journal, 7],
      );
      db.close();
    });

  test('behind a link the log counts that lies beside the file itself; of a hard link it is said', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0');
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    db.exec(`INSERT INTO t VALUES (5000, 'in the log')`);
    const linked = join(await newDirectory(), 'link.db');
    await symlink(path, linked);
    const { file, bytes } = await save(linked);
    assert.equal(file, 'link.sqlite');
    assert.deepEqual(await rowsOf(bytes), db.prepare('SELECT * FROM t ORDER BY id').all());

    const other = join(dirname(path), 'other.db');
    await link(path, other);
    const run = newRun();
    await save(other, run);
    assert.deepEqual(run.codes, ['not-consistent']);
    db.close();
  });

  test('the same content gives the same bytes, however often it is saved', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal');
    const first = sha256((await save(path)).bytes);
    assert.equal(sha256((await save(path)).bytes), first);
    db.close();
    assert.equal(sha256((await save(path)).bytes), first);
  });

  test('a schema with strings in double quotes, which SQLite takes to this day, is no reason to fail', async () => {
    const path = join(await newDirectory(), 'old.db');
    const db = new DatabaseSync(path, { enableDoubleQuotedStringLiterals: true });
    db.exec(`CREATE TABLE t (kind TEXT CHECK (kind IN ("a", "b")), said TEXT AS (kind || "!"));
      CREATE INDEX i ON t (kind) WHERE kind <> "none"; INSERT INTO t (kind) VALUES ('b')`);
    db.close();
    const { bytes } = await save(path);
    assert.deepEqual({ ...(await rowsOf(bytes, 'SELECT * FROM t'))[0]! }, { kind: 'b', said: 'b!' });
    const back = join(await newDirectory(), 'back.db');
    await loadSqlite(back, bodyOf(bytes), { force: false, signal: never });
    assert.equal(sha256(await readFile(back)), sha256(bytes));
  });

  test('what a program alone adds to SQLite is told for what it is', async () => {
    const path = join(await newDirectory(), 'own.db');
    const db = new DatabaseSync(path);
    db.function('stem', { deterministic: true }, (word) => word);
    db.exec('CREATE TABLE t (a); CREATE INDEX i ON t (stem(a))');
    db.close();
    await assert.rejects(save(path), failsWith('failed', /no such function: stem/, /`command` source/));
  });

  test('deleted rows are not in the copy', async () => {
    const { path, db } = await newDatabase();
    db.exec(`INSERT INTO t VALUES (5000, 'the deleted secret'); DELETE FROM t WHERE id = 5000`);
    db.close();
    assert.ok((await readFile(path)).includes('the deleted secret'));
    assert.ok(!(await save(path)).bytes.includes('the deleted secret'));
  });

  test('a copy taken while somebody writes is one moment of the database', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal');
    db.exec('CREATE TABLE sum (n INT); INSERT INTO sum SELECT count(*) FROM t');
    const code = `const { DatabaseSync } = require('node:sqlite');
      const db = new DatabaseSync(${JSON.stringify(path)}, { timeout: 10000 });
      for (let i = 0; ; i++) db.exec("BEGIN IMMEDIATE; INSERT INTO t (text) VALUES ('x'); UPDATE sum SET n = n + 1; COMMIT")`;
    const writer = new Worker(code, { eval: true });
    try {
      for (let i = 0; i < 5; i++) {
        const { bytes } = await save(path);
        assert.deepEqual(
          await rowsOf(bytes, 'SELECT (SELECT count(*) FROM t) = (SELECT n FROM sum) AS same'),
          [Object.assign(Object.create(null), { same: 1 })],
        );
      }
    } finally {
      await writer.terminate();
      db.close();
    }
  });

  test('a database at rest is left as it is: no byte, time or file beside it changes', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal');
    db.close();
    const listing = () =>
      readdirSync(join(path, '..')).map((name) => [name, statSync(join(path, '..', name)).mtimeMs]);
    const before = listing();
    const run = newRun();
    await save(path, run);
    assert.equal(run.details[0]?.['journalMode'], 'wal');
    assert.deepEqual(listing(), before);
  });

  test('odd paths work', async () => {
    for (const name of ["a b'c?#%41&mode=memory.db", 'ünï\nline.sqlite3', '-dash', '.hidden'] as const) {
      const { path, db } = await newDatabase('', name);
      db.close();
      assert.equal((await rowsOf((await save(path)).bytes)).length, 1000);
    }
  });

  test('a missing file is an error and is not made', async () => {
    const path = join(await newDirectory(), 'missing.db');
    await assert.rejects(save(path), failsWith('source-unavailable', /there is no .*missing\.db/));
    assert.ok(!existsSync(path));
  });

  test('a file that vanishes between the listing and the reading is an error and is not made', async () => {
    const { path, db } = await newDatabase();
    db.close();
    const run = newRun();
    const [stream] = await sqliteSource({ name: 'db', kind: 'sqlite', path }).streams(run);
    await rm(path);
    assert.ok(stream);
    await assert.rejects(Array.fromAsync(stream.open(run)), failsWith('source-unavailable'));
    assert.ok(!existsSync(path));
    assert.deepEqual(run.made.filter(existsSync), []);
  });

  test('what is empty, no file, or no database is refused', async () => {
    const directory = await newDirectory();
    await assert.rejects(save(directory), failsWith('source-unavailable', /is not a file/));
    const path = join(directory, 'x.db');
    writeFileSync(path, '');
    await assert.rejects(save(path), failsWith('source-empty'));
    writeFileSync(path, 'no database '.repeat(1000));
    await assert.rejects(save(path), failsWith('source-damaged', /not a SQLite database/));
  });

  test('a damaged database is refused, and the copy is gone', async () => {
    const { path, db } = await newDatabase();
    db.close();
    const bytes = await readFile(path);
    writeFileSync(path, bytes.fill(0xff, 8192, 16_384));
    const run = newRun();
    await assert.rejects(save(path, run), failsWith('source-damaged'));
    assert.deepEqual(run.made.filter(existsSync), []);
  });

  test('a transaction that a crash cut off is told, not saved half done', async () => {
    const { path, db } = await newDatabase('PRAGMA cache_size = 1; PRAGMA journal_mode = delete');
    db.exec(`BEGIN; UPDATE t SET text = 'half done' || hex(zeroblob(500))`);
    for (const suffix of ['', '-journal']) await copyFile(path + suffix, `${path}.crashed${suffix}`);
    db.exec('ROLLBACK');
    db.close();
    await assert.rejects(save(`${path}.crashed`), failsWith('source-unavailable', /readonly/));
  });

  test('a copy for which there is no room is refused in plain words', async (context) => {
    const { path, db } = await newDatabase();
    db.exec('UPDATE t SET text = text || hex(zeroblob(2000))');
    db.close();
    const small = await newDirectory();
    const script = `
      import { sqliteSource } from ${JSON.stringify(new URL('../../src/sources/sqlite.ts', import.meta.url))};
      const run = { signal: new AbortController().signal, problem() {}, async detail() {}, async temporary() { return ${JSON.stringify(join(small, 'd'))} } };
      const [stream] = await sqliteSource({ name: 'db', kind: 'sqlite', path: ${JSON.stringify(path)} }).streams(run);
      await Array.fromAsync(stream.open(run)).catch((error) => console.log(error.code, error.message, error.hint));`;
    // In a mount namespace of its own, which only root can have; nothing of it is seen outside.
    const mount = `mount -t tmpfs -o size=256k none '${small}' && mkdir '${small}/d' || exit 77; exec "$@"`;
    const node = [process.execPath, '--input-type=module', '--eval', script];
    const { status, stdout } = spawnSync('unshare', ['--mount', 'sh', '-c', mount, 'sh', ...node], {
      encoding: 'utf8',
    });
    if (status !== 0 && stdout === '') return context.skip('nothing can be mounted here');
    assert.match(stdout, /^failed .*app\.db.* full .*free room/);
  });

  test('an abort ends the copy and removes it', async () => {
    const { path, db } = await newDatabase();
    const run = newRun(AbortSignal.timeout(30));
    await assert.rejects(save(path, run), /timeout/);
    assert.deepEqual(run.made.filter(existsSync), []);
    db.close();
  });

  test('a reader that stops early leaves no copy behind', async () => {
    const { path, db } = await newDatabase();
    db.close();
    const run = newRun();
    const [stream] = await sqliteSource({ name: 'db', kind: 'sqlite', path }).streams(run);
    assert.ok(stream);
    for await (const _ of stream.open(run)) break;
    assert.deepEqual([run.made.length, run.made.filter(existsSync)], [1, []]);
  });
});

suite('restoring a SQLite database', () => {
  let saved: Buffer;
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-sqlite-'));
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal');
    db.close();
    saved = (await save(path)).bytes;
  });
  after(() => rm(scratch, { recursive: true, force: true }));

  test('it comes back byte for byte, by path or URL, readable by its owner only', async () => {
    const directory = await newDirectory();
    for (const [into, path] of [
      [join(directory, 'a b.db'), 'a b.db'],
      [`sqlite:${join(directory, 'c.db')}`, 'c.db'],
      [`sqlite://${join(directory, 'd.db')}`, 'd.db'],
      [`SQLite:${join(directory, 'e.db')}`, 'e.db'],
    ] as const) {
      await loadSqlite(into, bodyOf(saved), { force: false, signal: never });
      assert.equal(sha256(await readFile(join(directory, path))), sha256(saved));
      assert.equal((await stat(join(directory, path))).mode & 0o777, 0o600);
    }
    assert.deepEqual(readdirSync(directory).toSorted(), ['a b.db', 'c.db', 'd.db', 'e.db']);
  });

  test('an existing database, or a log that one left behind, is not touched without force', async () => {
    for (const suffix of ['', '-wal', '-shm', '-journal']) {
      const path = join(await newDirectory(), 'x.db');
      writeFileSync(path + suffix, 'precious');
      await assert.rejects(
        loadSqlite(path, bodyOf(saved), { force: false, signal: never }),
        failsWith('target-exists'),
      );
      assert.equal(await readFile(path + suffix, 'utf8'), 'precious');
    }
  });

  test('with force the old one goes, its logs with it, and its mode stays', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0');
    // As a program that was killed leaves it.
    for (const suffix of ['', '-wal', '-shm']) await copyFile(path + suffix, `${path}.old${suffix}`);
    db.close();
    await chmod(`${path}.old`, 0o640);
    await loadSqlite(`${path}.old`, bodyOf(saved), { force: true, signal: never });
    assert.equal(sha256(await readFile(`${path}.old`)), sha256(saved));
    assert.equal((await stat(`${path}.old`)).mode & 0o777, 0o640);
    assert.ok(!existsSync(`${path}.old-wal`));
  });

  test('behind a link, the database that it leads to is replaced', async () => {
    const path = join(await newDirectory(), 'real.db');
    writeFileSync(path, '');
    const link = `${path}.link`;
    await symlink(path, link);
    await loadSqlite(link, bodyOf(saved), { force: true, signal: never });
    assert.ok((await lstat(link)).isSymbolicLink());
    assert.ok((await readFile(path)).equals(saved));
  });

  test('whoever may write to the folder cannot make the file of another theirs', isRoot, async () => {
    const { path, db } = await newDatabase();
    db.close();
    await chown(path, 65534, 65534);
    const victim = join(await newDirectory(), 'of-root');
    writeFileSync(victim, saved, { mode: 0o600 });
    const body = async function* () {
      yield* bodyOf(saved);
      const [draft] = readdirSync(dirname(path)).filter((name) => name.startsWith('.'));
      await rm(join(dirname(path), draft!));
      await symlink(victim, join(dirname(path), draft!));
    };
    await loadSqlite(path, body(), { force: true, signal: never }).catch(() => undefined);
    const { uid, mode } = await stat(victim);
    assert.deepEqual([uid, mode & 0o777], [0, 0o600]);
  });

  test('a database that a program is using is not replaced, even with force', async () => {
    const { path, db } = await newDatabase('PRAGMA journal_mode = wal');
    await assert.rejects(
      loadSqlite(path, bodyOf(saved), { force: true, signal: never }),
      failsWith('target-exists', /in use/),
    );
    assert.equal(db.prepare('SELECT count(*) AS n FROM t').get()?.['n'], 1000);
    db.close();
  });

  test(
    'nor is one that a program has open and is not at work in',
    { skip: process.platform !== 'linux' },
    async () => {
      const { path, db } = await newDatabase();
      await assert.rejects(
        loadSqlite(path, bodyOf(saved), { force: true, signal: never }),
        failsWith('target-exists', /in use/, /stop the program/),
      );
      db.exec(`INSERT INTO t VALUES (5000, 'is not lost')`);
      // As a container has it, under another name.
      const otherName = join(await newDirectory(), 'other.db');
      await link(path, otherName);
      await assert.rejects(
        loadSqlite(otherName, bodyOf(saved), { force: true, signal: never }),
        failsWith('target-exists', /in use/),
      );
      db.close();
      await loadSqlite(path, bodyOf(saved), { force: true, signal: never });
    },
  );

  test('a link that leads to nothing yet stays, and the database is made where it leads', async () => {
    const path = join(await newDirectory(), 'real.db');
    const link = join(await newDirectory(), 'link.db');
    await symlink(path, link);
    await loadSqlite(link, bodyOf(saved), { force: false, signal: never });
    assert.ok((await lstat(link)).isSymbolicLink());
    assert.ok((await readFile(path)).equals(saved));
  });

  test('a damaged target can be replaced', async () => {
    const path = join(await newDirectory(), 'x.db');
    writeFileSync(path, 'no database');
    await loadSqlite(path, bodyOf(saved), { force: true, signal: never });
    assert.equal(sha256(await readFile(path)), sha256(saved));
  });

  test('a body that is cut, throws or is no database leaves the target as it was, and nothing beside it', async () => {
    const { path, db } = await newDatabase();
    db.close();
    const old = sha256(await readFile(path));
    const load = (body: AsyncIterable<Uint8Array>) => loadSqlite(path, body, { force: true, signal: never });
    await assert.rejects(load(bodyOf(saved.subarray(0, saved.length - 4096))), failsWith('restore-failed'));
    await assert.rejects(load(bodyOf(Buffer.alloc(0))), failsWith('restore-failed', /no SQLite database/));
    await assert.rejects(load(bodyOf(Buffer.from('something else entirely'))), failsWith('restore-failed'));
    await assert.rejects(load(broken(saved)), /the segment is damaged/);
    assert.equal(sha256(await readFile(path)), old);
    assert.deepEqual(readdirSync(join(path, '..')), ['app.db']);
  });
});
