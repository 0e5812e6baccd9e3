import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import * as openpgp from 'openpgp';
import { SealiftError } from '../../src/errors.ts';
import { openBytes, openOurForm } from '../../src/seal/open.ts';
import { sealPackets } from '../../src/seal/packets.ts';
import { findWithPrivateKeys } from '../../src/seal/session-key.ts';
import { unlockPrivateKeys } from '../../src/seal/private-key.ts';
import { sealBytes } from '../../src/seal/message.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { failsWith } from '../support/fails-with.ts';
import { fingerprintOf, makeKey, type TestKey } from '../support/keys.ts';
import { sealAt, whileValid } from './sealed.ts';

const content = pseudoRandom(1, 3000);
const [ada, bob, eve] = [await makeKey(), await makeKey({}, 'Bob'), await makeKey({}, 'Eve')];
const seal = await createSeal([ada.publicKey, bob.publicKey], new Date());
const object = sealBytes(seal, content);

/** Opens as a restore does, but for the comparison with the signed hash. */
async function open(bytes: Uint8Array, { privateKey }: TestKey = ada): Promise<Uint8Array> {
  const sessionKey = await findWithPrivateKeys([privateKey])(sealPackets(bytes));
  return openBytes(bytes, sessionKey);
}

/** The true content or an error of ours; anything else is a failure. */
async function neverWrong(bytes: Uint8Array): Promise<'opened' | 'refused'> {
  try {
    assert.ok(content.equals(await open(bytes)), 'another content was given for true');
    return 'opened';
  } catch (error) {
    if (!(error instanceof SealiftError)) throw error;
    assert.ok(['verify-failed', 'key-wrong'].includes(error.code), error.code);
    return 'refused';
  }
}

const flipped = (at: number, bit: number): Buffer => {
  const copy = Buffer.from(object);
  copy[at]! ^= 1 << bit;
  return copy;
};

test('each recipient opens it, and nobody else', async () => {
  assert.ok(content.equals(await open(object, ada)));
  assert.ok(content.equals(await open(object, bob)));
  await assert.rejects(open(object, eve), failsWith('key-wrong'));
});

test('of several private keys the one that fits is used', async () => {
  const find = findWithPrivateKeys([eve.privateKey, bob.privateKey]);
  assert.deepEqual(Buffer.from(await find(sealPackets(object))), Buffer.from(seal.sessionKey));
});

suite('a changed object is never taken for another content:', () => {
  test('every bit of the packet headers and the first bytes of the data', async () => {
    const start = seal.packets.length;
    for (let at = start; at < start + 7 + 20; at++)
      for (let bit = 0; bit < 8; bit++)
        assert.equal(await neverWrong(flipped(at, bit)), 'refused', `byte ${at - start}`);
  });

  test('every byte of the packets that carry the key', async () => {
    for (let at = 0; at < seal.packets.length; at++) await neverWrong(flipped(at, at % 8));
  });

  test('the integrity code at the end', async () => {
    for (let at = object.length - 22; at < object.length; at++)
      assert.equal(await neverWrong(flipped(at, at % 8)), 'refused');
  });

  test('any bit anywhere in the data', async () => {
    const position = fc.integer({ min: seal.packets.length, max: object.length - 1 });
    await fc.assert(
      fc.asyncProperty(position, fc.nat(7), async (at, bit) => {
        assert.equal(await neverWrong(flipped(at, bit)), 'refused');
      }),
      { numRuns: 300 },
    );
  });

  test('an end that is missing', async () => {
    for (const length of [
      0,
      1,
      10,
      seal.packets.length,
      seal.packets.length + 7,
      object.length - 23,
      object.length - 22,
      object.length - 1,
    ])
      assert.equal(await neverWrong(object.subarray(0, length)), 'refused', `${length} bytes`);
  });

  test('something that was appended', async () => {
    const literal = (await openpgp.createMessage({ binary: Buffer.from('forged') })).write();
    for (const more of [literal, object, Buffer.alloc(1), Buffer.alloc(30)])
      await neverWrong(Buffer.concat([object, more]));
  });

  test('the packets of another run before the data of this one', async () => {
    const other = await createSeal([ada.publicKey], new Date());
    const mixed = Buffer.concat([other.packets, object.subarray(seal.packets.length)]);
    assert.equal(await neverWrong(mixed), 'refused');
  });
});

test('what is no message to public keys is refused', async () => {
  const password = await openpgp.encrypt({
    message: await openpgp.createMessage({ binary: Buffer.from(content) }),
    passwords: 'x',
    format: 'binary',
  });
  const literal = (await openpgp.createMessage({ binary: Buffer.from(content) })).write();
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from('hello'),
    Buffer.alloc(100),
    password,
    literal,
    Buffer.from([0x84]),
    Buffer.from([0xc1, 0xff, 0xff]),
  ])
    assert.throws(() => sealPackets(bytes), { code: 'verify-failed' });
});

const KiB64 = 65_536;
const around = (size: number): number[] => Array.from({ length: 70 }, (_, i) => size - 60 + i);

suite('without OpenPGP.js', () => {
  test('what was sealed by us is opened, of every size', () => {
    for (const size of [0, 1, 2, 15, 16, 17, 4096, ...around(KiB64), ...around(2 * KiB64), 1_000_003]) {
      const bytes = pseudoRandom(size, size);
      const opened = openOurForm(sealBytes(seal, bytes), seal.sessionKey);
      assert.ok(opened && bytes.equals(opened), `${size} bytes`);
    }
  });

  test('nothing is opened that was changed', () => {
    for (let at = seal.packets.length; at < object.length; at++)
      assert.equal(openOurForm(flipped(at, at % 8), seal.sessionKey), undefined, `byte ${at}`);
    for (const other of [object.subarray(0, -1), Buffer.concat([object, Buffer.alloc(1)])])
      assert.equal(openOurForm(other, seal.sessionKey), undefined);
    assert.equal(openOurForm(object, new Uint8Array(32)), undefined);
  });

  test('nothing of another form is opened, which is left to it', async () => {
    const binary = Buffer.from(content);
    const zlib = { preferredCompressionAlgorithm: openpgp.enums.compression.zlib };
    const forms = [
      { name: 'a file name', message: { binary, filename: 'rows', date: new Date(0) } },
      { name: 'a date', message: { binary, filename: '' } },
      { name: 'text', message: { binary, filename: '', date: new Date(0), format: 'text' as const } },
      { name: 'compressed', message: { binary, filename: '', date: new Date(0) }, config: zlib },
    ];
    for (const { name, message, config } of forms) {
      const encrypted = await openpgp.encrypt({
        message: await openpgp.createMessage(message),
        sessionKey: { data: seal.sessionKey, algorithm: 'aes256' },
        encryptionKeys: [ada.publicKey],
        format: 'binary',
        ...(config && { config }),
      });
      assert.equal(openOurForm(encrypted, seal.sessionKey), undefined, name);
      assert.ok(content.equals(await openBytes(encrypted, seal.sessionKey)), name);
    }
  });
});

test('what is compressed becomes no larger than a piece can be', async () => {
  const { zlib } = openpgp.enums.compression;
  const encrypted = await openpgp.encrypt({
    message: await openpgp.createMessage({ binary: Buffer.alloc(100_000_000) }),
    sessionKey: { data: seal.sessionKey, algorithm: 'aes256' },
    encryptionKeys: [ada.publicKey],
    format: 'binary',
    config: { preferredCompressionAlgorithm: zlib },
  });
  assert.ok(encrypted.length < 1_000_000);
  await assert.rejects(openBytes(encrypted, seal.sessionKey), {
    code: 'verify-failed',
    message: /Maximum decompressed message size exceeded/,
  });
});

test('a wrong session key opens nothing', async () => {
  await assert.rejects(openBytes(object, new Uint8Array(32)), { code: 'verify-failed' });
});

suite('backups outlive the validity of the key that they are sealed to:', () => {
  test('an expired key still opens them', async () => {
    const day = { keyExpirationTime: 86_400 };
    const short = await makeKey({ date: new Date('2026-01-01T00:00:00Z'), ...day, subkeys: [day] });
    const sealed = sealBytes(await sealAt(whileValid, [short.publicKey]), content);
    await assert.rejects(createSeal([short.publicKey], new Date()), /expired/i);
    const keys = await unlockPrivateKeys(Buffer.from(short.privateKey.armor()), 'key.asc', () =>
      Promise.reject(new Error('asked')),
    );
    assert.ok(content.equals(await open(sealed, { ...short, privateKey: keys[0]! })));
  });

  test('a revoked key still opens them', async () => {
    const revoked = await openpgp.revokeKey({ key: ada.privateKey, format: 'object' });
    await assert.rejects(createSeal([revoked.publicKey], new Date()), /revoked/i);
    assert.ok(content.equals(await open(object, { ...ada, privateKey: revoked.privateKey })));
  });

  test('a key that a clock in the past takes for not yet valid still opens them', async () => {
    const sealed = sealBytes(await createSeal([ada.publicKey], new Date()), content);
    const future = await openpgp.reformatKey({
      privateKey: ada.privateKey,
      userIDs: [{ name: 'Ada' }],
      date: new Date(Date.now() + 86_400_000),
      format: 'object',
    });
    assert.ok(content.equals(await open(sealed, { ...ada, privateKey: future.privateKey })));
  });
});

const askNever = (): Promise<string> => Promise.reject(new Error('asked'));

/** As GnuPG 2.2 exports it. */
const onCard = `-----BEGIN PGP PRIVATE KEY BLOCK-----

lQCIBGsJbSkTBSuBBAAiAwMEfve+fJA2zjx9Qh9CbkSd3fSJWkSJm48HN1m4wS5Q
cTSacCjmsZyBJHuKHBIGkEmlURutWqIU5z3P59FJMaskttRGABquuvW+hM0pLoIM
S0KVLKcFQjawpS7BJoSxpWaH/wBlAEdOVQIQRDI3NjAwMDEyNDAxMDIwMbUAEXAz
ODQgPHAzODRAeC5vcmc+iQCwBBMTCQA4FiEE59VrRAwMUJ2ql4POA7sivJEXW00F
AmsJbSkCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQA7sivJEXW01JYgGA
0gKB5VOqoGpi7c5hzUDo4SUTXq90cZRbwdJnk655D02Sx2UD9XBRn/NuHXE0THaB
AYDffjPgWKnnh2WL83nSUsH7ymRYajNz8CV83ECdw7q/APrODTN8oWIDsiuOXCyU
z7mdANYEawltKxIFK4EEACIDAwSaiVx2P40rsANeP4tgiAbcPhnq5rDvWhCfuAhl
o3tmQIYGVJ+fQDfh0fySfI7dv5NEAVx44l9CCvMVSmsxn/ZwNkvQau1WqiVgzl2H
80uc94nEaCrnpDRwleN2j24gAfwDAQkI/gcDAmriWj0BqILj/0ZQ+zTXIKjtD5bo
3N6VQo/um8u+SfsVYEFM7mwoxoEtxEv7cMiIlHSdeDesuY/B8CWCo9StfZoEC7bO
CSnrxULWd0/IlLg0EsHq77JnaPYCwxRahUk6iQCYBBgTCQAgFiEE59VrRAwMUJ2q
l4POA7sivJEXW00FAmsJbSsCGwwACgkQA7sivJEXW03PbwF+IaT46ijmft3lISS3
zhtfFhdWYWIF3duQw9xfktDOv/ReKzYeHMAvbCbzVR9eSbUCAYDKGTJykrJ8+55A
MS/luVmPvGZDslSkHOm8srAmIQaVQUWcU6wUHdVhkgcKZkwfzhI=
=/5TE
-----END PGP PRIVATE KEY BLOCK-----
`;

suite('a private key file', () => {
  test('is read armored and binary, and asks for nothing where nothing is protected', async () => {
    for (const bytes of [ada.privateKey.armor(), ada.privateKey.write()])
      assert.equal((await unlockPrivateKeys(Buffer.from(bytes), 'k', askNever)).length, 1);
  });

  test('may hold several keys in several blocks, public ones too, and words before them', async () => {
    const bob = await makeKey({}, 'Bob');
    const blocks = [ada.publicKey, bob.privateKey, ada.privateKey].map((key) => key.armor());
    const text = `${'Kept in the safe. '.repeat(10)}\n${blocks.join('\n')}`;
    const keys = await unlockPrivateKeys(Buffer.from(text), 'k', askNever);
    assert.deepEqual(
      keys.map(fingerprintOf),
      [bob, ada].map(({ privateKey }) => fingerprintOf(privateKey)),
    );
    const both = Buffer.concat([bob.privateKey.write(), ada.publicKey.write(), ada.privateKey.write()]);
    assert.equal((await unlockPrivateKeys(both, 'k', askNever)).length, 2);
  });

  test('may hold a key of another passphrase than the one that is given', async () => {
    const bob = await makeKey({}, 'Bob');
    const locked = await Promise.all([
      openpgp.encryptKey({ privateKey: bob.privateKey, passphrase: 'another' }),
      openpgp.encryptKey({ privateKey: ada.privateKey, passphrase: 'correct horse' }),
    ]);
    const text = Buffer.from(locked.map((key) => key.armor()).join('\n'));
    const keys = await unlockPrivateKeys(text, 'k', async () => 'correct horse');
    assert.deepEqual(keys.map(fingerprintOf), [fingerprintOf(ada.privateKey)]);
    await assert.rejects(
      unlockPrivateKeys(text, 'k', async () => 'wrong'),
      { code: 'passphrase-wrong' },
    );
  });

  test('asks once for the passphrase, with the name of the key, and opens with it', async () => {
    const locked = await openpgp.encryptKey({ privateKey: ada.privateKey, passphrase: 'correct horse' });
    const asked: string[] = [];
    const keys = await unlockPrivateKeys(Buffer.from(locked.armor()), 'k', async (userId) => {
      asked.push(userId);
      return 'correct horse';
    });
    assert.deepEqual(asked, ['Ada <ada@example.org>']);
    assert.ok(content.equals(await open(object, { ...ada, privateKey: keys[0]! })));
  });

  test('does not open with a wrong passphrase', async () => {
    const locked = await openpgp.encryptKey({ privateKey: ada.privateKey, passphrase: 'correct horse' });
    await assert.rejects(
      unlockPrivateKeys(Buffer.from(locked.armor()), 'k', async () => 'wrong'),
      { code: 'passphrase-wrong' },
    );
  });

  test('that only tells of a card is refused, and what to do is said', async () => {
    await assert.rejects(
      unlockPrivateKeys(Buffer.from(onCard), 'k', async () => "''"),
      failsWith('key-unusable', /cannot be unlocked/, /smartcard.*leave --key out/),
    );
  });

  test('that holds no private key is refused', async () => {
    for (const bytes of ['', 'hello', ada.publicKey.armor(), ada.publicKey.write()])
      await assert.rejects(unlockPrivateKeys(Buffer.from(bytes), 'k', askNever), { code: 'key-unusable' });
  });
});
