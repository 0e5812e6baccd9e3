import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as openpgp from 'openpgp';
import { createHostKey, type HostKey } from '../../src/seal/host-key.ts';
import { loadTrust, pinHostKey } from '../../src/seal/trust.ts';
import { fingerprintOf, makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

const makeHost = (t: TestContext, host: string): Promise<HostKey> =>
  createHostKey(join(temporary(t), 'host-key.asc'), host, new Date());

const shown = async (...given: Parameters<typeof loadTrust>): Promise<Record<string, string[]>> =>
  Object.fromEntries(
    Array.from(await loadTrust(...given), ([host, keys]) => [host, keys.map(fingerprintOf)]),
  );

test('a pinned key counts for the host that its file and its user id name', async (t) => {
  const dir = temporary(t);
  const [web, mail] = [await makeHost(t, 'web'), await makeHost(t, 'mail-1')];
  put(join(dir, 'web.asc'), web.publicKey.armor());
  put(join(dir, `mail-1-${mail.fingerprint.slice(-16)}.asc`), mail.publicKey.armor());
  assert.deepEqual(await shown([dir]), { 'mail-1': [mail.fingerprint], web: [web.fingerprint] });
});

test('nobody is trusted where there is no folder', async (t) => {
  assert.equal((await loadTrust([join(temporary(t), 'hosts')])).size, 0);
});

test("a host's own key counts for it without a file, and once if there is one", async (t) => {
  const dir = temporary(t);
  const web = await makeHost(t, 'web');
  assert.deepEqual(await shown([dir], web), { web: [web.fingerprint] });
  put(join(dir, 'web.asc'), web.publicKey.armor());
  assert.deepEqual(await shown([dir], web), { web: [web.fingerprint] });
});

test('pinning writes <host>.asc, a second key of the host gets the longer name, and both count', async (t) => {
  const dir = join(temporary(t), 'hosts');
  const [first, second] = [await makeHost(t, 'web'), await makeHost(t, 'web')];
  assert.deepEqual(await pinHostKey(dir, first.publicKey), { file: join(dir, 'web.asc'), isNew: true });
  const long = `web-${second.fingerprint.slice(-16)}.asc`;
  assert.deepEqual(await pinHostKey(dir, second.publicKey), { file: join(dir, long), isNew: true });
  assert.equal((await pinHostKey(dir, second.publicKey)).isNew, false);
  assert.deepEqual(new Set((await shown([dir]))['web']), new Set([first.fingerprint, second.fingerprint]));
  assert.equal(statSync(join(dir, long)).mode & 0o777, 0o644);
});

test('pinning twice changes nothing', async (t) => {
  const dir = join(temporary(t), 'hosts');
  const web = await makeHost(t, 'web');
  const other = await makeHost(t, 'web');
  for (const key of [web, other, web, other]) await pinHostKey(dir, key.publicKey);
  assert.equal(readdirSync(dir).length, 2);
});

test('what is pinned is the public half, even if the private one is handed in', async (t) => {
  const dir = join(temporary(t), 'hosts');
  const web = await makeHost(t, 'web');
  const { file } = await pinHostKey(dir, web.privateKey);
  assert.match(readFileSync(file, 'utf8'), /BEGIN PGP PUBLIC KEY BLOCK/);
});

test('a pinned file that does not pin what it says is refused', async (t) => {
  const [web, mail] = [await makeHost(t, 'web'), await makeHost(t, 'mail')];
  const person = await makeKey();
  const revoked = await openpgp.revokeKey({ key: web.privateKey, format: 'object' });
  const cases: readonly [name: string, content: string | Uint8Array, reason: RegExp][] = [
    ['mail.asc', web.publicKey.armor(), /is the key of host web: name the file web\.asc or web-/],
    [`web-${mail.fingerprint.slice(-16)}.asc`, web.publicKey.armor(), /name the file/],
    [`web-${web.fingerprint.slice(-16).toLowerCase()}.asc`, web.publicKey.armor(), /name the file/],
    ['web.gpg', web.publicKey.write(), /name the file web\.asc/],
    ['web.asc', web.privateKey.armor(), /PRIVATE/],
    [
      'web.asc',
      person.publicKey.armor(),
      /is not the key of a host: its user id is "Ada <ada@example\.org>"/,
    ],
    ['web.asc', web.publicKey.armor() + mail.publicKey.armor(), /exactly one key; it holds 2/],
    ['web.asc', 'hello', /not an OpenPGP key/],
    ['web.asc', revoked.publicKey.armor(), /revoked/],
  ];
  for (const [name, content, reason] of cases) {
    const dir = temporary(t);
    put(join(dir, name), content);
    await assert.rejects(loadTrust([dir]), { code: 'key-unusable', message: reason }, name);
  }
});

test('a pinned file that others can write is refused', async (t) => {
  const dir = temporary(t);
  put(join(dir, 'web.asc'), (await makeHost(t, 'web')).publicKey.armor(), 0o666);
  await assert.rejects(loadTrust([dir]), { code: 'key-unusable', message: /written by everybody/ });
});
