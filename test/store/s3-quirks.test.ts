import assert from 'node:assert/strict';
import { suite, test, type TestContext } from 'node:test';
import { freshBucket, needs } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { errorAnswer, s3Proxy, type Exchange } from './s3-proxy.ts';
import { freshPrefix, s3Store } from './s3-store.ts';

const { skip } = needs('s3');
const bucket = skip ? '' : (await freshBucket()).bucket;

const pass = async (exchange: Exchange): Promise<void> => exchange.answer(await exchange.ask());

async function storeBehind(
  t: TestContext,
  handle: (exchange: Exchange) => Promise<void>,
  stalledAfterMs?: number,
) {
  const prefix = freshPrefix();
  const store = s3Store(t, { bucket, prefix, endpoint: await s3Proxy(t, handle) }, stalledAfterMs);
  return { store, real: s3Store(t, { bucket, prefix }) };
}

suite('an S3 server with quirks:', { skip }, () => {
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
        500,
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
    const { store, real } = await storeBehind(t, async (exchange) => {
      if (exchange.method === 'DELETE' && refusals-- > 0) exchange.answer(errorAnswer(500, 'InternalError'));
      else await pass(exchange);
    });
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
});
