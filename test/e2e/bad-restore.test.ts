import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInProcess } from '../support/in-process.ts';
import { makeKey } from '../support/keys.ts';
import { resign } from '../support/resign.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld, type Listing, type World } from '../support/world.ts';
import {
  assertRefusal,
  backup,
  hostWithSnapshot,
  needsMounts,
  refuses,
  treeJob,
  underMounts,
} from './bad-input.ts';

test('a restore is refused', async (t) => {
  const { world, id, nothingLost } = await hostWithSnapshot(t);
  const passphrase = put(join(world.dir, 'passphrase'), 'right\n', 0o600);
  const eve = [
    '--user-id',
    'Eve <eve@example.org>',
    '--out',
    join(world.dir, 'eve'),
    '--passphrase-file',
    passphrase,
  ];
  assert.equal((await world.run('keys', 'generate', ...eve)).status, 0);
  const eveKey = join(world.dir, 'eve/eve.key.asc');
  cpSync(join(world.dir, 'eve/eve.pub.asc'), join(world.dir, 'keys/recipients/eve.asc'));
  const second = await backup(world);
  const restore = (snapshot: string, to: string, ...key: string[]) => [
    'restore',
    snapshot,
    '--to',
    join(world.dir, to),
    '--key',
    ...key,
  ];

  await t.test('of a time that never was', async () => {
    for (const time of ['2027-02-29T12:00:00Z', '2026-04-31T00:00:00+02:00', '2026-13-01T00:00:00Z', 'noon'])
      await refuses(world, [...restore('latest', 'x', world.key), '--at', time], {
        exit: 2,
        code: 'usage',
        says: /is no time/,
        hint: /2026-11-22T12:00:00Z/,
      });
  });

  await t.test('to a folder without a name, which would be the current one, even with --force', async () => {
    const nowhere = ['restore', '--to', '', '--force', '--key', world.key];
    await refuses(world, nowhere, { exit: 2, code: 'usage', says: /--to DIR is empty/, hint: /--to \./ });
  });

  await t.test('with the key of somebody else', async () => {
    const stranger = put(join(world.dir, 'x.asc'), (await makeKey()).privateKey.armor(), 0o600);
    const refusal = {
      exit: 12,
      code: 'key-wrong',
      says: /does not open this backup/,
      hint: /^It is sealed to ([0-9A-F]{4} ){10}and( [0-9A-F]{4}){10}\.$/,
    };
    await refuses(world, restore('latest', 'by-stranger', stranger), refusal);
  });

  await t.test('and with the right key the same command works then', async () => {
    const { status, stderr } = await world.run(...restore('latest', 'by-stranger', world.key));
    assert.equal(status, 0, stderr);
  });

  await t.test('with a wrong passphrase, which is not printed', async () => {
    const wrong = put(join(world.dir, 'wrong'), 'canary-passphrase\n', 0o600);
    const args = restore(second, 'by-eve', eveKey, '--passphrase-file', wrong);
    await refuses(world, args, { exit: 12, code: 'passphrase-wrong', says: /eve\.key\.asc is wrong/ });
    const { stdout, stderr } = await world.run('-v', '-v', ...args);
    assert.doesNotMatch(stdout + stderr, /canary-passphrase/);
    await world.json(...restore(second, 'by-eve', eveKey, '--passphrase-file', passphrase));
  });

  await t.test('with a key file that is missing, or is the public half', async () => {
    const missing = { exit: 12, code: 'key-missing', says: /nowhere\.asc cannot be read/ };
    await refuses(world, restore('latest', 'a', 'nowhere.asc'), missing);
    const publicHalf = join(world.dir, 'op/op.pub.asc');
    const unusable = {
      exit: 12,
      code: 'key-unusable',
      says: /op\.pub\.asc holds no private key/,
      hint: /key\.asc/,
    };
    await refuses(world, restore('latest', 'a', publicHalf), unusable);
  });

  await t.test('into a folder with something in it, until --force', async () => {
    const kept = join(world.dir, 'full/tree', world.dir.slice(1), 'tree/file');
    mkdirSync(join(kept, '..'), { recursive: true });
    writeFileSync(kept, 'of the owner');
    const refusal = { exit: 2, code: 'target-exists', says: /\/full is not empty/, hint: /--force/ };
    await refuses(world, restore('latest', 'full', world.key), refusal);
    assert.equal(readFileSync(kept, 'utf8'), 'of the owner');
    await world.json(...restore('latest', 'full', world.key), '--force');
    assert.ok(readFileSync(kept).equals(readFileSync(join(world.dir, 'tree/file'))));
  });

  await t.test(
    'with --force over what is in the way, by its name, and links that gave way are told',
    async () => {
      const folder = join(world.dir, 'over/tree', world.dir.slice(1), 'tree');
      mkdirSync(join(folder, 'file/full'), { recursive: true });
      const over = [...restore('latest', 'over', world.key), '--force'];
      const says = /in the way below .*\/over\/tree: ".*tree\/file": ENOTEMPTY/;
      await refuses(world, over, { exit: 2, code: 'target-exists', says });
      rmSync(folder, { recursive: true });
      mkdirSync(join(world.dir, 'elsewhere'));
      symlinkSync(join(world.dir, 'elsewhere'), folder);
      const { unlinked } = await world.json<{ unlinked: string[] }>(...over);
      assert.deepEqual(unlinked, [folder]);
      rmSync(folder, { recursive: true });
      symlinkSync(join(world.dir, 'elsewhere'), folder);
      const { stdout } = await world.run(...over);
      assert.match(stdout, new RegExp(`^note +folders now, where links to elsewhere were: ${folder}$`, 'm'));
      assert.deepEqual(readdirSync(join(world.dir, 'elsewhere')), []);
    },
  );

  await t.test('nothing is written through a link in the place of the folder of a source', async () => {
    const folder = join(world.dir, 'linked/tree');
    const elsewhere = join(world.dir, 'untouched');
    for (const path of [elsewhere, join(world.dir, 'linked')]) mkdirSync(path);
    symlinkSync(elsewhere, folder);
    const over = [...restore('latest', 'linked', world.key), '--force'];
    const { unlinked } = await world.json<{ unlinked: string[] }>(...over);
    assert.deepEqual([unlinked, readdirSync(elsewhere)], [[folder], []]);
    assert.ok(readdirSync(folder).length > 0);
  });

  await t.test('with --force in a folder that is only appended to, by the name of the file', async (t) => {
    const folder = join(world.dir, 'append/tree', world.dir.slice(1), 'tree');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'file'), 'old');
    if (spawnSync('chattr', ['+a', folder]).status !== 0) return t.skip('chattr cannot do that here');
    try {
      const says = /not allowed to write .*\/append\/tree: ".*tree\/file": EPERM/;
      await refuses(world, [...restore('latest', 'append', world.key), '--force'], {
        exit: 1,
        code: 'restore-failed',
        says,
        hint: /chattr -ia/,
      });
      assert.equal(readFileSync(join(folder, 'file'), 'utf8'), 'old');
    } finally {
      spawnSync('chattr', ['-a', folder]);
    }
    return undefined;
  });

  await t.test('into a URL, of which nothing that may be a password is repeated', async () => {
    for (const url of [
      'postgres://u:the-canary@localhost/db',
      'postgres://u@localhost/db?password=the-canary',
      'sqlite://u:the-canary@h/nowhere/x',
      'mongodb://u:the-canary@h/db?password=the-canary',
    ])
      for (const json of [['--json'], []]) {
        const args = ['restore', '--source', 'tree', '--into', url, '--key', world.key, ...json];
        const { status, stdout, stderr } = await world.run(...args);
        assert.equal(status, 2, stdout + stderr);
        assert.doesNotMatch(stdout + stderr, /the-canary/, url);
      }
  });

  const unclear = needsMounts;
  await t.test('into a folder that cannot be written, or is full', unclear, async (t) => {
    for (const name of ['readonly', 'small']) mkdirSync(join(world.dir, name));
    const sealift = await underMounts(
      t,
      `cd ${world.dir}; mount -t tmpfs -o ro none readonly; mount -t tmpfs -o size=256k none small`,
    );
    const into = (to: string) =>
      sealift(['-c', world.configFile, ...restore('latest', to, world.key), '--json'], { cwd: world.dir });
    const failed = { exit: 1, code: 'restore-failed' };
    assertRefusal(await into('small'), { ...failed, says: /no space left for .*\/small\// });
    assertRefusal(await into('readonly/new'), { ...failed, says: /readonly.*read-only|not allowed/ });
  });

  await t.test('of a snapshot that there is not, or that could be two', async () => {
    const none = { exit: 10, code: 'snapshot-not-found', says: /no snapshot 1999/, hint: /sealift list/ };
    await refuses(world, restore('1999', 'b', world.key), none);
    const two = {
      exit: 2,
      code: 'snapshot-ambiguous',
      says: /^20 could be any of 2/,
      hint: new RegExp(`${id}.*${second}`),
    };
    await refuses(world, restore('20', 'b', world.key), two);
    await world.json(...restore(second.slice(0, -1), 'by-prefix', world.key));
  });

  await nothingLost();
});

/** A stream of so many lines. */
const linesOf = (name: string, word: string, lines: number) => ({
  name,
  kind: 'command',
  argv: ['printf', `${word}\n`.repeat(lines)],
  file: name,
});

test('a stream that is whole, and is not the one that was saved, is refused by what the details say of it', async (t) => {
  for (const [lines, says] of [
    [1000, /^of\/of of .* did not come back as it was: its SHA-256 is another one$/],
    [1001, /^of\/of of .* did not come back as it was: it has 4000 bytes, not 4004$/],
  ] as const) {
    const sources = [linesOf('of', 'aaa', lines), linesOf('as', 'bbb', 1000)];
    const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } } });
    const id = await backup(world);
    await resign(world, id, (text) => {
      const index = JSON.parse(text) as { streams: { name: string; bytes: number; segments: unknown }[] };
      const [of, as] = ['of/of', 'as/as'].map((name) => index.streams.find((one) => one.name === name)!);
      of!.segments = as!.segments;
      return JSON.stringify(index);
    });
    const args = ['restore', id, '--source', 'of', '--to', join(world.dir, 'out'), '--key', world.key];
    await refuses(world, args, { exit: 21, code: 'verify-failed', says });
    assert.deepEqual(readdirSync(join(world.dir, 'out/of')), [], 'nothing of it has its name');
  }
});

test('of a host whose key is not pinned nothing is restored, until it is trusted by its fingerprint', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const { fingerprint } = await world.json<{ fingerprint: string }>('init');
  const desk = operator(world);
  const restore = ['restore', '--to', join(world.dir, 'out'), '--key', world.key];
  const untrusted = { exit: 12, code: 'key-untrusted', says: /no key of host h1 is trusted here/ };
  const hint = new RegExp(`sealift keys trust ${fingerprint}`);
  for (const args of [restore, ['verify'], ['list']]) await refuses(desk, args, { ...untrusted, hint });

  const other = fingerprint.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
  const missing = { exit: 12, code: 'key-missing', says: new RegExp(`no host key ${other}`) };
  await refuses(desk, ['keys', 'trust', other], missing);
  assert.equal((await desk.run('keys', 'trust', fingerprint)).status, 0);
  const restored = await desk.run(...restore);
  assert.equal(restored.status, 0, restored.stderr);
});

test('a host that got a new key is read with the kit of the old one, once the new key is trusted there', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const kit = join(world.dir, 'kit');
  cpSync(join(world.dir, 'restore-kit'), kit, { recursive: true });
  rmSync(join(world.dir, 'state'), { recursive: true });
  const { fingerprint } = await world.json<{ fingerprint: string }>('init');
  await backup(world);
  const restore = ['restore', '--to', join(world.dir, 'out'), '--key', world.key];
  const run = (...args: string[]) => world.run('-c', join(kit, 'sealift.yaml'), ...args);
  assert.equal((await run(...restore)).status, 12);
  assert.equal((await run('keys', 'trust', fingerprint)).status, 0);
  const restored = await run(...restore);
  assert.equal(restored.status, 0, restored.stderr);
});

test('where a store holds several hosts, the one that is meant must be named', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const store = { kind: 'directory', path: join(world.dir, 'store') };
  const second = await makeWorld(t, { jobs: treeJob, host: 'h2', store });
  mkdirSync(join(second.dir, 'tree'));
  put(join(second.dir, 'tree/file'), 'of h2');
  const secondId = await backup(second);
  const desk = operator(world);
  for (const [{ dir }, host] of [
    [world, 'h1'],
    [second, 'h2'],
  ] as const)
    cpSync(join(dir, `keys/hosts/${host}.asc`), join(world.dir, `desk/keys/hosts/${host}.asc`));

  const refusal = { exit: 2, code: 'host-ambiguous', says: /several hosts: h1, h2/, hint: /--host/ };
  const to = ['--to', join(world.dir, 'out'), '--key', second.key];
  for (const args of [['list'], ['verify'], ['restore', ...to], ['show', id]])
    await refuses(desk, args, refusal);
  const none = { exit: 10, code: 'store-not-found', says: /no backups of host h3/, hint: /h1, h2/ };
  await refuses(desk, ['list', '--host', 'h3'], none);
  const restored = await desk.run('restore', '--host', 'h2', ...to);
  assert.equal(restored.status, 0, restored.stderr);
  assert.equal(readFileSync(join(world.dir, 'out/tree', second.dir.slice(1), 'tree/file'), 'utf8'), 'of h2');
  const { stdout } = await desk.run('list', '--all-hosts', '--json');
  const listed = (JSON.parse(stdout) as Listing).snapshots.map(({ host, snapshot }) => `${host} ${snapshot}`);
  assert.deepEqual(listed.toSorted(), [`h1 ${id}`, `h2 ${secondId}`]);
});

test('what a snapshot lacks of what is wanted is missed by its id as by latest', async (t) => {
  const good = { name: 'good', kind: 'command', argv: ['echo', 'x'], file: 'out' };
  const bad = { name: 'bad', kind: 'command', argv: ['false'], file: 'out' };
  const tree = { name: 'tree', kind: 'files', paths: ['tree', 'gone'] };
  const jobs = { j: { schedule: every2h, sources: [good, bad, tree] } };
  const world = await makeWorld(t, { jobs });
  mkdirSync(join(world.dir, 'tree'));
  put(join(world.dir, 'tree/file'), 'content');
  assert.equal((await world.run('backup')).status, 3);
  const { snapshots } = await world.json<Listing>('list');
  const id = snapshots[0]!.snapshot;
  for (const snapshot of ['latest', id])
    for (const [wanted, status] of [
      [[], 3],
      [['--source', 'tree'], 3],
      [['--source', 'tree/files.tar'], 3],
      [['--include', 'file'], 3],
      [['--source', 'good'], 0],
    ] as const) {
      const to = ['--to', join(world.dir, [snapshot, ...wanted].join('-').replaceAll('/', '-'))];
      const restored = await world.run('restore', snapshot, ...wanted, ...to, '--key', world.key);
      assert.equal(restored.status, status, `${snapshot} ${wanted.join(' ')}: ${restored.stderr}`);
    }
});

/** Somebody else's machine: the address of the store, and no state of a host. */
function operator(world: World): Pick<World, 'run'> {
  const dir = join(world.dir, 'desk');
  mkdirSync(join(dir, 'keys/hosts'), { recursive: true });
  const store = { kind: 'directory', path: join(world.dir, 'store') };
  const file = put(join(dir, 'sealift.yaml'), JSON.stringify({ store, stateDir: 'state' }), 0o600);
  return { run: (...args) => runInProcess(['-c', file, ...args], { cwd: dir }) };
}
