import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { DetailsWriter, readDetails } from '../../src/snapshot/details.ts';
import { collect, inPieces } from '../support/bytes.ts';

test('records come back as they were, however the bytes are divided', async () => {
  const records = [
    { type: 'entry', path: 'ü\n"日本😀', size: 2 ** 40, nested: { a: [1, null] } },
    { type: 'problem', source: 'etc', code: 'unreadable', text: 'x'.repeat(1000) },
  ];
  const writer = new DetailsWriter();
  const body = collect(writer.body);
  for (const record of records) await writer.add(record);
  writer.end();
  const bytes = await body;
  assert.equal(bytes.toString().split('\n').length, 3);
  for (const pieceBytes of [1, 2, 7, 100_000])
    assert.deepEqual(await Array.fromAsync(readDetails(inPieces(bytes, pieceBytes))), records);
});

test('no records are no bytes', async () => {
  const writer = new DetailsWriter();
  writer.end();
  assert.equal((await collect(writer.body)).length, 0);
  assert.deepEqual(await Array.fromAsync(readDetails(inPieces(Buffer.alloc(0)))), []);
});

test('lines of a later version that are no records are passed over', async () => {
  const lines = ['{"type":"a"}', '{"kind":"x"}', '[1]', 'null', '7', '{"type":1}', '{"type":"b"}'];
  const found = await Array.fromAsync(
    readDetails(inPieces(Buffer.from(lines.map((line) => `${line}\n`).join('')))),
  );
  assert.deepEqual(found, [{ type: 'a' }, { type: 'b' }]);
});

const read = (text: string) => Array.fromAsync(readDetails(inPieces(Buffer.from(text), 1_000_000)));

test('what no version of ours has written is damage, and no surprise', async () => {
  const good = { type: 'stream', name: 'a/b', bytes: 1, sha256: 'c', segments: [1] };
  assert.deepEqual(await read(`${JSON.stringify(good)}\n`), [good]);
  for (const change of [
    { name: 1 },
    { bytes: '1' },
    { bytes: -1 },
    { bytes: 2 ** 60 },
    { sha256: null },
    { segments: undefined },
    { segments: 5 },
    { segments: ['1'] },
    { segments: [0.5] },
  ])
    await assert.rejects(read(`${JSON.stringify({ ...good, ...change })}\n`), {
      code: 'verify-failed',
      message: /a description of a stream that is none/,
    });
  await assert.rejects(read('{"type":"a"}\n{"type":"b"}'), {
    code: 'verify-failed',
    message: /does not end/,
  });
  let pieces = 0;
  async function* endless(): AsyncGenerator<Buffer> {
    for (; pieces < 1000; pieces++) yield Buffer.alloc(2 ** 20, 'a');
  }
  const longer = { code: 'verify-failed', message: /longer than any can be/ };
  await assert.rejects(Array.fromAsync(readDetails(endless())), longer);
  assert.equal(pieces, 64, 'no more of it is read');
});

test('whoever adds faster than the lines are stored has to wait', async () => {
  const writer = new DetailsWriter();
  const record = { type: 'entry', text: 'x'.repeat(100_000) };
  let added = 0;
  const adding = (async () => {
    for (; added < 100; added++) await writer.add(record);
    writer.end();
  })();
  await delay(50);
  assert.ok(added > 0 && added < 30, `${added} records of 100 kB were taken while nobody read`);
  const bytes = await collect(writer.body);
  await adding;
  assert.equal(bytes.toString().trimEnd().split('\n').length, 100);
});

test('giving up frees whoever waits for room and reaches whoever reads', async () => {
  const writer = new DetailsWriter();
  const record = { type: 'entry', text: 'x'.repeat(2 ** 21) };
  const waiting = writer.add(record);
  const reading = assert.rejects(
    async () => {
      for await (const _ of writer.body) await delay(10);
    },
    { message: 'the backup failed' },
  );
  writer.abort(new Error('the backup failed'));
  await waiting;
  await reading;
  await writer.add(record);
});

test('giving up when nobody reads is no error of its own', async () => {
  const writer = new DetailsWriter();
  writer.abort(new Error('the backup failed'));
  await writer.add({ type: 'entry' });
  await delay(5);
  await assert.rejects(collect(writer.body), { message: 'the backup failed' });
});

test('waiting for room many times leaves no listeners behind', async () => {
  const warnings: Error[] = [];
  const warn = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', warn);
  const writer = new DetailsWriter();
  const reading = collect(writer.body);
  for (let i = 0; i < 40; i++) await writer.add({ type: 'entry', text: 'x'.repeat(2 ** 21) });
  writer.end();
  await reading;
  process.off('warning', warn);
  assert.deepEqual(warnings, []);
});
