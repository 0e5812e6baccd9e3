import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { RedisConfig } from '../../src/config/config.ts';
import { Secret } from '../../src/config/secrets.ts';
import { placeRdb } from '../../src/sources/redis-restore.ts';
import { redisSource } from '../../src/sources/redis.ts';
import { contentOf, fill, type RedisService, startRedis } from '../services/redis.ts';
import { withoutServices } from '../services/services.ts';
import { collect, inPieces } from '../support/bytes.ts';
import { failsWith } from '../support/fails-with.ts';
import { until } from '../support/running.ts';
import { newRun as freshRun, type Run } from './run.ts';

const canary = 'canary:\\pass"word\'%';
const fixtures = join(import.meta.dirname, '../fixtures/redis-cli');
const isRoot = process.getuid?.() === 0;

/** What a test makes is removed at the end of the file. */
let scratch = '';
let server: RedisService & AsyncDisposable;

async function newFolder(): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, 0o755);
  return path;
}

const newRun = (signal?: AbortSignal, temporary = newFolder): Run => freshRun(signal, temporary);

const overTcp = (change: Partial<RedisConfig> = {}): RedisConfig => ({
  name: 'cache',
  kind: 'redis',
  host: '127.0.0.1',
  port: server.port,
  user: undefined,
  password: new Secret(() => server.password),
  ...change,
});

const onSocket = (change: Partial<RedisConfig> = {}): RedisConfig =>
  overTcp({ host: server.socket, port: undefined, ...change });

async function save(config: RedisConfig, run = newRun(), directories?: string[]): Promise<Buffer> {
  const [stream] = await redisSource(config, directories).streams(run);
  assert.equal(stream?.file, 'dump.rdb');
  return collect(stream.open(run));
}

/** A folder of programs in which redis-cli is a fixture. */
async function programsWith(fixture: string): Promise<string[]> {
  const folder = await newFolder();
  await symlink(join(fixtures, fixture), join(folder, 'redis-cli'));
  return [folder];
}

const placing = (change: object = {}) => ({ ...newRun(), force: false, ...change });

const asStream = (bytes: Buffer) => ({ file: 'dump.rdb', open: () => inPieces(bytes, 1000) });

suite('redis', { skip: withoutServices }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-redis-'));
    await chmod(scratch, 0o755);
    server = await startRedis(await newFolder());
    fill(server);
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('all databases, types, bytes and times come back in a new server that starts with the dump', async () => {
    const run = newRun();
    server.cli(['CONFIG', 'SET', 'repl-diskless-sync', 'yes']);
    const bytes = await save(overTcp(), run);
    server.cli(['CONFIG', 'SET', 'repl-diskless-sync', 'no']);
    assert.deepEqual(run.made.filter(existsSync), [], 'the copy is gone');

    const folder = await newFolder();
    await mkdir(join(folder, 'data'));
    const target = join(folder, 'data/dump.rdb');
    const { lines } = await placeRdb(`redis:${target}`, asStream(bytes), placing());
    assert.equal(lines[0], `${target} made`);
    assert.match(lines[1] ?? '', /^redis-check-rdb read all of it: \d{4} keys$/);
    await using other = await startRedis(folder);
    assert.deepEqual(contentOf(other), contentOf(server));
  });

  test('the lines that tell what to do make a server with appendonly read it', async () => {
    const folder = await newFolder();
    const dataDir = join(folder, 'data');
    await mkdir(dataDir);
    {
      await using old = await startRedis(folder, { appendOnly: true });
      old.cli(['SET', 'old', 'data']);
    }
    await rm(join(dataDir, 'dump.rdb'));
    const log = join(dataDir, 'appendonlydir');
    assert.ok(readdirSync(log).length > 0);
    const target = `redis:${join(dataDir, 'dump.rdb')}`;
    const bytes = await save(onSocket());
    await assert.rejects(
      placeRdb(target, asStream(bytes), placing()),
      failsWith('target-exists', /appendonlydir exists, and the server would read it/, /move it away/),
    );
    const { lines } = await placeRdb(target, asStream(bytes), placing({ force: true }));
    const move = lines.find((line) => line.startsWith('  mv '));
    execFileSync('sh', ['-ec', move ?? 'false']);
    {
      await using once = await startRedis(folder);
      once.cli(['CONFIG', 'SET', 'appendonly', 'yes']);
      while (!once.cli(['INFO', 'persistence']).includes('aof_rewrite_in_progress:0')) await delay(50);
    }
    await using server2 = await startRedis(folder, { appendOnly: true });
    assert.deepEqual(contentOf(server2), contentOf(server));
  });

  test('a file that is there is refused; with force it is replaced and hands down owner and mode', async () => {
    const bytes = await save(onSocket());
    const target = join(await newFolder(), 'dump.rdb');
    await writeFile(target, 'old', { mode: 0o604 });
    if (isRoot) execFileSync('chown', ['redis:redis', target]);
    await assert.rejects(
      placeRdb(target, asStream(bytes), placing()),
      failsWith('target-exists', /dump\.rdb exists/, /--force/),
    );
    assert.equal(readFileSync(target, 'utf8'), 'old');
    const before = statSync(target);
    await placeRdb(target, asStream(bytes), placing({ force: true }));
    assert.ok(readFileSync(target).equals(bytes));
    const { uid, gid, mode } = statSync(target);
    assert.deepEqual([uid, gid, mode], [before.uid, before.gid, before.mode]);
  });

  test('a new file belongs to whom the folder belongs to', { skip: !isRoot }, async () => {
    const folder = await newFolder();
    execFileSync('chown', ['redis:redis', folder]);
    await placeRdb(join(folder, 'dump.rdb'), asStream(await save(onSocket())), placing());
    const { uid, gid, mode } = statSync(join(folder, 'dump.rdb'));
    assert.deepEqual([uid, gid], [statSync(folder).uid, statSync(folder).gid]);
    assert.equal(mode & 0o777, 0o640);
  });

  test(
    'whoever may write to the folder cannot make the file of another theirs',
    { skip: !isRoot },
    async () => {
      const bytes = await save(onSocket());
      const folder = await newFolder();
      execFileSync('chown', ['redis:redis', folder]);
      const victim = join(await newFolder(), 'of-root');
      await writeFile(victim, bytes, { mode: 0o600 });
      const open = async function* () {
        yield* inPieces(bytes, 1000);
        const [draft] = readdirSync(folder);
        await rm(join(folder, draft!));
        await symlink(victim, join(folder, draft!));
      };
      await placeRdb(join(folder, 'dump.rdb'), { file: 'dump.rdb', open }, placing()).catch(() => undefined);
      const { uid, mode } = statSync(victim);
      assert.deepEqual([uid, mode & 0o777], [0, 0o600]);
    },
  );

  test('under a server that runs there nothing is replaced, not even with force', async () => {
    const target = join(server.dataDir, 'dump.rdb');
    const bytes = await save(onSocket());
    server.cli(['SAVE']);
    const before = statSync(target);
    await assert.rejects(
      placeRdb(target, asStream(bytes), placing({ force: true })),
      failsWith('target-exists', /redis-server \(process \d+\) is at work in .*data/, /stop it first/),
    );
    const { ino, mtimeMs } = statSync(target);
    assert.deepEqual([ino, mtimeMs], [before.ino, before.mtimeMs]);
  });

  test('what is damaged or something else leaves the old file as it was, and nothing beside it', async () => {
    const bytes = await save(onSocket());
    const folder = await newFolder();
    const target = join(folder, 'dump.rdb');
    await writeFile(target, 'old');
    const flipped = Buffer.from(bytes);
    flipped[flipped.length - 5]! ^= 1;
    async function* broken() {
      yield bytes;
      throw new Error('the segment is damaged');
    }
    for (const [open, says] of [
      [() => inPieces(flipped), /redis-check-rdb finds the dump damaged: .*CRC error/],
      [() => inPieces(bytes.subarray(0, 5000)), /damaged: Unexpected EOF/],
      [() => inPieces(Buffer.from('REDI')), /no dump of a Redis server/],
      [broken, /the segment is damaged/],
    ] as const)
      await assert.rejects(placeRdb(target, { file: 'dump.rdb', open }, placing({ force: true })), says);
    assert.equal(readFileSync(target, 'utf8'), 'old');
    assert.deepEqual(readdirSync(folder), ['dump.rdb']);
  });

  test('a dump of a newer Redis is put in place, and the lines say that this one cannot read it', async () => {
    const bytes = Buffer.from(
      (await save(onSocket())).toString('latin1').replace(/^REDIS\d{4}/, 'REDIS0099'),
      'latin1',
    );
    const { lines } = await placeRdb(join(await newFolder(), 'dump.rdb'), asStream(bytes), placing());
    assert.match(lines.join('\n'), /of a newer Redis than the one installed here/);
  });

  test('details tell the version of the server, and how many keys there are', async () => {
    const run = newRun();
    await save(onSocket(), run);
    const [first, ...rest] = run.details;
    assert.deepEqual([first?.['type'], first?.['role'], first?.['mode']], ['server', 'master', 'standalone']);
    assert.match(String(first?.['version']), /^\d+\.\d+\.\d+$/);
    assert.match(String(first?.['dumpedBy']), /^\d+\.\d+\.\d+$/);
    assert.deepEqual(rest, [
      { type: 'database', source: 'cache', name: '0', keys: 9, expires: 0 },
      { type: 'database', source: 'cache', name: '3', keys: 1, expires: 1 },
      { type: 'database', source: 'cache', name: '15', keys: 3000, expires: 0 },
      { type: 'redis', source: 'cache', keys: 3010, expires: 1, databases: 16 },
    ]);
  });

  test('a user with the rights that the hint names may save; with any less it is told', async () => {
    server.cli(
      [],
      `ACL SETUSER backup reset on ">${canary.replaceAll(/["\\]/g, '\\$&')}" +info +sync +replconf\n`,
    );
    const password = new Secret(() => canary);
    const bytes = await save(overTcp({ user: 'backup', password }));
    assert.ok(bytes.length > 10_000);
    server.cli(['ACL', 'SETUSER', 'backup', '-sync']);
    await assert.rejects(
      save(overTcp({ user: 'backup', password })),
      failsWith('source-denied', /NOPERM.*sync/, /ACL SETUSER name \+info \+sync \+replconf/),
    );
    server.cli(['ACL', 'SETUSER', 'backup', '-info']);
    await assert.rejects(
      save(overTcp({ user: 'backup', password })),
      failsWith('source-denied', /NOPERM.*info/),
    );
  });

  test('a command that was taken away is told, and not that the server may be down', async () => {
    for (const name of ['INFO', 'SYNC']) {
      await using other = await startRedis(await newFolder(), { settings: [`rename-command ${name} ""`] });
      await assert.rejects(
        save(overTcp({ port: other.port, password: new Secret(() => other.password) })),
        failsWith('source-denied', new RegExp(`unknown command '${name}'`), /rename-command/),
      );
    }
  });

  test('a server that is down, a wrong password and a missing one are told apart', async () => {
    await assert.rejects(
      save(overTcp({ port: 1 })),
      failsWith('source-unavailable', /127\.0\.0\.1, port 1: .*Connection refused/, /is the server running/),
    );
    await assert.rejects(
      save(onSocket({ host: join(scratch, 'none') })),
      failsWith('source-unavailable', /Could not connect/),
    );
    const wrong = new Secret(() => canary);
    await assert.rejects(
      save(overTcp({ password: wrong })),
      (error: unknown) =>
        failsWith('source-denied', /WRONGPASS/, /check user and password/)(error) &&
        !String(error).includes('canary'),
    );
    await assert.rejects(save(overTcp({ password: undefined })), failsWith('source-denied', /NOAUTH/));
  });

  test('a password that no environment can hold is refused, and not repeated', async () => {
    const password = new Secret(() => 'canary\0');
    await assert.rejects(
      save(overTcp({ password })),
      (error: unknown) =>
        failsWith('config-invalid', /NUL byte/)(error) && !String((error as Error).stack).includes('canary'),
    );
  });

  test('a password for a server that asks for none is told', async () => {
    server.cli(['CONFIG', 'SET', 'requirepass', '']);
    try {
      await assert.rejects(
        save(overTcp()),
        failsWith('source-denied', /without any password/, /leave it out/),
      );
      assert.ok((await save(overTcp({ password: undefined }))).length > 10_000);
    } finally {
      server.cli([], `CONFIG SET requirepass ${server.password}\n`);
    }
  });

  test('a login that is refused is told before anything is saved, also where anybody is let in', async () => {
    server.cli(['CONFIG', 'SET', 'requirepass', '']);
    try {
      const config = overTcp({ user: 'nobody', password: new Secret(() => 'wrong') });
      await assert.rejects(
        redisSource(config).streams(newRun()),
        failsWith('source-denied', /: AUTH failed: WRONGPASS/, /check user and password/),
      );
    } finally {
      server.cli([], `CONFIG SET requirepass ${server.password}\n`);
    }
  });

  test('a server that ends while it sends the dump yields no dump', async () => {
    const folder = await newFolder();
    const victim = await startRedis(folder, {
      settings: ['rdb-key-save-delay 2000', 'repl-diskless-sync yes'],
    });
    await using _ = victim;
    victim.cli(['DEBUG', 'POPULATE', '5000']);
    const password = new Secret(() => victim.password);
    const saving = save(overTcp({ port: victim.port, password }));
    await until(
      () => victim.cli(['INFO', 'persistence']).includes('rdb_bgsave_in_progress:1'),
      () => 'no dump was begun',
    );
    victim.cli(['CLIENT', 'KILL', 'TYPE', 'replica']);
    victim.cli(['CONFIG', 'SET', 'save', '']);
    await assert.rejects(
      saving,
      failsWith('source-unavailable', /redis-cli ended with status 1: .*(I\/O [Ee]rror|rror reading)/),
    );
  });

  test('a redis-cli that is missing or too old is told before anything is asked', async () => {
    await assert.rejects(
      save(onSocket(), newRun(), [scratch]),
      failsWith('tool-missing', /redis-cli/, /apt-get/),
    );
    await assert.rejects(
      save(onSocket(), newRun(), await programsWith('too-old')),
      failsWith('tool-too-old', /5\.0\.14/, /newer/),
    );
  });

  for (const [fixture, code, says] of [
    ['writes-nothing', 'source-empty', /is empty, although/],
    ['empty', 'source-empty', /is empty, although/],
    ['dies-midway', 'tool-failed', /SIGKILL/],
    ['something-else', 'source-damaged', /does not begin as it should/],
    ['cut-short', 'source-damaged', /does not end as it should/],
    ['floods-stderr', 'tool-failed', /the last word/],
  ] as const)
    test(`a redis-cli that does this yields no dump: ${fixture}`, async () => {
      const run = newRun();
      await assert.rejects(save(onSocket(), run, await programsWith(fixture)), failsWith(code, says));
      assert.deepEqual(run.made.filter(existsSync), []);
    });

  test('redis-check-rdb notices what the last bytes do not show', async () => {
    const [folder = ''] = await programsWith('cut-short');
    await symlink('/usr/bin/redis-check-rdb', join(folder, 'redis-check-rdb'));
    await assert.rejects(save(onSocket(), newRun(), [folder]), failsWith('source-damaged', /Unexpected EOF/));
  });

  test('one that hangs is ended when the signal aborts, and its file is removed', async () => {
    const abort = new AbortController();
    const run = newRun(abort.signal);
    const saving = save(onSocket(), run, await programsWith('hangs'));
    setTimeout(() => abort.abort(new Error('took too long')), 500);
    await assert.rejects(saving, /took too long/);
    assert.deepEqual(run.made.filter(existsSync), []);
  });

  test('a disk that is full is told as such', { skip: !isRoot }, async () => {
    const full = await newFolder();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', full]);
    try {
      const temporary = () => mkdtemp(join(full, 't-'));
      await assert.rejects(
        save(onSocket(), newRun(undefined, temporary)),
        failsWith('failed', /No space left on device/, /temporary folder needs as much free room/),
      );
      assert.deepEqual(readdirSync(full), []);
    } finally {
      execFileSync('umount', [full]);
    }
  });

  test('the password is in the environment of redis-cli alone, and in no argument', async () => {
    const spy = await newFolder();
    const log = join(spy, 'log');
    const script = (name: string) =>
      `#!/bin/sh\n{ echo "${name} $*"; env; } >>${log}\nexec /usr/bin/${name} "$@"\n`;
    for (const name of ['redis-cli', 'redis-check-rdb'])
      await writeFile(join(spy, name), script(name), { mode: 0o755 });
    await save(onSocket(), newRun(), [spy]);
    const seen = readFileSync(log, 'utf8').split(/^(?=redis-)/m);
    assert.equal(seen.length, 4, 'the version, INFO, the dump, the check');
    for (const call of seen) {
      const [args = '', ...env] = call.split('\n');
      assert.ok(!args.includes(server.password));
      const has = env.filter((line) => line.includes(server.password));
      assert.deepEqual(has, /--rdb|INFO/.test(args) ? [`REDISCLI_AUTH=${server.password}`] : [], args);
    }
  });
});
