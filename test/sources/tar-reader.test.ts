import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pack } from 'tar-stream';
import { readTar } from '../../src/sources/tar-reader.ts';
import { collect } from '../support/bytes.ts';

test('a signal is heard also while all of a tar of small files is at hand', async () => {
  const packed = pack();
  packed.entry({ name: 'file' }, '');
  packed.finalize();
  const header = (await collect(packed as unknown as AsyncIterable<Uint8Array>)).subarray(0, 512);
  const chunk = Buffer.concat(Array.from({ length: 500 }, () => header));
  const chunks = 400;
  // oxlint-disable-next-line require-await
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < chunks; i++) yield chunk;
  }
  const abort = new AbortController();
  setTimeout(() => abort.abort(new Error('enough')), 20);
  let entries = 0;
  const reading = readTar(body(), abort.signal, async () => {
    entries += 1;
  });
  await assert.rejects(reading, { message: 'enough' });
  assert.ok(entries < chunks * 500, `${entries} of ${chunks * 500}`);
});
