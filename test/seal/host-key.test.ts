import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as openpgp from 'openpgp';
import { createHostKey, hostOfKey, loadHostKey } from '../../src/seal/host-key.ts';
import { failsWith } from '../support/fails-with.ts';
import { freshGpg } from '../support/gpg.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

test('a host key comes back from its file with the same fingerprint', async (t) => {
  const file = join(temporary(t), 'host-key.asc');
  const made = await createHostKey(file, 'web-1', new Date());
  const loaded = await loadHostKey(file, 'web-1');
  assert.match(made.fingerprint, /^[0-9A-F]{40}$/);
  assert.equal(loaded.fingerprint, made.fingerprint);
  assert.equal(loaded.publicKey.isPrivate(), false);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('a host key can sign and nothing can be sealed to it', async (t) => {
  const { publicKey, privateKey } = await createHostKey(join(temporary(t), 'k'), 'web', new Date());
  assert.equal(publicKey.subkeys.length, 0);
  await privateKey.getSigningKey();
  await assert.rejects(publicKey.getEncryptionKey());
});

test('gpgv accepts what a host key signs', async (t) => {
  const dir = temporary(t);
  const { publicKey, privateKey } = await createHostKey(join(dir, 'k'), 'web', new Date());
  const message = await openpgp.createMessage({ binary: Buffer.from('index\n') });
  const signed = await openpgp.sign({ message, signingKeys: privateKey, format: 'binary' });
  const keyring = put(join(dir, 'host.gpg'), publicKey.write());
  const args = ['--homedir', dir, '--keyring', keyring, '--output', '-', put(join(dir, 'm.gpg'), signed)];
  const read = execFileSync('gpgv', args, { stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(read.toString(), 'index\n');
  const listing = freshGpg(t).run(['--with-colons', '--show-keys'], publicKey.write()).toString();
  assert.match(listing, /^uid:.*:sealift host web:/m);
});

test('a second key is never made in place of the first', async (t) => {
  const file = join(temporary(t), 'host-key.asc');
  await createHostKey(file, 'web', new Date());
  const before = readFileSync(file);
  await assert.rejects(createHostKey(file, 'web', new Date()), { code: 'target-exists' });
  assert.deepEqual(readFileSync(file), before);
});

test('the key of another host is refused', async (t) => {
  const file = join(temporary(t), 'host-key.asc');
  await createHostKey(file, 'web', new Date());
  await assert.rejects(loadHostKey(file, 'mail'), {
    code: 'key-wrong',
    message: /is for host web, .*host: mail/,
  });
});

test('a host key is usable while the clock is behind its creation', async (t) => {
  const file = join(temporary(t), 'host-key.asc');
  await createHostKey(file, 'web', new Date(Date.now() + 3_600_000));
  await loadHostKey(file, 'web');
});

test('a missing, damaged, public, protected or readable host key is refused', async (t) => {
  const dir = temporary(t);
  const file = join(dir, 'host-key.asc');
  const key = await createHostKey(file, 'web', new Date());
  const refused = async (name: string, content: string, code: string, message: RegExp): Promise<void> => {
    await assert.rejects(loadHostKey(put(join(dir, name), content, 0o600), 'web'), { code, message });
  };
  await assert.rejects(
    loadHostKey(join(dir, 'none'), 'web'),
    failsWith('key-missing', /does not exist/, /backup of this host, or run `sealift init`/),
  );
  await refused('text', 'hello', 'key-unusable', /cannot be used/);
  await refused('public', key.publicKey.armor(), 'key-unusable', /cannot be used/);
  const locked = await openpgp.encryptKey({ privateKey: key.privateKey, passphrase: 'x' });
  await refused('locked', locked.armor(), 'key-unusable', /passphrase/);
  chmodSync(file, 0o640);
  await assert.rejects(loadHostKey(file, 'web'), {
    code: 'key-unusable',
    message: /can be read by its group/,
  });
});

test('only a key with exactly one user id of the right form names a host', async (t) => {
  const host = await createHostKey(join(temporary(t), 'k'), 'web', new Date());
  assert.equal(hostOfKey(host.publicKey), 'web');
  for (const name of ['sealift host', 'sealift host Web', 'sealift host web x', 'x sealift host web']) {
    const { publicKey } = await openpgp.generateKey({
      type: 'ecc',
      curve: 'ed25519Legacy',
      userIDs: [{ name }],
      format: 'object',
    });
    assert.equal(hostOfKey(publicKey), undefined, name);
  }
  const { publicKey } = await openpgp.generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name: 'sealift host web' }, { name: 'sealift host mail' }],
    format: 'object',
  });
  assert.equal(hostOfKey(publicKey), undefined);
  assert.equal(hostOfKey((await makeKey()).publicKey), undefined);
});
