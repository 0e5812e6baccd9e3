import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as openpgp from 'openpgp';
import { generateOperatorKey, type OperatorKey } from '../../src/seal/operator-key.ts';
import { loadRecipients } from '../../src/seal/recipients.ts';
import { freshGpg } from '../support/gpg.ts';
import { put, temporary } from '../support/temporary.ts';

const userId = 'Ada Lovelace <ada@example.org>';

async function makeOperator(folder: string, passphrase?: string, id = userId): Promise<OperatorKey> {
  return generateOperatorKey({ userId: id, folder, passphrase, now: new Date() });
}

async function sealTo(publicFile: string, text: string): Promise<Uint8Array> {
  const { keys } = await loadRecipients([publicFile], new Date());
  const message = await openpgp.createMessage({ text });
  return openpgp.encrypt({
    message,
    encryptionKeys: [...keys],
    format: 'binary',
    config: { aeadProtect: false },
  });
}

test('stock gpg imports the key pair and opens what is sealed to it, given the passphrase', async (t) => {
  const dir = temporary(t);
  const gpg = freshGpg(t);
  const key = await makeOperator(dir, 'correct horse');
  gpg.run(['--import', key.privateFile]);
  const sealed = await sealTo(key.publicFile, 'hello');
  const open = (passphrase: string): Buffer =>
    gpg.run(['--pinentry-mode', 'loopback', '--passphrase', passphrase, '--decrypt'], sealed);
  assert.throws(() => open('wrong horse'));
  assert.equal(open('correct horse').toString(), 'hello');
});

test('stock gpg imports a key pair without a passphrase', async (t) => {
  const dir = temporary(t);
  const gpg = freshGpg(t);
  const key = await makeOperator(dir);
  gpg.run(['--import', key.privateFile]);
  assert.equal(gpg.run(['--decrypt'], await sealTo(key.publicFile, 'hello')).toString(), 'hello');
});

test('the revocation certificate revokes the key, for gpg and for sealift', async (t) => {
  const dir = temporary(t);
  const gpg = freshGpg(t);
  const key = await makeOperator(dir);
  gpg.run(['--import', key.publicFile]);
  gpg.run(['--import', key.revocationFile]);
  assert.match(gpg.run(['--with-colons', '--list-keys', key.fingerprint]).toString(), /^pub:r:/m);
  const revoked = put(join(dir, 'exported.gpg'), gpg.run(['--export']));
  await assert.rejects(loadRecipients([revoked], new Date()), { message: /is revoked/ });
});

test('the private half is readable for its owner alone, and protected', async (t) => {
  const dir = join(temporary(t), 'new');
  const key = await makeOperator(dir, 'secret');
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  assert.deepEqual(
    [key.privateFile, key.revocationFile, key.publicFile].map((file) => statSync(file).mode & 0o777),
    [0o600, 0o600, 0o644],
  );
  const armoredKey = readFileSync(key.privateFile, 'utf8');
  const read = await openpgp.readPrivateKey({ armoredKey });
  assert.equal(read.isDecrypted(), false);
  assert.equal(read.getFingerprint().toUpperCase(), key.fingerprint);
});

test('files are named after the person', async (t) => {
  const dir = temporary(t);
  for (const [id, base] of [
    [userId, 'ada-lovelace'],
    ['Zoë Ångström <z@example.org>', 'zoe-angstrom'],
    ['<ops@example.org>', 'ops-example-org'],
    ['../../etc/passwd', 'etc-passwd'],
    ['名前', 'operator'],
  ] as const) {
    const key = await makeOperator(dir, undefined, id);
    assert.equal(key.publicFile, join(dir, `${base}.pub.asc`));
  }
});

test('nothing is overwritten, and nothing is written beside what is there', async (t) => {
  for (const extension of ['pub', 'key', 'rev']) {
    const dir = join(temporary(t), 'keys');
    mkdirSync(dir);
    put(join(dir, `ada-lovelace.${extension}.asc`), 'mine');
    await assert.rejects(makeOperator(dir), { code: 'target-exists' });
    assert.deepEqual(readdirSync(dir), [`ada-lovelace.${extension}.asc`]);
    assert.equal(readFileSync(join(dir, `ada-lovelace.${extension}.asc`), 'utf8'), 'mine');
  }
});

for (const id of ['', '   ', 'Ada <not a mail>', 'Ada <a@b> more', 'Ada\nEve <a@example.org>', '<>']) {
  test(`refused as a user id: ${JSON.stringify(id)}`, async (t) => {
    const dir = join(temporary(t), 'keys');
    await assert.rejects(makeOperator(dir, undefined, id), { code: 'usage' });
    assert.throws(() => statSync(dir), { code: 'ENOENT' });
  });
}
