import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { deflateSync } from 'node:zlib';
import * as fc from 'fast-check';
import * as openpgp from 'openpgp';
import { SealiftError } from '../../src/errors.ts';
import { createHostKey } from '../../src/seal/host-key.ts';
import { openSigned, signBytes, signText } from '../../src/seal/sign.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

const now = new Date();
const host = await makeKey({ subkeys: [] }, 'Web');
const stranger = await makeKey({ subkeys: [] }, 'Mallory');
const content = Buffer.from('{"format":"sealift-index/1"}\nsecond line \t\r\nno line end');
const signed = await signBytes(content, host.privateKey, now);
const fingerprint = (key: openpgp.Key): string => key.getFingerprint().toUpperCase();

const open = (message: Uint8Array, trusted = [host.publicKey]) =>
  openSigned(message, trusted, 'the index of web/x');

/** What gpgv writes for a message, given the one key that it may trust. */
function gpgv(t: TestContext, message: Uint8Array, key: openpgp.PublicKey): Buffer {
  const dir = temporary(t);
  const keyring = put(join(dir, 'host.gpg'), key.write());
  const args = [
    '--homedir',
    dir,
    '--keyring',
    keyring,
    '--output',
    '-',
    put(join(dir, 'message.gpg'), message),
  ];
  return execFileSync('gpgv', args, { stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 24 });
}

test('what was signed comes back to the byte, with the key that signed it', async () => {
  for (const bytes of [content, Buffer.alloc(0), pseudoRandom(1, 100_000)]) {
    const opened = await open(await signBytes(bytes, host.privateKey, now));
    assert.ok(bytes.equals(opened.content));
    assert.equal(fingerprint(opened.signer), fingerprint(host.publicKey));
  }
});

suite('gpgv with the pinned key', () => {
  test('gives back the exact bytes', (t) => {
    assert.ok(gpgv(t, signed, host.publicKey).equals(content));
  });

  test('gives back an index of megabytes with a very long line', async (t) => {
    const large = Buffer.concat([Buffer.alloc(50_000, 'x'), pseudoRandom(2, 3_000_000)]);
    assert.ok(gpgv(t, await signBytes(large, host.privateKey, now), host.publicKey).equals(large));
  });

  test('refuses another key and another content', (t) => {
    assert.throws(() => gpgv(t, signed, stranger.publicKey));
    const changed = Buffer.from(signed);
    changed[changed.indexOf('second')]! ^= 1;
    assert.throws(() => gpgv(t, changed, host.publicKey));
  });

  test('accepts what was signed by a clock that was behind the creation of the key', async (t) => {
    const key = await createHostKey(join(temporary(t), 'k'), 'web', now);
    const early = await signBytes(content, key.privateKey, new Date(now.getTime() - 3_600_000));
    assert.ok(gpgv(t, early, key.publicKey).equals(content));
    assert.ok(content.equals((await open(early, [key.publicKey])).content));
  });

  test('accepts a signed text and gives it back', async (t) => {
    const text = '# Restoring\n\n- dash lines are kept\n--- so are these ---\n';
    const message = await signText(text, host.privateKey, now);
    assert.match(message, /^-----BEGIN PGP SIGNED MESSAGE-----/);
    assert.equal(
      gpgv(t, Buffer.from(message), host.publicKey).toString().replaceAll('\r\n', '\n').trimEnd(),
      text.trimEnd(),
    );
  });
});

suite('nothing is taken for signed', () => {
  test('that a key signed which is not trusted; the message names it', async () => {
    const forged = await signBytes(content, stranger.privateKey, now);
    for (const trusted of [[host.publicKey], []])
      await assert.rejects(open(forged, trusted), {
        code: 'key-untrusted',
        message: new RegExp(`the index of web/x is signed by .*${fingerprint(stranger.publicKey)}`),
      });
  });

  test('that carries no signature', async () => {
    const literal = (await openpgp.createMessage({ binary: content })).write();
    await assert.rejects(open(literal), { code: 'verify-failed', message: /carries no signature/ });
  });

  test('that is no message at all, or something else', async () => {
    const encrypted = await openpgp.encrypt({
      message: await openpgp.createMessage({ binary: content }),
      passwords: 'x',
      format: 'binary',
    });
    for (const bytes of [Buffer.alloc(0), content, Buffer.alloc(100), encrypted, host.publicKey.write()])
      await assert.rejects(open(bytes), { code: 'verify-failed' });
  });

  test('that was cut short anywhere', async () => {
    for (let length = 0; length < signed.length; length++)
      await assert.rejects(open(signed.subarray(0, length)), { code: 'verify-failed' }, `${length} bytes`);
  });

  test('that has another content: whatever bit is flipped, the content is the signed one or there is none', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(signed.length - 1), fc.nat(7), async (at, bit) => {
        const changed = Buffer.from(signed);
        changed[at]! ^= 1 << bit;
        try {
          assert.ok(content.equals((await open(changed)).content));
        } catch (error) {
          if (!(error instanceof SealiftError)) throw error;
          assert.ok(['verify-failed', 'key-untrusted'].includes(error.code));
        }
      }),
      { numRuns: 500 },
    );
  });

  test('that has another content: every bit of the content itself', async () => {
    const start = Buffer.from(signed).indexOf(content);
    assert.ok(start > 0);
    for (let at = start; at < start + content.length; at++) {
      const changed = Buffer.from(signed);
      changed[at]! ^= 1 << (at % 8);
      await assert.rejects(open(changed), { code: 'verify-failed' });
    }
  });

  test('that has a good signature of a stranger beside a bad one of the host', async () => {
    const other = Buffer.from(await signBytes(Buffer.from('other'), host.privateKey, now));
    const message = await openpgp.readMessage({ binaryMessage: other });
    const mixed = await openpgp.createMessage({ binary: content, filename: '' });
    const signature = message.packets.filterByTag(openpgp.enums.packet.signature);
    const strange = await openpgp.sign({
      message: mixed,
      signingKeys: stranger.privateKey,
      format: 'object',
    });
    strange.packets.push(...signature);
    await assert.rejects(open(strange.write()), SealiftError);
  });
});

const compressed = (bytes: Uint8Array): Buffer => {
  const packed = deflateSync(bytes);
  const packet = Buffer.concat([
    Buffer.from([0xc8, 0xff, 0, 0, 0, 0, openpgp.enums.compression.zlib]),
    packed,
  ]);
  packet.writeUInt32BE(1 + packed.length, 2);
  return packet;
};

test('what a signed message never is, is not even unpacked: a few bytes could become any number, or any work', async () => {
  for (const bytes of [signed, Buffer.alloc(200_000_000)]) {
    const message = compressed(bytes);
    const before = process.resourceUsage().maxRSS;
    await assert.rejects(open(message), { code: 'verify-failed', message: /compressed/ });
    assert.ok(process.resourceUsage().maxRSS - before < 100_000, 'kilobytes');
  }

  const [one, rest] = [signed.subarray(0, 15), signed.subarray(15)];
  const inner = Buffer.from(one);
  inner[14] = 0; // another follows
  const many = Buffer.concat([...Array<Buffer>(1000).fill(inner), one, rest]);
  await assert.rejects(open(many), { code: 'verify-failed', message: /1001 signatures/ });
});

test('one trusted signature among several is enough', async () => {
  const message = await openpgp.createMessage({ binary: content, filename: '', format: 'binary' });
  const both = await openpgp.sign({
    message,
    signingKeys: [stranger.privateKey, host.privateKey],
    format: 'binary',
  });
  assert.ok(content.equals((await open(both)).content));
});

test('two signed messages in a row are not one', async () => {
  const other = await signBytes(Buffer.from('other'), host.privateKey, now);
  const result = await open(Buffer.concat([signed, other])).catch((error: unknown) => error);
  assert.ok(result instanceof SealiftError, 'a second message was passed over');
});
