import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Secret } from '../../src/config/secrets.ts';
import { SealiftError } from '../../src/errors.ts';
import { firstCommand, RedisMaster } from '../../src/sources/redis-master.ts';
import { parseTarget, replicate } from '../../src/sources/redis-replicate.ts';
import { contentOf, fill, type RedisService, startRedis } from '../services/redis.ts';
import { freePorts } from '../services/server-group.ts';
import { withoutServices } from '../services/services.ts';
import { inPieces } from '../support/bytes.ts';
import { failsWith } from '../support/fails-with.ts';

type Running = RedisService & AsyncDisposable;

/** What a test makes is removed at the end of the file. */
let scratch = '';
let content: string[] = [];
let dump = Buffer.alloc(0);
let target: Running;

async function start(settings: string[] = [], appendOnly = false, folder?: string): Promise<Running> {
  const dir = folder ?? (await mkdtemp(join(scratch, 'd-')));
  await chmod(dir, 0o755);
  return startRedis(dir, { settings, appendOnly });
}

const asStream = (bytes: Buffer, pieceBytes = 1000) => ({
  file: 'dump.rdb',
  open: () => inPieces(bytes, pieceBytes),
});

const loading = (change: object = {}) => ({
  force: false,
  signal: new AbortController().signal,
  password: new Secret(() => target.password),
  ...change,
});

const url = ({ port }: RedisService) => `redis://127.0.0.1:${port}`;

/** What a load changes for its time, and must leave as it was. */
const roleOf = ({ cli }: RedisService): string =>
  [
    /^role:\w+/m.exec(cli(['INFO', 'replication']).toString())?.[0],
    cli(['CONFIG', 'GET', 'masterauth']).toString(),
    cli(['CONFIG', 'GET', 'masteruser']).toString(),
  ].join(' ');

async function* broken() {
  yield dump.subarray(0, 30_000);
  throw new SealiftError('verify-failed', 'the segment is damaged');
}

async function* slow() {
  yield dump.subarray(0, 30_000);
  await delay(2500);
  yield dump.subarray(30_000);
}

const odd = 'old "pass\\word\' %41';

suite('loading into a Redis that runs', { skip: withoutServices }, () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-replicate-'));
    await chmod(scratch, 0o755);
    await using full = await start();
    fill(full);
    content = contentOf(full);
    full.cli(['SAVE']);
    dump = await readFile(join(full.dataDir, 'dump.rdb'));
    target = await start();
    const quoted = odd.replaceAll(/["\\]/g, '\\$&');
    target.cli([], `CONFIG SET masterauth "${quoted}"\nCONFIG SET masteruser someone\n`);
  });

  after(async () => {
    await target?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('an empty server has all of the dump, is a master, and its settings are what they were', async () => {
    const before = roleOf(target);
    assert.match(before, /^role:master masterauth\nold "pass/);
    const { lines } = await replicate(url(target), asStream(dump), loading());
    assert.deepEqual(lines, [
      `the Redis server at 127.0.0.1, port ${target.port} loaded: it holds 3010 keys now`,
    ]);
    assert.deepEqual(contentOf(target), content);
    assert.equal(roleOf(target), before);
    target.cli(['SET', 'written', 'afterwards']);
    target.cli(['DEL', 'written']);
  });

  test('one that holds keys is refused; with force all of its data is replaced, over its socket too', async () => {
    target.cli(['SET', 'more', 'data']);
    await assert.rejects(
      replicate(url(target), asStream(dump), loading()),
      failsWith('target-exists', /is not empty: it holds 3011 keys/, /--force/),
    );
    assert.equal(target.cli(['GET', 'more']).toString(), 'data\n');
    await replicate(`redis://?host=${target.socket}`, asStream(dump, 100_000), loading({ force: true }));
    assert.deepEqual(contentOf(target), content);
  });

  test('a server with a log of changes has it all after a restart', async () => {
    const folder = await mkdtemp(join(scratch, 'd-'));
    {
      await using logged = await start([], true, folder);
      await replicate(url(logged), asStream(dump), loading({ password: new Secret(() => logged.password) }));
      logged.cli(['SET', 'after', '1']);
      while (!logged.cli(['INFO', 'persistence']).includes('aof_rewrite_in_progress:0'));
    }
    await using again = await start([], true, folder);
    assert.equal(again.cli(['GETDEL', 'after']).toString(), '1\n');
    assert.deepEqual(contentOf(again), content);
  });

  test('keys that the server evicts, as it has no room for them, are told', async () => {
    await using small = await start(['maxmemory 1200kb', 'maxmemory-policy allkeys-lru']);
    const { lines } = await replicate(
      url(small),
      asStream(dump),
      loading({ password: new Secret(() => small.password) }),
    );
    assert.match(lines[1] ?? '', /no room .*\(maxmemory 1\.17M, allkeys-lru\).* \d+ keys so far; raise/);
  });

  test('keys that the server evicts while its dump is still looked at are not of the dump', async () => {
    await using busy = await start(['maxmemory 1500kb', 'maxmemory-policy allkeys-lru']);
    const evicted = () => Number(/evicted_keys:(\d+)/.exec(busy.cli(['INFO', 'stats']).toString())?.[1]);
    const stream = asStream(dump);
    const open = () => {
      for (let i = 0; i < 20 && evicted() === 0; i++) busy.cli(['SET', `own:${i}`, 'x'.repeat(100_000)]);
      busy.cli(['CONFIG', 'SET', 'maxmemory', '100mb']);
      return stream.open();
    };
    const password = new Secret(() => busy.password);
    const { lines } = await replicate(url(busy), { ...stream, open }, loading({ password, force: true }));
    assert.ok(evicted() > 0);
    assert.equal(lines.length, 1, lines.join());
  });

  for (const how of ['disabled', 'swapdb'])
    test(`a dump that breaks off leaves the server as it was (repl-diskless-load ${how})`, async () => {
      target.cli(['CONFIG', 'SET', 'repl-diskless-load', how]);
      const before = [roleOf(target), ...contentOf(target)];
      let opened = 0;
      const stream = { file: 'dump.rdb', open: () => (opened++ < 2 ? inPieces(dump) : broken()) };
      await assert.rejects(
        replicate(url(target), stream, loading({ force: true })),
        failsWith('verify-failed', /the segment is damaged; it holds 3010 keys, as before/),
      );
      assert.deepEqual([roleOf(target), ...contentOf(target)], before);

      const abort = new AbortController();
      async function* endless() {
        yield dump.subarray(0, 30_000);
        abort.abort(new SealiftError('interrupted', 'interrupted by SIGINT'));
        yield dump.subarray(30_000);
      }
      opened = 0;
      const stopped = { file: 'dump.rdb', open: () => (opened++ < 2 ? inPieces(dump) : endless()) };
      const context = loading({ force: true, signal: abort.signal });
      await assert.rejects(
        replicate(url(target), stopped, context),
        failsWith('interrupted', /interrupted by SIGINT; it holds 3010 keys, as before/),
      );
      assert.deepEqual([roleOf(target), ...contentOf(target)], before);
      target.cli(['CONFIG', 'SET', 'repl-diskless-load', 'disabled']);
    });

  test('a dump that the server cannot load is told, with what the server is now', async () => {
    await using victim = await start();
    const password = new Secret(() => victim.password);
    // Sound in itself, but for a function that cannot be compiled; zeros are no checksum.
    const uncompilable = Buffer.from(
      dump.toString('latin1').replace('return 1 end', 'return ( end'),
      'latin1',
    );
    uncompilable.fill(0, uncompilable.length - 8);
    assert.ok(!uncompilable.subarray(0, -8).equals(dump.subarray(0, -8)));
    await assert.rejects(
      replicate(url(victim), asStream(uncompilable), loading({ password })),
      (error: unknown) =>
        failsWith(
          'restore-failed',
          /broke off while it loaded the dump; it (does not answer|holds 0 keys)/,
          /its log says why/,
        )(error) && !/suppressed/.test((error as Error).message),
    );
  });

  test('a dump that has more databases than the server is refused before anything is changed', async () => {
    await using small = await start(['databases 4']);
    const password = new Secret(() => small.password);
    small.cli(['SET', 'old', 'data']);
    const before = roleOf(small);
    await assert.rejects(
      replicate(url(small), asStream(dump), loading({ password, force: true })),
      failsWith('restore-failed', /has a database 15, and .* has only 4 databases/, /databases 16/),
    );
    assert.equal(small.cli(['GET', 'old']).toString(), 'data\n');
    assert.equal(roleOf(small), before);
  });

  test('a dump of a newer Redis, a damaged one, and what is none, are refused before anything is changed', async () => {
    const before = [roleOf(target), ...contentOf(target)];
    const newer = Buffer.from(dump.toString('latin1').replace(/(?<=redis-ver.)\d+\.\d+/, '9.9'), 'latin1');
    await assert.rejects(
      replicate(url(target), asStream(newer), loading({ force: true })),
      failsWith('restore-failed', /of Redis 9\.9, and .* is the older \d+\.\d+\.\d+/),
    );
    const damaged = Buffer.from(dump);
    damaged.fill(0xee, 20_000, 20_100);
    await assert.rejects(
      replicate(url(target), asStream(damaged), loading({ force: true })),
      failsWith('restore-failed', /redis-check-rdb finds the dump damaged/),
    );
    await assert.rejects(
      replicate(url(target), asStream(Buffer.alloc(500)), loading({ force: true })),
      failsWith('restore-failed', /no dump of a Redis/),
    );
    assert.deepEqual([roleOf(target), ...contentOf(target)], before);
  });

  test('a store that is silent for longer than the patience of the server is waited for', async () => {
    const before = roleOf(target);
    target.cli(['CONFIG', 'SET', 'repl-timeout', '1']);
    // Read for what it is, then to be checked, and then to be loaded.
    let times = 0;
    const open = () => (++times < 3 ? inPieces(dump, 1000) : slow());
    await replicate(url(target), { file: 'dump.rdb', open }, loading({ force: true }));
    assert.deepEqual([roleOf(target), ...contentOf(target)], [before, ...content]);
    assert.equal(target.cli(['CONFIG', 'GET', 'repl-timeout']).toString(), 'repl-timeout\n1\n');
    target.cli(['CONFIG', 'SET', 'repl-timeout', '60']);
  });

  test('a stranger who connects while the dump is sent does not end the load', async () => {
    async function* interrupted() {
      yield dump.subarray(0, 30_000);
      const port = /^master_port:(\d+)/m.exec(target.cli(['INFO', 'replication']).toString())?.[1];
      for (const words of ['', 'GET / HTTP/1.1\r\n\r\n', 'AUTH wrong\r\nPSYNC ? -1\r\nNO SUCH WORD\r\n']) {
        const stranger = connect({ host: '127.0.0.1', port: Number(port) });
        stranger.resume().end(words);
        await once(stranger, 'close');
      }
      yield dump.subarray(30_000);
    }
    let times = 0;
    const open = () => (++times < 3 ? inPieces(dump, 1000) : interrupted());
    await replicate(url(target), { file: 'dump.rdb', open }, loading({ force: true }));
    assert.deepEqual(contentOf(target), content);
  });

  test('what could not be set back is told', async () => {
    await using own = await start([]);
    own.cli(['ACL', 'SETUSER', 'fading', 'on', '>fading', '+info', '+config', '+replicaof']);
    let times = 0;
    const open = () => {
      if (++times < 3) return inPieces(dump, 1000);
      own.cli(['ACL', 'SETUSER', 'fading', '-config', '-replicaof']);
      return broken();
    };
    await assert.rejects(
      replicate(
        url(own).replace('//', '//fading@'),
        { file: 'dump.rdb', open },
        loading({ password: new Secret(() => 'fading') }),
      ),
      /still has to be told REPLICAOF NO ONE, and its masterauth, masteruser and repl-timeout set again: .*NOPERM/,
    );
    assert.match(own.cli(['CONFIG', 'GET', 'repl-timeout']).toString(), /86400/);
  });

  test('a server that is down, a login without rights, and a replica are told', async () => {
    await assert.rejects(
      replicate('redis://127.0.0.1:1', asStream(dump), loading()),
      failsWith('source-unavailable', /Connection refused/),
    );
    await assert.rejects(
      replicate(url(target), asStream(dump), loading({ password: undefined, force: true })),
      failsWith('source-denied', /NOAUTH/),
    );
    target.cli(['ACL', 'SETUSER', 'weak', 'on', '>weak', '+info']);
    await assert.rejects(
      replicate(
        url(target).replace('//', '//weak@'),
        asStream(dump),
        loading({ password: new Secret(() => 'weak'), force: true }),
      ),
      failsWith('source-denied', /refuses CONFIG GET: NOPERM/, /redis:\/var\/lib/),
    );
    target.cli(['ACL', 'SETUSER', 'half', 'on', '>half', '+info', '+config']);
    await assert.rejects(
      replicate(
        url(target).replace('//', '//half@'),
        asStream(dump),
        loading({ password: new Secret(() => 'half'), force: true }),
      ),
      (error: unknown) => {
        assert.ok(error instanceof SealiftError && error.code === 'source-denied', String(error));
        assert.match(error.message, /refuses REPLICAOF NO: NOPERM/);
        assert.doesNotMatch(error.message, /still has to be told/, 'it is a master all the time');
        return true;
      },
    );
    await using replica = await start([`replicaof 127.0.0.1 ${target.port}`]);
    await assert.rejects(
      replicate(
        url(replica),
        asStream(dump),
        loading({ password: new Secret(() => replica.password), force: true }),
      ),
      failsWith('usage', /is a replica/),
    );
  });

  test('a server that still waits for a restore that was killed is told with how it becomes a master again', async () => {
    const [port] = await freePorts(1);
    await using orphan = await start([`replicaof 127.0.0.1 ${port}`]);
    const password = new Secret(() => orphan.password);
    const again = () => replicate(url(orphan), asStream(dump), loading({ password, force: true }));
    await assert.rejects(again, failsWith('usage', /is a replica/, /killed.*REPLICAOF NO ONE.*repl-timeout/));
    orphan.cli(['REPLICAOF', 'NO', 'ONE']);
    await again();
  });

  test('a stranger who connects gets no dump', async () => {
    await using master = new RedisMaster(() => inPieces(dump));
    const port = await master.listen('127.0.0.1');
    for (const words of [
      'PSYNC ? -1\r\n',
      'AUTH wrong\r\nPSYNC ? -1\r\n',
      `AUTH ${'0'.repeat(48)}\r\nSYNC\r\n`,
    ]) {
      const socket = connect({ host: '127.0.0.1', port });
      socket.end(words);
      let said = '';
      socket.on('data', (chunk: Buffer) => (said += chunk.toString('latin1')));
      await once(socket, 'close');
      assert.match(said, /^-(NOAUTH|WRONGPASS)/);
      assert.doesNotMatch(said, /FULLRESYNC|REDIS/);
    }
  });
});

suite('where a dump is loaded', () => {
  test('a URL names user, host and port, or a socket', () => {
    assert.deepEqual(parseTarget('redis://me@db.example:6380'), {
      host: 'db.example',
      port: 6380,
      user: 'me',
    });
    assert.deepEqual(parseTarget('redis://[::1]/'), { host: '::1', port: undefined, user: undefined });
    assert.equal(parseTarget('redis://?host=/run/redis/s').host, '/run/redis/s');
    assert.deepEqual(parseTarget('redis://?host=/run/redis/s&user=a%40b'), {
      host: '/run/redis/s',
      port: undefined,
      user: 'a@b',
    });
    assert.equal(parseTarget('redis://a%40b@h').user, 'a@b');
  });

  test('a name comes out of a URL as it was put in, or the URL is refused', () => {
    const { host, user } = parseTarget('redis://?host=/run/a+b&user=me%2Bbackup');
    assert.deepEqual([host, user], ['/run/a+b', 'me+backup']);
    assert.throws(() => parseTarget('redis://host#2'), failsWith('usage', /must look like redis:/));
  });

  test('a password in the URL, a database and unknown parameters are refused, and not repeated', () => {
    for (const url of [
      'redis://me:canary@host',
      'redis://h?password=canary',
      'redis://h/3',
      'redis://h?db=canary',
      'redis://a%zz@h',
      'redis://x y/',
    ])
      assert.throws(
        () => parseTarget(url),
        (error: unknown) =>
          error instanceof SealiftError &&
          error.exitStatus === 2 &&
          !`${error.message}${error.hint}`.includes('canary'),
        url,
      );
  });

  test('commands are read as arrays and as lines, however they are cut', () => {
    const text = '*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$5\r\na\r\nbc\r\nPING\r\n';
    for (let cut = 0; cut < 31; cut++) assert.equal(firstCommand(text.slice(0, cut)), undefined, String(cut));
    const first = firstCommand(text);
    assert.deepEqual(first?.words, ['AUTH', '', 'a\r\nbc']);
    assert.deepEqual(firstCommand(text.slice(first?.length)), { words: ['PING'], length: 6 });
    assert.deepEqual(firstCommand('\n'), { words: [], length: 1 });
  });
});
