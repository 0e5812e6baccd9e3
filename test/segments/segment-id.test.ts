import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { segmentId, segmentIdKey } from '../../src/segments/segment-id.ts';
import { referenceHkdf } from './reference-cuts.ts';

const secret = Uint8Array.from({ length: 32 }, (_, i) => i);
const key = segmentIdKey(secret);

test('the id key of a known secret is the known one', () => {
  const known = 'f9c6586f9fb57fc9b9c088408ca0f314f5262a55be9797817ea45eb5c3d14034';
  assert.equal(Buffer.from(key).toString('hex'), known);
  assert.equal(referenceHkdf(secret, 'sealift/1/segment-id', 32).toString('hex'), known);
});

test('known contents have the known ids', () => {
  assert.equal(segmentId(key, Buffer.from('')), '4286cf47aa8715f53577963dbd3879cf');
  assert.equal(segmentId(key, Buffer.from('a')), 'a9769e0f8d5e6170fcf03f49e4a297cf');
  assert.equal(segmentId(key, Buffer.from('sealift\n')), '270365615c7ea8934f02e8d3b1f2ce06');
});

test('an id is the first half of an HMAC-SHA256', () => {
  const content = Buffer.alloc(100_000, 7);
  const whole = createHmac('sha256', Buffer.from(key)).update(content).digest('hex');
  assert.match(whole, new RegExp(`^${segmentId(key, content)}`));
});

test('another host gives the same content another id', () => {
  const other = segmentIdKey(new Uint8Array(32));
  assert.notEqual(segmentId(other, Buffer.from('a')), segmentId(key, Buffer.from('a')));
});
