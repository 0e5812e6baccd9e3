import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, suite, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { saveSources, type Saved } from '../../src/commands/save-sources.ts';
import type { JobConfig, PostgresConfig } from '../../src/config/config.ts';
import { createLog } from '../../src/log.ts';
import { noProgress } from '../../src/progress.ts';
import { freshDatabase, needs, psql, theService } from '../services/services.ts';
import { put, temporary } from '../support/temporary.ts';

suite('streams that are saved side by side', needs('postgres'), () => {
  /** The first is the largest: it begins first and ends last. */
  const names: string[] = [];

  before(async () => {
    for (const rows of [120_000, 100, 100]) {
      const name = await freshDatabase(`side_${String(names.length)}_${String(process.pid)}`);
      await psql(
        name,
        `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, ${rows}) n`,
      );
      names.push(name);
    }
  });
  after(async () => {
    for (const name of names) await psql('postgres', `DROP DATABASE ${name}`);
  });

  const waiting = async () =>
    Number(
      await psql(
        'postgres',
        `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sealift' AND wait_event_type = 'Lock'
         AND datname IN (${names.map((name) => `'${name}'`).join()})`,
      ),
    );

  async function waitingBecomes(wanted: number): Promise<void> {
    const deadline = performance.now() + 20_000;
    while ((await waiting()) < wanted) assert.ok(performance.now() < deadline, `never ${wanted} at once`);
    await delay(500);
    assert.equal(await waiting(), wanted);
  }

  for (const parallel of [1, 2])
    test(`with parallel: ${parallel}, so many databases are dumped at once and not one more`, async (t) => {
      let run;
      {
        await using _ = await locked(names);
        run = save(t, jobOf(names, parallel));
        await waitingBecomes(parallel);
      }
      assert.equal((await run).streams.length, 3);
    });

  test('streams, details and problems keep their order, and one that fails leaves its siblings', async (t) => {
    const databases = [names[0]!, 'gone', names[1]!, 'gone too', names[2]!];
    const runs = [await save(t, jobOf(databases, 4)), await save(t, jobOf(databases, 4))];
    for (const { streams, problems, text } of runs) {
      const files = names.map((name) => `pg/${name}.dump`);
      assert.deepEqual(
        streams.map(({ name }) => name),
        files,
      );
      assert.deepEqual(
        problems.map(({ code, text }) => [code, /database "(.*?)"/.exec(text)?.[1]]),
        [
          ['stream-failed', 'gone'],
          ['stream-failed', 'gone too'],
        ],
      );
      const told = [...text.matchAll(/"type":"stream","name":"(.*?)"/g)].map(([, name]) => name);
      assert.deepEqual(told, files);
    }
    // A dump holds the time at which it was made, and with it its hash is another; a vacuum changes the size on disk.
    const [first, second] = runs.map(({ text }) => text.replaceAll(/"(sha256|sizeBytes)":"?\w+"?/g, ''));
    assert.equal(first, second);
  });

  test('what is said of a large tree is written while a dump beside it goes on, and not kept until then', async (t) => {
    const { sources } = jobOf([names[0]!], 2);
    const [config, data] = [temporary(t), temporary(t)];
    for (let n = 0; n < 2000; n++) put(join(data, String(n)), '');
    const database = sources[0] as PostgresConfig;
    const chat = { name: 'chat', kind: 'prosody' as const, config, data, database, sqlitePaths: [] };
    let details = '';
    let run;
    {
      await using _ = await locked([names[0]!]);
      const seen = (text: string): void => void (details = text);
      run = save(t, { ...job, sources: [{ ...chat, timeLimitSeconds: Infinity }] }, seen);
      await waitingBecomes(1);
      const deadline = performance.now() + 10_000;
      while (!details.includes('/100"')) {
        assert.ok(performance.now() < deadline, 'nothing is written');
        await delay(50);
      }
    }
    assert.equal((await run).streams.length, 2);
  });

  test('a dump that hangs ends with the time limit of its source, and so does its session', async (t) => {
    await using _ = await locked([names[1]!]);
    const job = jobOf([names[1]!, names[2]!], 2, 2);
    const { streams, problems } = await save(t, job);
    assert.deepEqual(
      streams.map(({ name }) => name),
      [`pg/${names[2]}.dump`],
    );
    assert.match(problems[0]?.text ?? '', new RegExp(`${names[1]}.* took longer than its timeLimit of 2s`));
    assert.equal(await waiting(), 0);
  });
});

test('a database whose name is too long for a stream is told, with what it can be saved by', async (t) => {
  const path = join(temporary(t), `${'名'.repeat(32)}.sqlite`);
  using db = new DatabaseSync(path);
  db.exec('CREATE TABLE a (b)');
  const sources = [{ name: 'files', kind: 'sqlite' as const, path, timeLimitSeconds: Infinity }];
  await assert.rejects(save(t, { ...job, sources }), /longer than the 251 characters .*a command source/);
});

const job = {
  name: 'j',
  schedule: '0 0 * * *',
  timezone: 'UTC',
  before: undefined,
  after: undefined,
  hookTimeLimitSeconds: 0,
};

function jobOf(databases: string[], parallel: number, timeLimitSeconds = Infinity): JobConfig {
  const { host, port, user } = theService('postgres');
  const left = { exclude: [], excludeTables: [], excludeTableData: [], globals: false };
  const where = { host, port, user, password: undefined };
  const kind = 'postgres' as const;
  const source = { name: 'pg', kind, databases, ...left, parallel, ...where, timeLimitSeconds };
  return { ...job, sources: [source] };
}

/** What a run stores, with the text of its details. */
async function save(
  t: TestContext,
  job: JobConfig,
  seen: (details: string) => void = () => {},
): Promise<Saved & { text: string }> {
  let text = '';
  const write = async (body: AsyncIterable<Uint8Array>) => {
    const hash = createHash('sha256');
    let bytes = 0;
    let head = '';
    for await (const chunk of body) {
      bytes += chunk.length;
      head += bytes < 2 ** 20 ? Buffer.from(chunk).toString('latin1') : '';
      hash.update(chunk);
      if (head.startsWith('{')) seen(head);
    }
    if (head.startsWith('{')) text = head;
    return { bytes, sha256: hash.digest('hex'), segments: [] };
  };
  const saved = await saveSources(
    job,
    { write },
    {
      signal: t.signal,
      log: createLog({ level: 'error', form: 'json', colour: false }),
      progress: noProgress,
      lastBytes: new Map(),
      temporary: async () => temporary(t),
    },
  );
  return { ...saved, text };
}

/** Keeps the table of these databases locked until it is disposed of. */
async function locked(databases: string[]): Promise<AsyncDisposable> {
  const { host, port, user, binDir } = theService('postgres');
  const children = databases.map((name) => {
    const where = ['-h', host, '-p', String(port), '-U', user, '-d', name];
    const child = spawn(join(binDir, 'psql'), ['-XAtq', ...where], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.write(`BEGIN; LOCK TABLE t; SELECT 'locked';\n`);
    return child;
  });
  for (const { stdout } of children) await once(stdout, 'data');
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(children.map((child) => (child.stdin.end(), once(child, 'exit'))));
    },
  };
}
