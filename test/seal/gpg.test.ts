import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { findWithGpg } from '../../src/seal/gpg.ts';
import { openBytes } from '../../src/seal/open.ts';
import { sealPackets } from '../../src/seal/packets.ts';
import { sealBytes, type Seal } from '../../src/seal/message.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { pseudoRandom } from '../support/bytes.ts';
import type { Gpg } from '../support/gpg.ts';
import { failsWith } from '../support/fails-with.ts';
import { makeKey } from '../support/keys.ts';
import { put, temporary } from '../support/temporary.ts';
import { gpgKey, sealAt, whileValid } from './sealed.ts';

const never = new AbortController().signal;
const path = process.env['PATH'] ?? '';
const finder = ({ home }: Gpg, signal = never) => findWithGpg({ PATH: path, GNUPGHOME: home }, signal);
const content = pseudoRandom(1, 10_000);

async function opens(find: ReturnType<typeof finder>, seal: Seal): Promise<void> {
  const object = sealBytes(seal, content);
  const sessionKey = await find(sealPackets(object));
  assert.deepEqual(Buffer.from(sessionKey), Buffer.from(seal.sessionKey));
  assert.ok(content.equals(await openBytes(object, sessionKey)));
}

/** Makes the agent ask a program that answers as told, where a person would see a dialogue. */
function answerPassphrase({ home }: Gpg, getPin: string): void {
  const pinentry = join(home, 'pinentry');
  const script = `#!/bin/sh
echo 'OK ready'
while read -r command rest; do
  case $command in
    GETPIN) ${getPin} ;;
    BYE) echo OK; exit 0 ;;
    *) echo OK ;;
  esac
done
`;
  put(pinentry, script, 0o755);
  appendFileSync(join(home, 'gpg-agent.conf'), `pinentry-program ${pinentry}\n`);
  // The agent reads its configuration, and forgets passphrases, when it starts.
  spawnSync('gpgconf', ['--homedir', home, '--kill', 'gpg-agent']);
}

test("a key in gpg's ring opens a backup, beside recipients that it does not have", async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519');
  await opens(finder(gpg), await createSeal([publicKey], new Date()));
  await opens(finder(gpg), await createSeal([(await makeKey()).publicKey, publicKey], new Date()));
});

test('a key behind a passphrase opens a backup after the agent has asked', async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519', { passphrase: 'correct horse' });
  answerPassphrase(gpg, "echo 'D correct horse'; echo OK");
  await opens(finder(gpg), await createSeal([publicKey], new Date()));
});

test('a wrong passphrase is named as such', async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519', { passphrase: 'correct horse' });
  answerPassphrase(gpg, "echo 'D wrong'; echo OK");
  const { packets } = await createSeal([publicKey], new Date());
  await assert.rejects(finder(gpg)(packets), { code: 'passphrase-wrong' });
});

test('where gpg has no terminal to ask on, that is said, and not that the key is missing', async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519', { passphrase: 'correct horse' });
  answerPassphrase(gpg, "echo 'ERR 83918950 Inappropriate ioctl for device <Pinentry>'");
  const { packets } = await createSeal([publicKey], new Date());
  await assert.rejects(
    finder(gpg)(packets),
    failsWith('passphrase-wrong', /cannot ask for the passphrase/, /terminal/),
  );
});

test('what stood in the way is known in every language that gpg speaks', async (t) => {
  const bin = temporary(t);
  const { packets } = await createSeal([(await makeKey()).publicKey], new Date());
  const said = 'gpg: Entschlüsselung mit Public-Key-Verfahren fehlgeschlagen: Irgendetwas';
  const cases = [
    [67108875, 'passphrase-wrong', /could not unlock the private key: .*Irgendetwas/],
    [83886179, 'passphrase-wrong', /was cancelled/],
    [83886278, 'passphrase-wrong', /was cancelled/],
    [67108949, 'passphrase-wrong', /cannot ask for the passphrase/],
    [83918950, 'passphrase-wrong', /cannot ask for the passphrase/],
    [67108881, 'key-wrong', /has no private key that opens/],
  ] as const;
  for (const [status, code, message] of cases) {
    const lines = `echo '[GNUPG:] ERROR pkdecrypt_failed ${status}' >&3; echo '${said}' >&2; exit 2`;
    put(join(bin, 'gpg'), `#!/bin/sh\ncat > /dev/null; ${lines}\n`, 0o755);
    const find = findWithGpg({ PATH: `${bin}:${path}` }, never);
    await assert.rejects(find(packets), { code, message }, String(status));
  }
});

test('gpg is told of the terminal, also where GPG_TTY is not set', () => {
  const source = import.meta.resolve('../../src/config/environment.ts');
  const code = `const { environment } = await import(${JSON.stringify(source)}); console.log(environment({}).forGpg())`;
  const told = (shell: string): string =>
    spawnSync('script', ['-qec', shell, '/dev/null'], {
      encoding: 'utf8',
      env: { NODE: process.execPath, CODE: code, PATH: path },
    }).stdout;
  const run = '"$NODE" --input-type=module --eval "$CODE"';
  assert.match(told(run), /GPG_TTY: '\/dev\/pts\/\d+'/);
  assert.match(told(`${run} < /dev/null`), /GPG_TTY: '\/dev\/pts\/\d+'/);
  assert.match(told(`${run} < /dev/null 2> /dev/null`), /^\{\}/);
});

test('a dialogue that nobody answers ends with the signal', async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519', { passphrase: 'correct horse' });
  answerPassphrase(gpg, 'sleep 3');
  const { packets } = await createSeal([publicKey], new Date());
  const controller = new AbortController();
  const finding = finder(gpg, controller.signal)(packets);
  setTimeout(() => controller.abort(), 300);
  const outcome = await Promise.race([
    finding.then(
      () => 'found',
      (error: Error) => error.name,
    ),
    delay(5000, 'still waiting'),
  ]);
  assert.equal(outcome, 'AbortError');
});

test('an expired key in the ring still opens a backup', async (t) => {
  const { gpg, publicKey } = await gpgKey(t, 'cv25519', { expired: true });
  assert.match(gpg.run(['--list-keys', '--with-colons']).toString(), /^pub:e:/m);
  await assert.rejects(createSeal([publicKey], new Date()), /expired/i);
  await opens(finder(gpg), await sealAt(whileValid, [publicKey]));
});

test('a ring without the key says so', async (t) => {
  const { gpg } = await gpgKey(t, 'cv25519');
  const { packets } = await createSeal([(await makeKey()).publicKey], new Date());
  await assert.rejects(finder(gpg)(packets), {
    code: 'key-wrong',
    message: /gpg has no private key that opens/,
  });
});

test('where there is no gpg, that is said', async (t) => {
  const { packets } = await createSeal([(await makeKey()).publicKey], new Date());
  const find = findWithGpg({ PATH: temporary(t), GNUPGHOME: temporary(t) }, never);
  await assert.rejects(find(packets), { code: 'tool-missing' });
});
