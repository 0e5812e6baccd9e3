import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as openpgp from 'openpgp';
import { earliest, inspectRecipients, loadRecipients } from '../../src/seal/recipients.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { freshGpg } from '../support/gpg.ts';
import { fingerprintOf, makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

const day = 86_400;
const now = new Date();
const later = (days: number): Date => new Date(now.getTime() + days * day * 1000);
const ada = await makeKey();
const bob = await makeKey({}, 'Bob');

/** When the first of these keys expires. */
const expiryIn = async (dir: string, at: Date): Promise<Date | undefined> =>
  earliest((await inspectRecipients([dir], at)).map(({ expiresAt }) => expiresAt));

test('keys come sorted, each beside the fingerprints of its primary key and of the subkey that is sealed to', async (t) => {
  const dir = temporary(t);
  put(join(dir, 'a.asc'), ada.publicKey.armor());
  put(join(dir, 'b.gpg'), bob.publicKey.write());
  const recipients = await loadRecipients([dir], now);
  const expected = [ada, bob]
    .map(({ publicKey }) => ({
      primary: fingerprintOf(publicKey),
      subkey: fingerprintOf(publicKey.subkeys[0]!),
    }))
    .toSorted((x, y) => (x.primary < y.primary ? -1 : 1));
  assert.deepEqual(recipients.ids, expected);
  assert.deepEqual(
    recipients.keys.map(fingerprintOf),
    expected.map(({ primary }) => primary),
  );
  assert.equal(await expiryIn(dir, now), undefined);
  assert.deepEqual(recipients.warnings, []);
});

/** Good for more than a year from now on. */
async function renewed(privateKey: openpgp.PrivateKey): Promise<openpgp.PublicKey> {
  const { publicKey } = await openpgp.reformatKey({
    privateKey,
    userIDs: [{ name: 'Ada', email: 'ada@example.org' }],
    keyExpirationTime: 400 * day,
    date: now,
    format: 'object',
  });
  return publicKey;
}

test('a key that was made a moment ago by a clock that is ahead can be used, and what was signed then counts', async (t) => {
  const dir = temporary(t);
  const behind = new Date(now.getTime() - 60_000);
  const { privateKey, publicKey } = await makeKey({ keyExpirationTime: day / 2, date: later(-1) });
  put(join(dir, 'expired.asc'), publicKey.armor());
  put(join(dir, 'renewed.asc'), (await renewed(privateKey)).armor());
  put(join(dir, 'new.asc'), (await makeKey({ date: now })).publicKey.armor());
  const { keys, at } = await loadRecipients([dir], behind);
  const { packets } = await createSeal([...keys], at);
  assert.equal(keys.length, 2);
  assert.ok(packets.length > 0);
  await assert.rejects(loadRecipients([dir], new Date(now.getTime() - 600_000)), /was made in the future/);
});

test('a file may hold several keys, in one armored block, in several, or in a binary keyring', async (t) => {
  const dir = temporary(t);
  const both = Buffer.concat([ada.publicKey.write(), bob.publicKey.write()]);
  const files = [
    put(join(dir, 'blocks.asc'), `Ada:\n${ada.publicKey.armor()}\nBob:\n${bob.publicKey.armor()}`),
    put(join(dir, 'one.asc'), openpgp.armor(openpgp.enums.armor.publicKey, both)),
    put(join(dir, 'ring.gpg'), both),
    put(join(dir, 'dos.asc'), (ada.publicKey.armor() + bob.publicKey.armor()).replaceAll(/\r?\n/g, '\r\n')),
  ];
  for (const file of files) assert.equal((await loadRecipients([file], now)).keys.length, 2, file);
});

test('one key in two files is one recipient, and the renewed one counts', async (t) => {
  const dir = temporary(t);
  const { privateKey, publicKey } = await makeKey({ keyExpirationTime: 5 * day, date: later(-1) });
  put(join(dir, 'old.asc'), publicKey.armor());
  put(join(dir, 'renewed.asc'), (await renewed(privateKey)).armor());
  const recipients = await loadRecipients([dir], later(0.1));
  assert.equal(recipients.keys.length, 1);
  assert.ok(((await expiryIn(dir, later(0.1))) ?? now) > later(300));
});

test('files that are no key files by name, hidden ones and subfolders are passed over', async (t) => {
  const dir = temporary(t);
  put(join(dir, 'ada.asc'), ada.publicKey.armor());
  put(join(dir, 'README.md'), 'not a key');
  put(join(dir, '.hidden.asc'), 'not a key');
  mkdirSync(join(dir, 'old'));
  assert.equal((await loadRecipients([dir], now)).keys.length, 1);
});

test('without a single key there are no recipients', async (t) => {
  const dir = temporary(t);
  for (const path of [dir, join(dir, 'missing')]) {
    await assert.rejects(loadRecipients([path], now), { code: 'key-missing', message: /^no recipients/ });
  }
});

test('expiry is the earliest of all keys and their subkeys', async (t) => {
  const dir = temporary(t);
  const primary = await makeKey({ keyExpirationTime: 90 * day, date: now });
  const subkey = await makeKey({ subkeys: [{ keyExpirationTime: 60 * day }], date: now });
  put(join(dir, 'a.asc'), primary.publicKey.armor());
  put(join(dir, 'b.asc'), subkey.publicKey.armor());
  const expiresAt = await expiryIn(dir, now);
  assert.equal(Math.round((Number(expiresAt) - Number(now)) / 1000 / day), 60);
});

test('a key that expires within thirty days is usable, with a warning', async (t) => {
  const dir = temporary(t);
  const soon = await makeKey({ keyExpirationTime: 20 * day, date: now });
  put(join(dir, 'a.asc'), soon.publicKey.armor());
  const { warnings } = await loadRecipients([dir], now);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /a\.asc: expires in (19|20) days, on \d{4}-/);
});

for (const [name, options] of [
  ['version 6', { type: 'curve25519', config: { v6Keys: true } }],
  ['the X25519 type', { type: 'curve25519' }],
] as const) {
  test(`a key of ${name} is usable, with a warning about GnuPG 2.2`, async (t) => {
    const dir = temporary(t);
    const { publicKey } = await makeKey(options);
    put(join(dir, 'a.asc'), publicKey.armor());
    const { warnings, ids } = await loadRecipients([dir], new Date());
    assert.match(warnings.join('\n'), /stock GnuPG 2\.2 can't use this key/);
    assert.match(ids[0]?.primary ?? '', /^[0-9A-F]{40,64}$/);
  });
}

test('keys that GnuPG makes are usable without a warning', async (t) => {
  const dir = temporary(t);
  const gpg = freshGpg(t);
  for (const algorithm of ['rsa3072', 'future-default']) {
    gpg.run([
      '--passphrase',
      '',
      '--quick-generate-key',
      `${algorithm} <${algorithm}@example.org>`,
      algorithm,
      'default',
      '1y',
    ]);
    if (algorithm === 'rsa3072') {
      const fingerprint =
        /^fpr:+([0-9A-F]+):/m.exec(gpg.run(['--with-colons', '--list-keys']).toString())?.[1] ?? '';
      gpg.run(['--passphrase', '', '--quick-add-key', fingerprint, 'rsa3072', 'encr', '1y']);
    }
  }
  put(join(dir, 'all.gpg'), gpg.run(['--export']));
  const recipients = await loadRecipients([dir], new Date());
  assert.equal(recipients.keys.length, 2);
  assert.deepEqual(recipients.warnings, []);
});

test('an old subkey that is too weak does not matter beside a good one', async (t) => {
  const { publicKey } = await makeKey({
    type: 'rsa',
    rsaBits: 2048,
    subkeys: [{ rsaBits: 1024 }, { rsaBits: 2048 }] as openpgp.SubkeyOptions[],
    config: { minRSABits: 1023 },
  });
  const dir = temporary(t);
  put(join(dir, 'a.asc'), publicKey.armor());
  const { ids } = await loadRecipients([dir], new Date());
  assert.deepEqual(
    ids.map(({ subkey }) => subkey),
    [fingerprintOf(publicKey.subkeys[1]!)],
  );
});

const weak = await makeKey({ type: 'rsa', rsaBits: 1024, config: { minRSABits: 1023 } });
const expired = await makeKey({ keyExpirationTime: day, date: later(-10) });
const expiredSubkey = await makeKey({ subkeys: [{ keyExpirationTime: day }], date: later(-10) });
const future = await makeKey({ date: later(3) });
const signOnly = await makeKey({ subkeys: [] });
const revoked = await openpgp.revokeKey({ key: ada.privateKey, format: 'object' });
const revokedSubkey = await revokeSubkey();
/** A version 5 key, as no RFC knows it, in front of a good one. */
const unknown = Buffer.concat([ada.publicKey.write().fill(5, 2, 3), bob.publicKey.write()]);

async function revokeSubkey(): Promise<openpgp.PublicKey> {
  const { privateKey } = await makeKey();
  const [subkey] = privateKey.subkeys;
  privateKey.subkeys = [await subkey!.revoke(privateKey.keyPacket as openpgp.SecretKeyPacket)];
  return privateKey.toPublic();
}

/** Made by GnuPG 2.2, on a curve whose signatures Node does not check. */
const brainpool = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mFMEawltNBMJKyQDAwIIAQEHAgMEB7zJi2MeNPHWcMTQSR+0Atduc1Ot+TqKybSO
eq3jIQAh3w4A2/iBI27lH+9UCBC65CNpnRmNz1QY2GiIKGDV7bQTYnAyNTYgPGJw
MjU2QHgub3JnPoiQBBMTCAA4FiEEe+/lDZPxTMpSnimri3h5J2lq3fUFAmsJbTQC
GwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQi3h5J2lq3fXfeQD/bWiQ0Zkn
idKawCzB+c2AlXaXFfk06ZCMHI/Q0XiMJewA/RQfHjQsCjrjgOOx26x1DEU8bS9C
MloZXmby2SjzzgHIuFcEawltOBIJKyQDAwIIAQEHAgMEmN2nQif2Kc0M2SpWNpjJ
YZ/IOzyh/eLCckCUsC2sGy8GYzFGiXZerFUsw3S+QWCHzgl+mUoHTVhI41loyMyc
YwMBCAeIeAQYEwgAIBYhBHvv5Q2T8UzKUp4pq4t4eSdpat31BQJrCW04AhsMAAoJ
EIt4eSdpat31lNYA/jfmW51Cbi6zCMoKZswzQ+7m3uTG64CGHD4pur95Cu3eAP4z
gN5Dx3uivWoyHX9C9vtRzEY2GR0QZTrMqMs7f+v5bw==
=v1XI
-----END PGP PUBLIC KEY BLOCK-----
`;

const cut = ada.publicKey.armor().slice(0, 300);
const unusable: readonly [fact: string, content: string | Uint8Array, reason: RegExp][] = [
  ['a private key', ada.privateKey.armor(), /is a PRIVATE key\. It must not be on this machine/],
  ['an expired key', expired.publicKey.armor(), /expired on \d{4}-\d{2}-\d{2}/],
  ['a key whose encryption subkey expired', expiredSubkey.publicKey.armor(), /its encryption subkey expired/],
  ['a key whose encryption subkey is revoked', revokedSubkey.armor(), /its encryption subkey is revoked/],
  ['a key from the future', future.publicKey.armor(), /was made in the future/],
  ['a revoked key', revoked.publicKey.armor(), /is revoked/],
  ['a key that can only sign', signOnly.publicKey.armor(), /can only sign/],
  ['an RSA key of 1024 bits', weak.publicKey.armor(), /RSA key of 1024 bits; at least 2048/],
  [
    'a key on a curve that is not known here',
    brainpool,
    /its ECDSA brainpoolP256r1 key cannot be checked here: take/,
  ],
  ['a revocation certificate', ada.revocationCertificate, /revocation certificate or signature, not a key/],
  ['text', 'hello', /not an OpenPGP key/],
  ['an empty file', '', /the file is empty/],
  ['an armored key that is cut off', cut, /cut off/],
  ['a binary key that is cut off', ada.publicKey.write().subarray(0, 200), /cut off/],
  ['an encrypted message', await message(), /message, not a key/],
  ['a key of a version that is not known, beside a good one', unknown, /holds 2 keys, but only 1/],
];

async function message(): Promise<string> {
  const created = await openpgp.createMessage({ text: 'x' });
  return openpgp.encrypt({ message: created, encryptionKeys: ada.publicKey });
}

for (const [fact, content, reason] of unusable) {
  test(`refused beside a good key: ${fact}`, async (t) => {
    const dir = temporary(t);
    put(join(dir, 'bad.asc'), content);
    put(join(dir, 'good.asc'), bob.publicKey.armor());
    await assert.rejects(loadRecipients([dir], new Date()), (error: Error & { code: string }) => {
      assert.equal(error.code, 'key-unusable');
      assert.match(error.message, reason);
      assert.match(error.message, /bad\.asc: /);
      return true;
    });
  });
}

test('all unusable keys are named together', async (t) => {
  const dir = temporary(t);
  for (const [index, [, content]] of unusable.entries()) put(join(dir, `k${index}.asc`), content);
  const reports = await inspectRecipients([dir], new Date());
  // The revoked key and the private one are the same key in two files.
  const bad = reports.filter(({ problems }) => problems.length > 0).length;
  assert.ok(bad >= unusable.length - 1, `${bad}`);
});

test('a private key is found out even beside its own public half', async (t) => {
  const dir = temporary(t);
  put(join(dir, 'a.asc'), ada.privateKey.armor());
  put(join(dir, 'b.asc'), ada.publicKey.armor());
  await assert.rejects(loadRecipients([dir], now), { code: 'key-unusable', message: /PRIVATE/ });
  await assert.rejects(loadRecipients([join(dir, 'b.asc'), join(dir, 'a.asc')], now), { message: /PRIVATE/ });
});

test('a key file or folder that others can write is refused', async (t) => {
  const dir = temporary(t);
  const file = put(join(dir, 'a.asc'), ada.publicKey.armor(), 0o664);
  await assert.rejects(loadRecipients([dir], now), { code: 'key-unusable', message: /written by its group/ });
  chmodSync(file, 0o644);
  chmodSync(dir, 0o777);
  await assert.rejects(loadRecipients([dir], now), {
    code: 'key-unusable',
    message: /key folder .*by everybody/,
  });
  // Where only owners can remove and replace, as in /tmp, what others add belongs to them and is refused.
  chmodSync(dir, 0o1777);
  assert.equal((await loadRecipients([dir], now)).keys.length, 1);
});

test(
  'a key file of another user is refused, also behind a link',
  { skip: process.geteuid?.() !== 0 && 'needs root' },
  async (t) => {
    const dir = temporary(t);
    const elsewhere = put(join(temporary(t), 'a.asc'), ada.publicKey.armor());
    chownSync(elsewhere, 65_534, 65_534);
    symlinkSync(elsewhere, join(dir, 'a.asc'));
    await assert.rejects(loadRecipients([dir], now), {
      code: 'key-unusable',
      message: /belongs to user id 65534/,
    });
  },
);

test('a file that is named and is not there is a problem, beside others that are', async (t) => {
  const dir = temporary(t);
  const there = put(join(dir, 'a.asc'), ada.publicKey.armor());
  for (const name of ['b.asc', 'b.pub', '.b.gpg'])
    await assert.rejects(loadRecipients([there, join(dir, name)], now), {
      code: 'key-unusable',
      message: new RegExp(`${name}: .* does not exist`),
    });
});

test('a folder that has not been made yet is none', async (t) => {
  const dir = temporary(t);
  const there = put(join(dir, 'a.asc'), ada.publicKey.armor());
  for (const name of ['recipients', 'recipients.d'])
    assert.equal((await loadRecipients([there, join(dir, name)], now)).keys.length, 1);
});

test('a link to nowhere is a problem, not an absence', async (t) => {
  const dir = temporary(t);
  symlinkSync('/nowhere', join(dir, 'a.asc'));
  await assert.rejects(loadRecipients([dir], now), { code: 'key-unusable', message: /does not exist/ });
});
