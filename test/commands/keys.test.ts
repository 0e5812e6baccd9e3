import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as openpgp from 'openpgp';
import { type StoredHostKey, trust } from '../../src/commands/keys.ts';
import { environment } from '../../src/config/environment.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Context } from '../../src/commands/context.ts';
import { silentLog } from '../../src/log.ts';
import { createOutput } from '../../src/output.ts';
import { createHostKey, type HostKey } from '../../src/seal/host-key.ts';
import { runInProcess } from '../support/in-process.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';

const generate = ['keys', 'generate', '--user-id', 'Ada <ada@example.org>', '--out', 'out'];

async function host(t: TestContext): Promise<string> {
  const cwd = temporary(t);
  await runInProcess(['init', '--host', 'web', '--store', '/b', '--state-dir', 'state'], { cwd });
  return cwd;
}

test('generate makes a protected key pair without a configuration', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'pass'), 'correct horse\nsecond line\n', 0o600);
  const { status, stdout, stderr } = await runInProcess(
    [...generate, '--passphrase-file', 'pass', '--json'],
    { cwd },
  );
  assert.equal(status, 0, stderr);
  const key = JSON.parse(stdout) as { fingerprint: string; privateFile: string };
  const armoredKey = readFileSync(key.privateFile, 'utf8');
  const privateKey = await openpgp.readPrivateKey({ armoredKey });
  await openpgp.decryptKey({ privateKey, passphrase: 'correct horse' });
  assert.deepEqual(readdirSync(join(cwd, 'out')).toSorted(), ['ada.key.asc', 'ada.pub.asc', 'ada.rev.asc']);
});

test('generate asks for a passphrase, and refuses where nobody can answer', async (t) => {
  const cwd = temporary(t);
  const { status, stderr } = await runInProcess(generate, { cwd });
  assert.equal(status, 2);
  assert.match(stderr, /no terminal to ask for it\nhint: .*--passphrase-file/);
  assert.deepEqual(readdirSync(cwd), []);
});

test('generate leaves the private half unprotected only when told to, and says what that means', async (t) => {
  const cwd = temporary(t);
  const { status, stderr } = await runInProcess([...generate, '--no-passphrase'], { cwd });
  assert.equal(status, 0);
  assert.match(stderr, /not protected by a passphrase/);
});

test('a passphrase file that is not plain UTF-8 is refused: what was typed would not open the key', async (t) => {
  const cwd = temporary(t);
  for (const bytes of [Buffer.from('p\u00E4ss', 'latin1'), Buffer.from('\uFEFFpass')]) {
    put(join(cwd, 'odd'), bytes, 0o600);
    const { status, stderr } = await runInProcess([...generate, '--passphrase-file', 'odd'], { cwd });
    assert.equal(status, 2);
    assert.match(stderr, /odd is not what anybody could type\nhint: .*UTF-8/);
  }
  assert.deepEqual(readdirSync(cwd), ['odd']);
});

test('an empty passphrase file, one that others can write, and both options at once are refused', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'empty'), '\n', 0o600);
  put(join(cwd, 'open'), 'x', 0o666);
  for (const args of [
    ['--passphrase-file', 'empty'],
    ['--passphrase-file', 'open'],
    ['--passphrase-file', 'none'],
    ['--passphrase-file', 'empty', '--no-passphrase'],
  ]) {
    assert.equal((await runInProcess([...generate, ...args], { cwd })).status, 2, args.join(' '));
  }
  assert.deepEqual(readdirSync(cwd).toSorted(), ['empty', 'open']);
});

test('generate overwrites nothing', async (t) => {
  const cwd = temporary(t);
  await runInProcess([...generate, '--no-passphrase'], { cwd });
  const before = readFileSync(join(cwd, 'out/ada.key.asc'));
  const { status, stderr } = await runInProcess([...generate, '--no-passphrase'], { cwd });
  assert.equal(status, 2);
  assert.match(stderr, /is there already/);
  assert.deepEqual(readFileSync(join(cwd, 'out/ada.key.asc')), before);
});

test('check is content with usable keys, and list shows them', async (t) => {
  const cwd = await host(t);
  put(join(cwd, 'keys/recipients/ada.asc'), (await makeKey()).publicKey.armor());
  const checked = await runInProcess(['keys', 'check'], { cwd });
  assert.equal(checked.status, 0, checked.stderr);
  assert.match(checked.stdout, /All keys can be used/);
  const { stdout } = await runInProcess(['keys', 'list'], { cwd });
  assert.match(stdout, /^ok +[0-9A-F]{40} +ECDH curve25519 +never +Ada <ada@example.org>$/m);
  assert.match(stdout, /^ok +[0-9A-F]{40} +web +.*keys\/hosts\/web\.asc$/m);
});

test('check ends with 12 when there is no recipient', async (t) => {
  const cwd = await host(t);
  const { status, stdout } = await runInProcess(['keys', 'check'], { cwd });
  assert.equal(status, 12);
  assert.match(stdout, /There are no recipients/);
  assert.equal((await runInProcess(['keys', 'list'], { cwd })).status, 0);
});

test('check ends with 12 and says why a key cannot be used, for every bad key', async (t) => {
  const cwd = await host(t);
  const old = await makeKey({ keyExpirationTime: 86_400, date: new Date(Date.now() - 9 * 86_400_000) });
  put(join(cwd, 'keys/recipients/ada.asc'), old.publicKey.armor());
  put(join(cwd, 'keys/recipients/bob.asc'), (await makeKey({ subkeys: [] }, 'Bob')).publicKey.armor());
  put(join(cwd, 'keys/hosts/mail.asc'), 'nothing');
  const { status, stdout } = await runInProcess(['keys', 'check'], { cwd });
  assert.equal(status, 12);
  assert.match(stdout, /ada\.asc: expired on/);
  assert.match(stdout, /bob\.asc: can only sign/);
  assert.match(stdout, /mail\.asc: it is not an OpenPGP key/);
  assert.match(stdout, /3 of these cannot be used/);
});

test('with --json, check prints one document and keeps its exit status', async (t) => {
  const cwd = await host(t);
  const soon = await makeKey({ keyExpirationTime: 20 * 86_400 });
  put(join(cwd, 'keys/recipients/ada.asc'), soon.publicKey.armor());
  put(join(cwd, 'keys/recipients/bad.asc'), 'x');
  const { status, stdout } = await runInProcess(['keys', 'check', '--json'], { cwd });
  assert.equal(status, 12);
  const document = JSON.parse(stdout) as { ok: boolean; recipients: Record<string, unknown>[] };
  assert.equal(document.ok, false);
  const [ada, bad] = document.recipients;
  assert.equal(ada?.['usable'], true);
  assert.ok([19, 20].includes(ada['daysToExpiry'] as number));
  assert.equal((ada['warnings'] as string[]).length, 1);
  assert.equal(bad?.['usable'], false);
  assert.equal(bad['fingerprint'], null);
});

test('a user id cannot steer the terminal', async (t) => {
  const cwd = await host(t);
  const { publicKey } = await openpgp.generateKey({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name: 'Eve \u001B[2J\u009B31m' }],
    format: 'object',
  });
  put(join(cwd, 'keys/recipients/eve.asc'), publicKey.armor());
  const { stdout } = await runInProcess(['keys', 'list'], { cwd });
  assert.match(stdout, /Eve/);
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(stdout, /[\u001B\u009B]/);
});

interface Trusting {
  readonly cwd: string;
  readonly text: () => string;
  run(fingerprint: string, ...stored: StoredHostKey[]): Promise<unknown>;
}

async function trusting(t: TestContext): Promise<Trusting> {
  const cwd = await host(t);
  const written: string[] = [];
  const env = environment({}, cwd);
  const context: Context = {
    config: async () => loadConfig(undefined, env),
    configPath: undefined,
    environment: env,
    log: silentLog(),
    output: createOutput({ write: (text) => written.push(text), colour: false }),
    json: false,
    quiet: false,
    signal: new AbortController().signal,
    clock: () => new Date(),
  };
  return {
    cwd,
    text: () => written.join(''),
    run: (fingerprint, ...stored) =>
      trust(context, fingerprint, async function* () {
        yield* stored;
      }),
  };
}

const otherHost = (t: TestContext): Promise<HostKey> =>
  createHostKey(join(temporary(t), 'k'), 'mail', new Date());
const stored = ({ host, fingerprint, publicKey }: HostKey): StoredHostKey => ({
  host,
  fingerprint,
  armored: publicKey.armor(),
});

test('trust pins the key of the fingerprint that was named, however it is spaced', async (t) => {
  const { cwd, run, text } = await trusting(t);
  const mail = await otherHost(t);
  await run(mail.fingerprint.toLowerCase().replaceAll(/(.{4})/g, '$1 '), stored(mail));
  assert.match(readFileSync(join(cwd, 'keys/hosts/mail.asc'), 'utf8'), /PUBLIC KEY BLOCK/);
  assert.match(text(), /Host mail is trusted/);
  assert.equal((await runInProcess(['keys', 'list'], { cwd })).stdout.match(/^ok .* mail /gm)?.length, 1);
});

test('trust refuses a short key id', async (t) => {
  const { run } = await trusting(t);
  const mail = await otherHost(t);
  await assert.rejects(run(mail.fingerprint.slice(-16), stored(mail)), { code: 'usage' });
});

test('trust pins nothing when the store has no such key, and names those it has', async (t) => {
  const { cwd, run } = await trusting(t);
  const mail = await otherHost(t);
  await assert.rejects(run('A'.repeat(40), stored(mail)), {
    code: 'key-missing',
    hint: `it holds mail ${mail.fingerprint}`,
  });
  assert.deepEqual(readdirSync(join(cwd, 'keys/hosts')), ['web.asc']);
});

test('trust believes the key, not the name under which the store keeps it', async (t) => {
  const { cwd, run } = await trusting(t);
  const [mail, eve] = [await otherHost(t), await otherHost(t)];
  const code = 'key-untrusted';
  const { fingerprint } = mail;
  await assert.rejects(run(fingerprint, { ...stored(eve), fingerprint }), {
    code,
    message: /is another one/,
  });
  await assert.rejects(run(fingerprint, { ...stored(mail), host: 'web' }), {
    code,
    message: /is for "sealift host mail"/,
  });
  await assert.rejects(run(fingerprint, { ...stored(mail), armored: 'x' }), {
    code,
    message: /cannot be read/,
  });
  assert.deepEqual(readdirSync(join(cwd, 'keys/hosts')), ['web.asc']);
});
