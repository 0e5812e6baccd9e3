import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test, type TestContext } from 'node:test';
import type { EjabberdConfig } from '../../src/config/config.ts';
import { mnesiaSource } from '../../src/sources/ejabberd-mnesia.ts';
import { ejabberdSource } from '../../src/sources/ejabberd.ts';
import { openSource } from '../../src/sources/open.ts';
import { ejabberdNeeds, installEjabberd, type EjabberdService } from '../services/ejabberd.ts';
import { chown } from '../services/installed-server.ts';
import { failsWith } from '../support/fails-with.ts';
import { put, temporary } from '../support/temporary.ts';
import { collect } from '../support/bytes.ts';
import { newRun, type Run } from './run.ts';

function configOf(change: Partial<EjabberdConfig>): EjabberdConfig {
  const rest = { node: undefined, database: undefined, runAs: undefined, sqlitePaths: [] };
  return { name: 'chat', kind: 'ejabberd', config: '', data: '', ejabberdctl: '', ...rest, ...change };
}

const bytesOf = async (config: EjabberdConfig, file: string, run = newRun()): Promise<Buffer> => {
  const stream = (await mnesiaSource(config).streams(run)).find((stream) => stream.file === file);
  assert.ok(stream);
  return collect(stream.open(run));
};

/** What ejabberdctl 23.01 says. */
const started =
  'The node ejabberd@localhost is started with status: started\nejabberd 23.01-1 is running in that node';
const nodeDown =
  'Failed RPC connection to the node ejabberd@localhost: nodedown\n\nCommands to start an ejabberd node:';

/** An ejabberdctl of which `status` is well, and the rest is as in the script; $FILE is where it is to write. */
function misbehaving(t: TestContext, script: string): EjabberdConfig {
  const root = temporary(t);
  const data = join(root, 'data');
  mkdirSync(data);
  const text = `#!/bin/bash
    case "$2" in status) echo '${started}'; exit;; esac
    FILE="$3"
    ${script}`;
  return configOf({ data, config: root, ejabberdctl: put(join(root, 'ejabberdctl'), text, 0o755) });
}

const leftIn = (config: EjabberdConfig) => readdirSync(config.data);

suite('an ejabberdctl that misbehaves', () => {
  const cases = [
    ['succeeds and writes nothing', 'exit 0', 'source-empty', /wrote nothing/],
    ['succeeds and leaves an empty file', ': >"$FILE"', 'source-empty', /is empty/],
    ['writes something else', 'echo "Usage: ejabberdctl" >"$FILE"', 'source-damaged', /does not begin/],
    [
      'prints an error and reports success',
      `echo "Error: cannot_backup"; echo "Can't store backup in \\"$FILE\\""; exit 0`,
      'tool-failed',
      /cannot_backup/,
    ],
    [
      'has no room',
      `echo "Error: cannot_backup"; echo "Can't store backup at node ejabberd@localhost: {file_error,enospc}"; exit 1`,
      'failed',
      /enospc/,
    ],
    ['loses its server meanwhile', `echo '${nodeDown}'; exit 3`, 'source-unavailable', /nodedown$/],
    ['is killed midway', 'printf "{tables,[" >"$FILE"; kill -9 $$', 'tool-failed', /SIGKILL/],
    [
      'floods its standard error',
      'head -c 20000000 /dev/zero | tr "\\0" x >&2; echo "the last word" >&2; exit 1',
      'tool-failed',
      /the last word$/,
    ],
  ] as const;
  for (const [what, script, code, message] of cases)
    for (const file of ['mnesia.backup', 'mnesia.txt'])
      test(`${file}: one that ${what} ends in ${code}, and leaves nothing behind`, async (t) => {
        const config = misbehaving(t, script);
        await assert.rejects(bytesOf(config, file), failsWith(code, message));
        assert.deepEqual(leftIn(config), []);
      });

  test('a text dump that was cut off is refused', async (t) => {
    const config = misbehaving(
      t,
      `printf '{tables,[{passwd,[]}]}.\\n{passwd,{<<"alice">>,<<"local' >"$FILE"`,
    );
    await assert.rejects(bytesOf(config, 'mnesia.txt'), failsWith('source-damaged', /does not end/));
  });

  for (const last of [
    '{passwd,{<<"alice">>,<<"localhost">>},[{scram,<<"x">>}]}',
    `{last_activity,{<<"alice">>,<<"localhost">>},1700000000,<<"Registered but didn't login">>}`,
    '{route,<<"localhost">>,7}',
  ])
    test(`a text dump whose last record is ${last} is whole`, async (t) => {
      const text = `{tables,[{passwd,[]}]}.\n${last}.\n`;
      const config = misbehaving(t, `cat >"$FILE" <<'END'\n${text}END`);
      assert.equal((await bytesOf(config, 'mnesia.txt')).toString(), text);
    });

  test('a binary backup that was not closed is refused', async (t) => {
    const config = misbehaving(t, `printf '\\1\\2\\3\\4\\6\\7\\10\\11 log_header backup_log' >"$FILE"`);
    await assert.rejects(bytesOf(config, 'mnesia.backup'), failsWith('source-damaged', /does not begin/));
  });

  test('where there is no room for a copy of the database, the server, which would end with it, is not asked for one', async (t) => {
    const config = misbehaving(t, 'echo asked >"$(dirname "$0")/asked"; exit 1');
    const { bavail, bsize } = statfsSync(config.data);
    const mayGetFree = 2 ** 36; // other tests clear up meanwhile
    for (const place of ['', 'ejabberd@chat']) {
      mkdirSync(join(config.data, place), { recursive: true });
      const large = put(join(config.data, place, 'archive_msg.DAT'), '');
      truncateSync(large, bavail * bsize + mayGetFree);
      for (const file of ['mnesia.backup', 'mnesia.txt'])
        await assert.rejects(
          bytesOf(config, file),
          failsWith('failed', /data has .* free, and a copy of the database may take/, /make room there/),
        );
      rmSync(large);
    }
    assert.ok(!existsSync(join(config.config, 'asked')));
  });

  test('one that hangs is ended by an abort, and its folder is gone', async (t) => {
    const config = misbehaving(t, `trap '' TERM; echo begun >"$FILE"; sleep 600`);
    const abort = new AbortController();
    const reading = bytesOf(config, 'mnesia.backup', newRun(abort.signal));
    while (leftIn(config).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    abort.abort(new Error('it took too long'));
    await assert.rejects(reading, /it took too long/);
    assert.deepEqual(leftIn(config), []);
  });

  test('a reader that stops early leaves nothing behind', async (t) => {
    const config = misbehaving(t, `printf '{tables,[]}.\\n' >"$FILE"`);
    const run = newRun();
    const stream = (await mnesiaSource(config).streams(run)).find(({ file }) => file === 'mnesia.txt');
    for await (const _ of stream!.open(run)) break;
    assert.deepEqual(leftIn(config), []);
  });

  test('a missing one, a folder that is not there, and one that serves other users only are told apart', async (t) => {
    const config = misbehaving(t, 'exit 0');
    const missing = { ...config, ejabberdctl: join(config.config, 'gone') };
    await assert.rejects(bytesOf(missing, 'mnesia.txt'), failsWith('tool-missing'));
    const elsewhere = { ...config, data: join(config.config, 'gone') };
    await assert.rejects(bytesOf(elsewhere, 'mnesia.txt'), failsWith('source-unavailable', /gone/, /`data`/));
    const says = 'echo "ERROR: This command can only be run by root or the user ejabberd" >&2; exit 7';
    const script = put(join(config.config, 'refuses'), `#!/bin/sh\n${says}\n`, 0o755);
    await assert.rejects(
      bytesOf({ ...config, ejabberdctl: script }, 'mnesia.txt'),
      failsWith('source-denied', /can only be run by/, /as root/),
    );
  });

  test('it is not held to a minute, and asked for the node of the configuration', async (t) => {
    const config = misbehaving(t, 'exit 0');
    const seen = join(config.config, 'seen');
    const ejabberdctl = put(join(config.config, 'notes'), `#!/bin/sh\necho "$@" >${seen}; exit 1\n`, 0o755);
    await assert.rejects(bytesOf({ ...config, ejabberdctl, node: 'chat@there' }, 'mnesia.txt'));
    assert.equal(readFileSync(seen, 'utf8'), '--no-timeout --node chat@there status\n');
  });
});

suite('a live ejabberd', ejabberdNeeds, () => {
  let scratch = '';
  let server: EjabberdService;
  let saved: { backup: Buffer; text: Buffer };

  const config = () => configOf(server);
  const accounts = () => server.ctl('registered_users', server.host);
  /** Lays a saved file down where the server may read it. */
  async function lay(name: string, bytes: Buffer): Promise<string> {
    const path = join(server.data, name);
    await writeFile(path, bytes);
    await chown('ejabberd:ejabberd', path);
    return path;
  }
  async function wipe(): Promise<void> {
    await server.stop();
    for (const name of await readdir(server.data)) await rm(join(server.data, name), { recursive: true });
  }

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-ejabberd-'));
    server = await installEjabberd(scratch, '  mod_last: {}\n');
    await server.start();
    for (const name of ['alice', 'ünï']) await server.ctl('register', name, server.host, 'canary-password');
  });

  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  test('it is saved in both forms as its own user, in a folder that nobody else can enter', async () => {
    const run: Run = newRun();
    const streams = await ejabberdSource(config(), openSource).streams(run);
    assert.deepEqual(
      streams.map(({ file, kind }) => [file, kind]),
      [
        ['mnesia.backup', 'ejabberd'],
        ['mnesia.txt', 'ejabberd'],
        ['ejabberd.tar', 'files'],
      ],
    );
    const [facts] = run.details;
    assert.match(String(facts?.['version']), /^\d+\.\d+/);
    assert.deepEqual(
      [facts?.type, facts?.['software'], facts?.['node']],
      ['server', 'ejabberd', 'ejabberd@localhost'],
    );
    const read = async (file: string): Promise<Buffer> => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of streams.find((stream) => stream.file === file)!.open(run)) {
        chunks.push(Buffer.from(chunk));
        const folder = readdirSync(server.data).find((name) => name.startsWith('sealift-'));
        const { mode, uid } = statSync(join(server.data, folder!));
        assert.deepEqual([mode & 0o777, uid], [0o700, statSync(server.data).uid]);
      }
      return Buffer.concat(chunks);
    };
    saved = { backup: await read('mnesia.backup'), text: await read('mnesia.txt') };
    assert.ok(!readdirSync(server.data).some((name) => name.startsWith('sealift-')));
    assert.match(saved.text.toString('utf8'), /\{passwd,\{<<"ünï">>,<<"localhost">>\}/);
    assert.deepEqual(run.problems, []);
    assert.ok(!JSON.stringify(run.details).includes('canary'));
  });

  test('the text form brings back what is missing', async () => {
    await server.ctl('unregister', 'ünï', server.host);
    assert.equal(await accounts(), 'alice');
    await server.ctl('load', await lay('mnesia.txt', saved.text));
    assert.equal(await accounts(), 'alice\nünï');
  });

  test('a server that is down fails its own streams, and what lies on the disk is saved', async () => {
    await server.stop();
    const run = newRun();
    const streams = await ejabberdSource(config(), openSource).streams(run);
    assert.deepEqual(
      streams.map(({ file }) => file),
      ['ejabberd.tar'],
    );
    assert.match(
      run.problems.join(),
      /^source-failed: ejabberdctl status failed: .*nodedown \(.*start ejabberd/,
    );
    await assert.rejects(
      mnesiaSource(config()).streams(run),
      failsWith('source-unavailable', /nodedown/, /start ejabberd/),
    );
  });

  test('the binary form comes back under another name of the node, by the documented change', async () => {
    await wipe();
    const settings = join(scratch, 'etc/default/ejabberd');
    await copyFile(settings, `${settings}.old`);
    await writeFile(settings, '\nERLANG_NODE=other@localhost\n', { flag: 'a' });
    await server.start();
    const [before, changed] = [await lay('mnesia.backup', saved.backup), join(server.data, 'changed.backup')];
    await server.ctl('mnesia_change_nodename', 'ejabberd@localhost', 'other@localhost', before, changed);
    await server.ctl('restore', changed);
    assert.equal(await accounts(), 'alice\nünï');
    assert.ok(existsSync(changed));
  });
});
