import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import * as openpgp from 'openpgp';
import { openBytes } from '../../src/seal/open.ts';
import { keyIdOf, sealedFor, sealPackets } from '../../src/seal/packets.ts';
import { findWithPrivateKeys } from '../../src/seal/session-key.ts';
import { unlockPrivateKeys } from '../../src/seal/private-key.ts';
import { sealBytes } from '../../src/seal/message.ts';
import { loadRecipients } from '../../src/seal/recipients.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { withoutServices } from '../services/services.ts';
import { pseudoRandom } from '../support/bytes.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';
import { gpgKey } from './sealed.ts';

const neverAsked = (): Promise<string> => Promise.reject(new Error('no passphrase is needed'));
const KiB64 = 65_536;
const sizes = [0, 1, 100, 4096, KiB64 - 7, KiB64 - 1, KiB64, KiB64 + 1, 3 * KiB64, 1_000_003];

test('gpg opens what is sealed to keys that gpg made, RSA-4096 and Curve25519, each of them alone', async (t) => {
  const rsa = await gpgKey(t, 'rsa4096');
  const curve = await gpgKey(t, 'cv25519');
  const seal = await createSeal([rsa.publicKey, curve.publicKey], new Date());
  for (const size of sizes) {
    const content = pseudoRandom(size, size);
    const object = sealBytes(seal, content);
    for (const { gpg } of [rsa, curve])
      assert.ok(gpg.run(['--decrypt'], object).equals(content), `${size} bytes`);
  }

  await t.test('and so does OpenPGP.js with the keys that gpg exported', async () => {
    const content = pseudoRandom(1, 10_000);
    const object = sealBytes(seal, content);
    for (const { secretKey } of [rsa, curve]) {
      const keys = await unlockPrivateKeys(secretKey, 'secret.gpg', neverAsked);
      const sessionKey = await findWithPrivateKeys(keys)(sealPackets(object));
      assert.ok(content.equals(await openBytes(object, sessionKey)));
    }
  });

  await t.test(
    'and finds two keys, then one packet with integrity protection and nothing said about the content',
    () => {
      const listing = rsa.gpg.run(['--list-packets'], sealBytes(seal, Buffer.alloc(5000))).toString();
      const packets = listing.split('\n').filter((line) => line.startsWith(':'));
      assert.match(
        packets.join('\n'),
        /^:pubkey enc packet: version 3, algo 1,.*\n:pubkey enc packet: version 3, algo 18,.*\n:encrypted data packet:\n:literal data packet:$/,
      );
      assert.match(listing, /mdc_method: 2/);
      assert.match(listing, /mode b \(62\), created 0, name="",\s+raw data: 5000 bytes/);
    },
  );
});

test('gpg opens what is sealed to an operator key of sealift', async (t) => {
  const { gpg } = await gpgKey(t, 'cv25519');
  const { publicKey, privateKey } = await makeKey();
  gpg.run(['--import'], privateKey.write());
  const content = pseudoRandom(2, 100_000);
  const object = sealBytes(await createSeal([publicKey], new Date()), content);
  assert.ok(gpg.run(['--decrypt'], object).equals(content));
});

test('a seal is to the subkeys that the index will name, which are those of the same time', async (t) => {
  const hourAgo = new Date(Date.now() - 3_600_000);
  const { privateKey } = await makeKey({ date: new Date(hourAgo.getTime() - 3_600_000) });
  const renewed = await privateKey.addSubkey({ date: new Date(hourAgo.getTime() + 1_800_000) });
  const file = put(join(temporary(t), 'ada.asc'), renewed.toPublic().armor());
  for (const date of [hourAgo, new Date()]) {
    const { keys, ids } = await loadRecipients([file], date);
    const object = sealBytes(await createSeal([...keys], date), Buffer.from('x'));
    assert.deepEqual(
      sealedFor(object),
      ids.map(({ subkey }) => keyIdOf(subkey)),
    );
  }
});

const sqVersion = (): string | undefined => {
  try {
    return /^sq (\d+\.\d+)/.exec(
      execFileSync('sq', ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    )?.[1];
  } catch {
    return undefined;
  }
};

test(
  'sq opens a sealed object',
  { skip: withoutServices && sqVersion() === undefined && 'needs sq, and SEALIFT_TEST_SERVICES=none' },
  async (t) => {
    const { publicKey, privateKey } = await makeKey();
    const content = pseudoRandom(3, 200_000);
    const dir = temporary(t);
    const object = put(
      join(dir, 'object.gpg'),
      sealBytes(await createSeal([publicKey], new Date()), content),
    );
    const key = put(join(dir, 'key.asc'), privateKey.armor());
    const option =
      Number(sqVersion()) < 0.32 && sqVersion()?.startsWith('0.') ? '--recipient-key' : '--recipient-file';
    const opened = execFileSync('sq', ['decrypt', option, key, object], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    assert.ok(opened.equals(content));
  },
);

test('OpenPGP.js opens objects of every size', async () => {
  const { publicKey, privateKey } = await makeKey();
  const seal = await createSeal([publicKey], new Date());
  for (const size of sizes) {
    const content = pseudoRandom(size, size);
    const message = await openpgp.readMessage({ binaryMessage: sealBytes(seal, content) });
    const { data } = await openpgp.decrypt({ message, decryptionKeys: privateKey, format: 'binary' });
    assert.ok(content.equals(data), `${size} bytes`);
  }
});

test('the same content is sealed to other bytes every time, behind the same packets within a run', async () => {
  const { publicKey } = await makeKey();
  const seal = await createSeal([publicKey], new Date());
  const [first, second] = [sealBytes(seal, Buffer.alloc(100)), sealBytes(seal, Buffer.alloc(100))];
  assert.deepEqual(Buffer.from(sealPackets(first)), Buffer.from(seal.packets));
  assert.deepEqual(sealPackets(second), sealPackets(first));
  assert.notDeepEqual(first.subarray(seal.packets.length + 7), second.subarray(seal.packets.length + 7));
  const other = await createSeal([publicKey], new Date());
  assert.notDeepEqual(other.sessionKey, seal.sessionKey);
  assert.equal(seal.sessionKey.length, 32);
});

test('wishes of a recipient for other ciphers or newer packets are not followed', async () => {
  const modern = await makeKey({
    config: { aeadProtect: true, preferredSymmetricAlgorithm: openpgp.enums.symmetric.aes128 },
  });
  const object = sealBytes(await createSeal([modern.publicKey], new Date()), Buffer.from('x'));
  const { packets } = await openpgp.readMessage({ binaryMessage: object });
  const sealed = packets.filterByTag(openpgp.enums.packet.symEncryptedIntegrityProtectedData)[0];
  assert.equal((sealed as { version?: number } | undefined)?.version, 1);
  assert.equal((await findWithPrivateKeys([modern.privateKey])(sealPackets(object))).length, 32);
});
