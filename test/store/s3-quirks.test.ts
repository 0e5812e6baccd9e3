import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import dns from 'node:dns';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ClientRequest } from 'node:http';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { Transform } from 'node:stream';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { strayObjects } from '../../src/commands/audit-store.ts';
import type { ReaderSession } from '../../src/commands/reader-session.ts';
import { createLog } from '../../src/log.ts';
import type { S3Options } from '../../src/store/s3-client.ts';
import { freshBucket, needs, theService } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { makeAuthority, makeServerCertificate } from '../support/certificates.ts';
import { failsWith } from '../support/fails-with.ts';
import { temporary } from '../support/temporary.ts';
import { errorAnswer, s3Proxy, type Answer, type Exchange } from './s3-proxy.ts';
import { freshPrefix, s3Store } from './s3-store.ts';

const { skip } = needs('s3');
const bucket = skip ? '' : (await freshBucket()).bucket;

const pass = async (exchange: Exchange): Promise<void> => exchange.answer(await exchange.ask());

async function storeBehind(
  t: TestContext,
  handle: (exchange: Exchange) => Promise<void>,
  options?: S3Options,
) {
  const prefix = freshPrefix();
  const store = s3Store(t, { bucket, prefix, endpoint: await s3Proxy(t, handle) }, options);
  return { store, real: s3Store(t, { bucket, prefix }) };
}

function listingOf(keys: readonly string[], versions: boolean, end: string): Answer {
  const about =
    '<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size>';
  const item = versions ? 'Version' : 'Contents';
  const listed = keys.map((key) => `<${item}><Key>${key}</Key>${about}</${item}>`).join('');
  const root = versions ? 'ListVersionsResult' : 'ListBucketResult';
  const headers = { 'content-type': 'application/xml', date: new Date().toUTCString() };
  return {
    status: 200,
    headers,
    body: Buffer.from(`<?xml version="1.0"?><${root}>${end}${listed}</${root}>`),
  };
}

suite('an S3 server with quirks:', { skip, concurrency: true }, () => {
  test('where no conditional put is known, objects are put without condition', async (t) => {
    const conditions: (string | undefined)[] = [];
    const { store, real } = await storeBehind(t, async (exchange) => {
      if (exchange.method === 'PUT') conditions.push(exchange.headers['if-none-match']);
      if (exchange.headers['if-none-match'] !== undefined)
        exchange.answer(errorAnswer(501, 'NotImplemented'));
      else await pass(exchange);
    });
    await store.put('a', Buffer.from('1'));
    await store.put('b', Buffer.from('2'));
    assert.deepEqual(await Array.fromAsync(real.list(''), ({ key }) => key), ['a', 'b']);
    assert.equal(conditions.at(0), '*');
    assert.deepEqual(conditions.slice(-2), [undefined, undefined], 'the second put does not try again');
    assert.equal(conditions.filter((condition) => condition === undefined).length, 2);
  });

  test('a put whose answer was lost is tried again, and the 412 counts as success', async (t) => {
    const answers: number[] = [];
    const { store, real } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      answers.push(answer.status);
      if (answers.length === 1) exchange.cut();
      else exchange.answer(answer);
    });
    const bytes = pseudoRandom(1, 100_000);
    await store.put('a', bytes);
    assert.deepEqual(answers, [200, 412, 200], 'put, put again, look');
    const [stored] = await Array.fromAsync(real.versions('a'));
    assert.ok(stored?.equals(bytes));
  });

  test('a 412 because of another object is a conflict, even of the same size', async (t) => {
    const { store, real } = await storeBehind(t, pass);
    await real.put('a', Buffer.from('1'));
    await assert.rejects(store.put('a', Buffer.from('2')), { code: 'store-conflict' });
  });

  for (const [status, code] of [
    [500, 'InternalError'],
    [503, 'SlowDown'],
  ] as const)
    test(`a ${status} is tried again`, async (t) => {
      let requests = 0;
      const { store, real } = await storeBehind(t, async (exchange) => {
        if (++requests % 2 === 1) exchange.answer(errorAnswer(status, code));
        else await pass(exchange);
      });
      await store.put('a', Buffer.from('1'));
      assert.deepEqual(await Array.fromAsync(store.list(''), ({ key }) => key), ['a']);
      assert.equal(requests, 4);
      assert.deepEqual(await Array.fromAsync(real.versions('a'), String), ['1']);
    });

  test('a 500 that stays is reported and not taken for an absent object', async (t) => {
    const { store } = await storeBehind(t, async (exchange) =>
      exchange.answer(errorAnswer(500, 'InternalError')),
    );
    await assert.rejects(Array.fromAsync(store.versions('a')), {
      code: 'store-unavailable',
      message: /InternalError/,
    });
  });

  test('a full store says so', async (t) => {
    const { store } = await storeBehind(t, async (exchange) =>
      exchange.answer(errorAnswer(403, 'QuotaExceeded')),
    );
    await assert.rejects(store.put('a', Buffer.from('1')), { code: 'store-full' });
  });

  test('clocks that are too far apart are named', async (t) => {
    const { store } = await storeBehind(t, async (exchange) =>
      exchange.answer(errorAnswer(403, 'RequestTimeTooSkewed')),
    );
    await assert.rejects(store.put('a', Buffer.from('1')), { code: 'clock-wrong' });
  });

  test('an object that arrives in part is an error, never a shorter object', async (t) => {
    const { store, real } = await storeBehind(t, async (exchange) =>
      exchange.cut(await exchange.ask(), 50_000),
    );
    await real.put('a', pseudoRandom(2, 100_000));
    await assert.rejects(Array.fromAsync(store.versions('a')), { code: 'store-unavailable' });
  });

  test(
    'an object that stops arriving is an error, and nobody waits for ever',
    { timeout: 30_000 },
    async (t) => {
      const { store, real } = await storeBehind(
        t,
        async (exchange) => exchange.stall(await exchange.ask(), 50_000),
        { stalledAfterMs: 500 },
      );
      await real.put('a', pseudoRandom(2, 100_000));
      await assert.rejects(Array.fromAsync(store.versions('a')), {
        code: 'store-unavailable',
        message: /cannot read a .*timed out/,
      });
    },
  );

  for (const [name, listed, encoding] of [
    ['does not encode keys, and does not say so', 'a%2Fb+c', ''],
    ['says that it encodes keys, and encodes one badly', 'a%zz+c', '<EncodingType>url</EncodingType>'],
  ] as const)
    test(`of a store that ${name} the keys are as they were written`, async (t) => {
      const { store, real } = await storeBehind(t, async (exchange) => {
        const answer = await exchange.ask();
        const body = answer.body
          .toString()
          .replace('<EncodingType>url</EncodingType>', encoding)
          .replace(/(%2F|\/)KEY/, `/${listed}`);
        exchange.answer({
          ...answer,
          headers: { ...answer.headers, 'content-length': String(Buffer.byteLength(body)) },
          body: Buffer.from(body),
        });
      });
      await real.put('KEY', Buffer.from('1'));
      for (const listing of [store.list(''), store.listVersions('')])
        assert.deepEqual(await Array.fromAsync(listing, ({ key }) => key), [listed]);
    });

  test('a listing that is cut short is an error, never a shorter listing', async (t) => {
    const { store, real } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      const body = answer.body.toString().replace('<IsTruncated>false', '<IsTruncated>true');
      exchange.answer({
        ...answer,
        headers: { ...answer.headers, 'content-length': String(body.length) },
        body: Buffer.from(body),
      });
    });
    await real.put('a', Buffer.from('1'));
    await assert.rejects(Array.fromAsync(store.list('')), {
      code: 'store-unavailable',
      message: /cut its listing .* short/,
    });
  });

  test('an answer that goes on and on is given up, and not gathered', async (t) => {
    const { store } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      const body = Buffer.concat([answer.body, Buffer.alloc(2 ** 25, ' ')]);
      exchange.answer({ ...answer, headers: {}, body });
    });
    const given = { code: 'store-unavailable', message: /^s3:\S+ answers with more than any answer has$/ };
    await assert.rejects(Array.fromAsync(store.list('')), given);
    await assert.rejects(Array.fromAsync(store.versions('none')), given);
  });

  test('a store that gives its first page again and again has a listing without end, and is told so', async (t) => {
    let pages = 0;
    const { store, real } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      // The server goes on behind it: before all keys.
      const truncated = `<NextContinuationToken>!${++pages}</NextContinuationToken><IsTruncated>true`;
      const body = answer.body.toString().replace('<IsTruncated>false', pages > 50 ? '$&' : truncated);
      exchange.answer({ ...answer, headers: {}, body: Buffer.from(body) });
    });
    await real.put('a/b', Buffer.from('1'));
    const circles = { code: 'store-unavailable', message: /gives the same page of its listing .* again/ };
    await assert.rejects(Array.fromAsync(store.list('')), circles);
    await assert.rejects(store.folders(''), circles);
    assert.equal(pages, 4);
  });

  for (const [what, keysOf] of [
    ['new keys', (page: number) => [`a${String(page).padStart(9, '0')}`]],
    ['empty pages', () => []],
  ] as const)
    test(`a store whose listings go on and on with ${what} is given up`, { timeout: 30_000 }, async (t) => {
      const prefix = freshPrefix();
      let pages = 0;
      const endpoint = await s3Proxy(t, async (exchange) => {
        const keys = keysOf(++pages).map((key) => prefix + key);
        const versions = /[?&]versions/.test(exchange.path);
        const next = versions
          ? `<NextKeyMarker>${prefix}a${pages}</NextKeyMarker>`
          : `<NextContinuationToken>${pages}</NextContinuationToken>`;
        exchange.answer(listingOf(keys, versions, `<IsTruncated>true</IsTruncated>${next}`));
      });
      const store = s3Store(t, { bucket, prefix, endpoint }, { mostListed: 1000 });
      const given = failsWith('store-unavailable', /goes on after 1000 keys/);
      await assert.rejects(Array.fromAsync(store.list('')), given);
      await assert.rejects(store.folders(''), given);
      await assert.rejects(Array.fromAsync(store.listVersions('')), given);
      assert.equal(pages, 33);
    });

  test('the one listing of a whole store may have as many keys for each of its hosts', async (t) => {
    const prefix = freshPrefix();
    let pages = 0;
    const endpoint = await s3Proxy(t, async (exchange) => {
      const page = ++pages;
      const key = `${prefix}h${page > 6 ? 2 : 1}/${String(page).padStart(2, '0')}`;
      const next = `<IsTruncated>true</IsTruncated><NextContinuationToken>${page}</NextContinuationToken>`;
      exchange.answer(listingOf([key], false, page < 12 ? next : '<IsTruncated>false</IsTruncated>'));
    });
    const store = s3Store(t, { bucket, prefix, endpoint }, { mostListed: 1000 });
    const session = { store } as ReaderSession;
    assert.deepEqual(await strayObjects(session, ['h1', 'h2'], new AbortController().signal), []);
    assert.equal(pages, 12);
  });

  test('a listing that is not sorted, or holds what was not asked for, is an error', async (t) => {
    const prefix = freshPrefix();
    let keys: string[] = [];
    const endpoint = await s3Proxy(t, async (exchange) => {
      const versions = /[?&]versions/.test(exchange.path);
      exchange.answer(listingOf(keys, versions, '<IsTruncated>false</IsTruncated>'));
    });
    const store = s3Store(t, { bucket, prefix, endpoint });
    const listed = () => Array.fromAsync(store.list(''));
    keys = [`${prefix}b`, `${prefix}a`];
    await assert.rejects(listed(), failsWith('store-unavailable', /lists \S+a after \S+b: it is not sorted/));
    keys = ['a', `${prefix}b`];
    const other = failsWith('store-unavailable', /gives a, which was not asked for/);
    await assert.rejects(listed(), other);
    await assert.rejects(Array.fromAsync(store.listVersions('')), other);
    // As who goes through folders comes to them.
    keys = [`${prefix}h1/b`, `${prefix}h1-x/a`];
    assert.equal((await listed()).length, 2);
    keys = [`${prefix}h1/b`, `${prefix}h1/a`];
    await assert.rejects(listed(), failsWith('store-unavailable', /it is not sorted/));
    // By their bytes; as texts of JavaScript they are the other way round.
    keys = [`${prefix}\uFF5E`, `${prefix}\u{1F600}`];
    assert.equal((await listed()).length, 2);
  });

  test('the time is that of the answer, not of this machine', async (t) => {
    const { store } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      exchange.answer({ ...answer, headers: { ...answer.headers, date: 'Sun, 22 Nov 2026 12:00:00 GMT' } });
    });
    assert.equal((await store.now()).toISOString(), '2026-11-22T12:00:00.000Z');
  });

  test('answers without a date tell no time', async (t) => {
    const { store } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      exchange.answer({ ...answer, headers: { ...answer.headers, date: undefined } });
    });
    await assert.rejects(store.now(), { code: 'clock-wrong' });
  });

  test('a store without versions gives the one that there is', async (t) => {
    const { store, real } = await storeBehind(t, async (exchange) => {
      if (exchange.path.includes('versions')) exchange.answer(errorAnswer(501, 'NotImplemented'));
      else await pass(exchange);
    });
    await real.put('a', Buffer.from('1'));
    assert.deepEqual(await Array.fromAsync(store.versions('a'), String), ['1']);
    assert.deepEqual(await Array.fromAsync(store.versions('none'), String), []);
  });

  for (const [name, answer] of [
    ['knows no versions', errorAnswer(501, 'NotImplemented')],
    ['does not let versions be asked for', errorAnswer(405, 'MethodNotAllowed')],
    [
      'takes the question for versions for one for objects',
      {
        status: 200,
        headers: { 'content-type': 'application/xml' },
        body: Buffer.from(
          '<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>',
        ),
      },
    ],
  ] as const)
    test(`of a store that ${name} the objects are listed and can be removed`, async (t) => {
      const { store, real } = await storeBehind(t, async (exchange) => {
        if (/[?&]versions/.test(exchange.path)) exchange.answer(answer);
        else await pass(exchange);
      });
      for (const key of ['a', 'b']) await real.put(key, Buffer.from('1'));
      const versions = await Array.fromAsync(store.listVersions(''));
      assert.deepEqual(
        versions.map(({ key, version, latest, marker }) => [key, version, latest, marker]),
        [
          ['a', undefined, true, false],
          ['b', undefined, true, false],
        ],
      );
      await store.remove(versions[0]!);
      assert.deepEqual(await Array.fromAsync(real.list(''), ({ key }) => key), ['b']);
    });

  test('a store that knows no multipart uploads has none that are unfinished', async (t) => {
    const { store } = await storeBehind(t, async (exchange) => {
      if (/[?&]uploads/.test(exchange.path)) exchange.answer(errorAnswer(501, 'NotImplemented'));
      else await pass(exchange);
    });
    assert.deepEqual(await Array.fromAsync(store.unfinished()), []);
  });

  test('a listing of versions that goes round in circles, or is cut short, is an error', async (t) => {
    for (const marker of ['<NextKeyMarker>PREFIXa</NextKeyMarker>', '']) {
      const prefix = freshPrefix();
      const endpoint = await s3Proxy(t, async (exchange) => {
        const answer = await exchange.ask();
        const body = answer.body
          .toString()
          .replace(
            '<IsTruncated>false</IsTruncated>',
            `<IsTruncated>true</IsTruncated>${marker.replace('PREFIX', prefix)}`,
          )
          .replace('</IsTruncated>', `</IsTruncated>`);
        exchange.answer({
          ...answer,
          headers: { ...answer.headers, 'content-length': String(Buffer.byteLength(body)) },
          body: Buffer.from(body),
        });
      });
      await s3Store(t, { bucket, prefix }).put('a', Buffer.from('1'));
      const store = s3Store(t, { bucket, prefix, endpoint });
      await assert.rejects(Array.fromAsync(store.listVersions('')), {
        code: 'store-unavailable',
        message: /cut its listing .* short/,
      });
    }
  });

  test('a lock that only the message of the refusal tells is a lock', async (t) => {
    const { store, real } = await storeBehind(t, async (exchange) => {
      if (exchange.method !== 'DELETE') return pass(exchange);
      const message = 'Object is WORM protected and cannot be overwritten';
      exchange.answer(errorAnswer(400, 'InvalidRequest', message));
    });
    await real.put('a', Buffer.from('1'));
    await assert.rejects(store.remove({ key: 'a', version: 'null' }), {
      code: 'object-locked',
      message: /cannot delete a .*locked/,
    });
  });

  test('a deletion that fails for a while is tried again, and one that keeps failing is reported', async (t) => {
    let refusals = 2;
    const { store, real } = await storeBehind(
      t,
      async (exchange) => {
        if (exchange.method === 'DELETE' && refusals-- > 0)
          exchange.answer(errorAnswer(500, 'InternalError'));
        else await pass(exchange);
      },
      { patienceMs: 1500 },
    );
    await real.put('a', Buffer.from('1'));
    await store.remove({ key: 'a', version: 'null' });
    assert.deepEqual(await Array.fromAsync(real.list('')), []);
    await real.put('a', Buffer.from('1'));
    refusals = Infinity;
    await assert.rejects(store.remove({ key: 'a', version: 'null' }), {
      code: 'store-unavailable',
      message: /cannot delete a .*InternalError/,
    });
  });

  const badGateway: Answer = {
    status: 502,
    headers: { 'content-type': 'text/html' },
    // As nginx writes it, which is no XML.
    body: Buffer.from(
      '<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n',
    ),
  };
  for (const [what, away] of [
    ['says 503', (exchange: Exchange) => exchange.answer(errorAnswer(503, 'ServiceUnavailable'))],
    ['breaks every connection', (exchange: Exchange) => exchange.cut()],
    ['is behind a gateway that has lost it', (exchange: Exchange) => exchange.answer(badGateway)],
  ] as const)
    test(`a store that ${what} for a while is waited for, and the log tells`, async (t) => {
      let wasThere = true;
      const lines: string[] = [];
      const sink = { write: (line: string) => lines.push(line) };
      const log = createLog({ level: 'info', form: 'terminal', colour: false, sink });
      const { store, real } = await storeBehind(
        t,
        async (exchange) => (wasThere || lines.length > 0 ? pass(exchange) : away(exchange)),
        { log },
      );
      await real.put('old', Buffer.from('0'));
      await store.now();
      wasThere = false;
      const [listed] = await Promise.all([
        Array.fromAsync(store.list('old'), ({ key }) => key),
        store.put('a', Buffer.from('1')),
        store.put('b', Buffer.from('2')),
        store.remove({ key: 'old', version: undefined }),
      ]);
      assert.deepEqual(await Array.fromAsync(real.list(''), ({ key }) => key), ['a', 'b']);
      assert.ok(listed.length <= 1);
      const told = lines.map((line) => /the store is (away|back)/.exec(line)?.[1]);
      assert.deepEqual(told, ['away', 'back'], lines.join(''));
    });

  test('a store that stays away is given up, and who interrupts does not wait for it', async (t) => {
    let isAway = false;
    const { store } = await storeBehind(
      t,
      async (exchange) => (isAway ? exchange.answer(errorAnswer(503, 'ServiceUnavailable')) : pass(exchange)),
      { patienceMs: 1500 },
    );
    await store.put('a', Buffer.from('1'));
    isAway = true;
    await assert.rejects(store.put('b', Buffer.from('2')), {
      code: 'store-unavailable',
      message: /cannot write b .*ServiceUnavailable/,
    });
    const { store: patient } = await storeBehind(t, async (exchange) =>
      exchange.method === 'GET' ? pass(exchange) : exchange.cut(),
    );
    await patient.now();
    await assert.rejects(patient.put('c', Buffer.from('3'), AbortSignal.timeout(2000)), {
      name: 'AbortError',
    });
  });

  test('one question that fails while others are answered is no store that is away', async (t) => {
    const lines: string[] = [];
    const sink = { write: (line: string) => lines.push(line) };
    const log = createLog({ level: 'info', form: 'terminal', colour: false, sink });
    const { store } = await storeBehind(
      t,
      async (exchange) =>
        exchange.method === 'DELETE' ? exchange.answer(errorAnswer(500, 'InternalError')) : pass(exchange),
      { log, patienceMs: 3000 },
    );
    await store.put('a', Buffer.from('1'));
    const removed = store.remove({ key: 'a', version: undefined });
    const putting = (async () => {
      for (let i = 0; i < 20; i++) {
        await store.put(`b${i}`, Buffer.from('1'));
        await delay(100);
      }
    })();
    await assert.rejects(removed, { code: 'store-unavailable' });
    await putting;
    assert.deepEqual(lines, []);
  });

  test('a store that comes up while a backup begins is waited for', async (t) => {
    let isUp = false;
    const { store } = await storeBehind(
      t,
      (exchange) => (isUp ? pass(exchange) : Promise.resolve(exchange.cut())),
      { firstPatienceMs: 4000 },
    );
    setTimeout(() => (isUp = true), 2000);
    await store.now();
  });

  test('a store that never answered is not waited for', async (t) => {
    const { store } = await storeBehind(t, async (exchange) =>
      exchange.answer(errorAnswer(503, 'ServiceUnavailable')),
    );
    const startedMs = performance.now();
    await assert.rejects(store.put('a', Buffer.from('1')), { code: 'store-unavailable' });
    assert.ok(performance.now() - startedMs < 10_000);
  });

  test('a store that takes requests and says nothing is waited for once, and not longer than one that is away', async (t) => {
    let asked = 0;
    let isSilent = true;
    const { store } = await storeBehind(
      t,
      async (exchange) => {
        asked++;
        if (!isSilent) await pass(exchange);
      },
      { stalledAfterMs: 400, patienceMs: 1000 },
    );
    await assert.rejects(store.now(), { code: 'store-unavailable', message: /TimeoutError/ });
    assert.equal(asked, 1);
    isSilent = false;
    await store.now();
    isSilent = true;
    asked = 0;
    await assert.rejects(store.now(), { code: 'store-unavailable', message: /TimeoutError/ });
    assert.ok(asked === 2 || asked === 3, `asked ${asked} times`);
  });

  test('an object whose connection breaks is fetched again', async (t) => {
    let reads = 0;
    const { store, real } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      if (exchange.path.includes('/a') && ++reads === 1) exchange.cut(answer, 50_000);
      else exchange.answer(answer);
    });
    const bytes = pseudoRandom(2, 100_000);
    await real.put('a', bytes);
    await store.now();
    assert.deepEqual(await Array.fromAsync(store.versions('a')), [Buffer.from(bytes)]);
    assert.equal(reads, 2);
  });

  test('a refusal whose connection breaks is asked for again', async (t) => {
    let puts = 0;
    const { store, real } = await storeBehind(t, async (exchange) => {
      const answer = await exchange.ask();
      if (exchange.method === 'PUT' && ++puts === 1) exchange.cut(answer, answer.body.length / 2);
      else exchange.answer(answer);
    });
    const bytes = Buffer.from('1');
    await real.put('a', bytes);
    await store.now();
    await store.put('a', bytes);
    assert.equal(puts, 2);
  });

  test('a put that meets another write of its key is tried again', async (t) => {
    let puts = 0;
    const { store, real } = await storeBehind(t, async (exchange) => {
      if (exchange.method === 'PUT' && ++puts === 1)
        exchange.answer(errorAnswer(409, 'ConditionalRequestConflict'));
      else await pass(exchange);
    });
    await store.now();
    await store.put('a', Buffer.from('1'));
    assert.deepEqual(await Array.fromAsync(real.list(''), ({ key }) => key), ['a']);
  });

  test('a put that is slow on its way is no silence', { timeout: 30_000 }, async (t) => {
    const { endpoint } = theService('s3');
    const { hostname, port } = new URL(endpoint);
    // 32 KiB each 50 ms: four seconds for the object, eight times as long as nothing may be heard.
    const server = createServer((client) => {
      const upstream = createConnection({ host: hostname, port: Number(port) });
      const up = new Transform({
        readableHighWaterMark: 1024,
        writableHighWaterMark: 1024,
        transform: (chunk: Buffer, _, done) => void setTimeout(() => done(null, chunk), chunk.length / 640),
      });
      for (const socket of [client, upstream]) socket.on('error', () => {});
      client.pipe(up).pipe(upstream).pipe(client);
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    t.after(() => server.close());
    const { port: slowPort } = server.address() as AddressInfo;
    const store = s3Store(
      t,
      { bucket, prefix: freshPrefix(), endpoint: `http://127.0.0.1:${slowPort}` },
      { stalledAfterMs: 500 },
    );
    await store.put('a', pseudoRandom(3, 2_500_000));
    assert.equal((await Array.fromAsync(store.list('')))[0]?.sizeBytes, 2_500_000);
  });

  test('many puts wait for their turn, and the SDK says nothing of it', async (t) => {
    const said = t.mock.method(console, 'warn', () => undefined);
    const sdkWaitsMs = 12_000;
    const open = delay(sdkWaitsMs + 1000);
    let [now, most] = [0, 0];
    const { store, real } = await storeBehind(t, async (exchange) => {
      most = Math.max(most, ++now);
      if (exchange.method === 'PUT') await open;
      await pass(exchange);
      now--;
    });
    const keys = Array.from({ length: 160 }, (_, i) => `turn-${1000 + i}`);
    let begun = 0;
    const count = (message: unknown): void => {
      const { method, path } = (message as { request: ClientRequest }).request;
      if (method === 'PUT' && path.includes('turn-')) begun++;
    };
    subscribe('http.client.request.created', count);
    t.after(() => unsubscribe('http.client.request.created', count));
    await Promise.all(keys.map((key) => store.put(key, Buffer.from(key))));
    assert.equal(most, 16);
    assert.equal(begun, 2 * keys.length, 'ours and the proxy’s: none was given up for want of a connection');
    assert.deepEqual(await Array.fromAsync(real.list(''), ({ key }) => key), keys);
    assert.deepEqual(
      said.mock.calls
        .flatMap((call) => call.arguments as unknown[])
        .filter((text) => /socket/.test(String(text))),
      [],
    );
  });

  test('who interrupts while he waits for his turn does not wait for those before him', async (t) => {
    const { store } = await storeBehind(t, () => new Promise(() => {}));
    const others = new AbortController();
    const before = Array.from({ length: 16 }, (_, i) => store.put(`before-${i}`, Buffer.of(), others.signal));
    const ends = Promise.allSettled(before);
    const late = store.put('late', Buffer.of(), AbortSignal.timeout(200)).then(String, String);
    const said = await Promise.race([late, delay(5000, 'it waits')]);
    others.abort();
    await ends;
    assert.match(said, /^AbortError/);
  });

  test('what is no S3 server takes no object and holds no empty listing', async (t) => {
    const { store } = await storeBehind(t, async (exchange) =>
      exchange.answer({
        status: 200,
        headers: { 'content-type': 'text/html', date: new Date().toUTCString() },
        body: Buffer.from('<!doctype html><html><head><title>Console</title></head><body></body></html>'),
      }),
    );
    const asked = await Promise.allSettled([
      store.put('a', Buffer.from('1')),
      store.replace('a', Buffer.from('1')),
      store.now(),
      Array.fromAsync(store.list('')),
      Array.fromAsync(store.listVersions('')),
      store.folders(''),
      store.allFolders(''),
    ]);
    for (const one of asked)
      assert.match(one.status === 'rejected' ? String(one.reason) : 'it was taken', /does not speak S3/);
  });

  for (const [what, answer, message] of [
    [
      'that its bucket is in another region',
      {
        ...errorAnswer(301, 'PermanentRedirect'),
        headers: { 'x-amz-bucket-region': 'eu-central-1', 'content-type': 'application/xml' },
      },
      /PermanentRedirect: said the proxy \(it is in the region eu-central-1\)$/,
    ],
    [
      'that it was asked for another region',
      {
        ...errorAnswer(400, 'AuthorizationHeaderMalformed'),
        body: Buffer.from(
          '<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message><Region>fsn1</Region></Error>',
        ),
      },
      /AuthorizationHeaderMalformed: wrong \(it is in the region fsn1\)$/,
    ],
    [
      'with a redirection to a web page',
      { status: 301, headers: { location: 'https://www.example.org/' }, body: Buffer.alloc(0) },
      /: HTTP 301 \(it leads to https:\/\/www\.example\.org\/\)$/,
    ],
  ] as const)
    test(`of a store that answers ${what} it is told where to look`, async (t) => {
      const { store } = await storeBehind(t, async (exchange) => exchange.answer(answer));
      await assert.rejects(store.now(), { code: 'store-unavailable', message, hint: /store\.region/ });
    });

  test('an access key with a line break is told as what it is', async (t) => {
    const store = s3Store(t, { bucket, as: { accessKeyId: 'KEY\n', secretAccessKey: 'secret' } });
    await assert.rejects(store.now(), { code: 'store-denied', message: /access key holds a character/ });
  });

  test('of a server with several addresses each is told', async (t) => {
    const { lookup } = dns;
    t.mock.method(dns, 'lookup', (name: string, ...more: [object, (...found: unknown[]) => void]) =>
      name === 's3.example'
        ? more[1](null, [
            { address: '127.0.0.1', family: 4 },
            { address: '127.0.0.2', family: 4 },
          ])
        : lookup(name, ...more),
    );
    await assert.rejects(s3Store(t, { bucket, endpoint: 'http://s3.example:1' }).now(), {
      code: 'store-unavailable',
      message: /ECONNREFUSED 127\.0\.0\.1:1; Error: connect ECONNREFUSED 127\.0\.0\.2:1$/,
    });
  });

  test('of a server whose certificate nobody here vouches for it is told how to name its authority', async (t) => {
    const dir = temporary(t);
    makeAuthority(dir, 'ca');
    const { cert, key } = makeServerCertificate(dir, 'ca', 'localhost');
    const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    t.after(() => server.close());
    const endpoint = `https://localhost:${(server.address() as AddressInfo).port}`;
    await assert.rejects(s3Store(t, { bucket, endpoint }).now(), {
      code: 'store-unavailable',
      message: /unable to verify the first certificate$/,
      hint: /NODE_EXTRA_CA_CERTS/,
    });
  });

  test('of a server that does not speak https this is told, without the lines of OpenSSL', async (t) => {
    const endpoint = theService('s3').endpoint.replace('http:', 'https:');
    await assert.rejects(s3Store(t, { bucket, endpoint }).now(), {
      code: 'store-unavailable',
      message: /: Error: [a-z ]+$/,
      hint: /speak https on that port/,
    });
  });

  for (const code of ['ExpiredToken', 'InvalidToken'])
    test(`${code} is told as what it is: the credentials`, async (t) => {
      const { store } = await storeBehind(t, async (exchange) => exchange.answer(errorAnswer(400, code)));
      await assert.rejects(store.put('a', Buffer.from('1')), {
        code: 'store-denied',
        message: new RegExp(code),
      });
    });
});
