import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sealBytes } from '../../src/seal/message.ts';
import { keyIdOf, sealedFor } from '../../src/seal/packets.ts';
import { fingerprintOf, makeKey } from '../support/keys.ts';
import { sealAt } from './sealed.ts';

const keys = [await makeKey(), await makeKey({ type: 'rsa', rsaBits: 2048 }, 'Bob')].map(
  ({ publicKey }) => publicKey,
);
const seal = await sealAt(new Date(), keys);
const object = sealBytes(seal, Buffer.from('rows'));

test('a sealed object tells the ids of the keys that it is for', async () => {
  const ids = await Promise.all(
    keys.map(async (key) => keyIdOf(fingerprintOf(await key.getEncryptionKey()))),
  );
  assert.deepEqual(sealedFor(object), ids);
});

test('the id of a version 6 key is the high end of its fingerprint', () => {
  assert.equal(keyIdOf(`0123456789ABCDEF${'0'.repeat(48)}`), '0123456789ABCDEF');
  assert.equal(keyIdOf(`${'0'.repeat(24)}0123456789ABCDEF`), '0123456789ABCDEF');
});

test('what is not exactly such a message is refused', () => {
  const encrypted = object.subarray(seal.packets.length);
  const literal = Buffer.from([0xcb, 7, 0x62, 0, 0, 0, 0, 0, 65]);
  const otherVersion = Buffer.from(object);
  otherVersion[seal.packets.length + 6] = 2;
  const cases: [string, Uint8Array, RegExp][] = [
    ['nothing', Buffer.alloc(0), /does not begin with a packet/],
    ['text', Buffer.from('INSERT INTO person'), /does not begin with a packet/],
    ['no encrypted packet', seal.packets, /cut off/],
    ['a cut object', object.subarray(0, -1), /cut off/],
    ['a byte after it', Buffer.concat([object, Buffer.from([0])]), /something follows/],
    ['two messages', Buffer.concat([object, object]), /something follows/],
    ['no recipient', encrypted, /for no public key/],
    ['a literal packet', literal, /a packet of type 11/],
    ['a literal packet after the keys', Buffer.concat([seal.packets, literal]), /a packet of type 11/],
    ['another version', otherVersion, /unknown version/],
  ];
  for (const [name, bytes, message] of cases)
    assert.throws(() => sealedFor(bytes), { code: 'verify-failed', message }, name);
});
