import { PutObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test, type TestContext } from 'node:test';
import { createHostKey, loadHostKey } from '../../src/seal/host-key.ts';
import { openSigned, signBytes } from '../../src/seal/sign.ts';
import { restoreGuide } from '../../src/snapshot/restore-guide.ts';
import { needs, theService } from '../services/services.ts';
import { describe as describeTree, isRoot } from '../sources/tree-fixture.ts';
import { errorAnswer, s3Proxy } from '../store/s3-proxy.ts';
import { freshGpg } from '../support/gpg.ts';
import { resign } from '../support/resign.ts';
import { put, temporary } from '../support/temporary.ts';
import { bucketStore, type Listing, type World } from '../support/world.ts';
import { person } from './by-hand.ts';
import { hostWithBackups, passphrase, toStdout } from './host-with-backups.ts';

const objectsOf = (world: World): string[] =>
  readdirSync(join(world.dir, 'store'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.zst.gpg'))
    .map((path) => join(world.dir, 'store', path));

async function indexFile(world: World): Promise<string> {
  const { snapshots } = await world.json<Listing>('list');
  return join(world.dir, 'store/h1/snap', snapshots[0]?.snapshot ?? '', 'index.json.gpg');
}

/** Each of these ends with the store as it was. */
async function stopsAtForgeries(t: TestContext, world: World): Promise<void> {
  const index = await indexFile(world);
  const stops = async (t: TestContext, error: RegExp): Promise<void> => {
    const hand = person(t, world, world.key);
    const { status, stdout, stderr } = await hand.follow();
    assert.notEqual(status, 0, 'it went on');
    assert.match(stdout + stderr, error);
    assert.doesNotMatch(stdout, /^restored\//m, 'the last step is not reached');
  };
  const named = new Set(
    (await indexOf(world, index)).streams.flatMap(({ segments }) => segments.map(([, id]) => id)),
  );
  const [one = '', two = ''] = objectsOf(world).filter((path) =>
    named.has(basename(path).split('.')[0] ?? ''),
  );

  await t.test('it stops at a piece that was tampered with', async (t) => {
    const before = readFileSync(one);
    const bytes = Buffer.from(before);
    bytes[bytes.length - 100]! ^= 1;
    writeFileSync(one, bytes);
    await stops(t, /segment\.zst\.gpg: FAILED/);
    writeFileSync(one, before);
  });

  await t.test('it stops at a piece that was put in the place of another', async (t) => {
    const before = readFileSync(one);
    copyFileSync(two, one);
    await stops(t, /segment\.zst\.gpg: FAILED/);
    writeFileSync(one, before);
  });

  await t.test('it stops at an index that was signed by another key of the same name', async (t) => {
    const before = readFileSync(index);
    const forger = await createHostKey(join(world.dir, 'forger.asc'), 'h1', new Date());
    const own = await loadHostKey(join(world.dir, 'state/host-key.asc'), 'h1');
    const { content } = await openSigned(before, [own.publicKey], 'the index');
    writeFileSync(index, await signBytes(content, forger.privateKey, new Date()));
    await stops(t, /No public key/);
    writeFileSync(index, before);
  });

  await t.test('it stops at the index of another snapshot of the same host', async (t) => {
    const before = readFileSync(index);
    const folders = readdirSync(join(world.dir, 'store/h1/snap'));
    copyFileSync(join(world.dir, 'store/h1/snap', folders[0] ?? '', 'index.json.gpg'), index);
    await stops(t, /^false$/m);
    writeFileSync(index, before);
  });

  await t.test(
    'it stops at a list that leads elsewhere, or steers the terminal, also when the host signed it',
    async (t) => {
      const before = readFileSync(index);
      const snapshot = basename(join(index, '..'));
      for (const name of ['../../elsewhere/x', 'etc/../../x', '/x', 'etc/a\nb', 'etc/x\n', 'etc/\u001B[2J']) {
        await resign(world, snapshot, (text) =>
          text.replace('"name":"etc/files.tar"', `"name":${JSON.stringify(name)}`),
        );
        await stops(t, /^false$/m);
        writeFileSync(index, before);
      }
      await resign(world, snapshot, (text) => text.replace('"job":"all"', '"job":"all\\u001B[2J"'));
      await stops(t, /^false$/m);
      writeFileSync(index, before);
      const odd = join(index, '../..', '99999999T999999Z-\u001B[2J');
      mkdirSync(odd);
      put(join(odd, 'index.json.gpg'), '');
      const { status, stdout } = await person(t, world, world.key).follow();
      rmSync(odd, { recursive: true });
      assert.equal(status, 0);
      assert.ok(!stdout.includes('\u001B'));
    },
  );
}

test('restoring by hand from a directory', async (t) => {
  const world = await hostWithBackups(t);
  await stopsAtForgeries(t, world);

  await t.test(
    'the guide, pasted, gives every stream as sealift does; the tree unpacks, SQLite opens',
    async (t) => {
      const hand = person(t, world, world.key);
      const done = await hand.follow();
      assert.equal(done.status, 0, done.stdout + done.stderr);
      assert.doesNotMatch(done.stdout + done.stderr, /ses(sion )?key.*[0-9A-F]{64}/i, 'no key is shown');
      const { snapshots } = await world.json<Listing>('list');
      const names = snapshots[0]?.streams.map(({ name }) => name) ?? [];
      assert.deepEqual(names.toSorted(), ['_/details.jsonl', 'chat/chat.sqlite', 'etc/files.tar']);
      for (const name of names.filter((name) => !name.startsWith('_/'))) {
        assert.ok(hand.restored(name).equals(toStdout(world, name)), name);
        assert.match(done.stdout, new RegExp(`^restored/${name}: OK$`, 'm'));
      }
      assert.match(hand.restored('_/details.jsonl').toString(), /^\{"type":"entry"/m);

      const unpacked = temporary(t);
      execFileSync('tar', [
        '-xpf',
        join(hand.folder, 'restored/etc/files.tar'),
        '-C',
        unpacked,
        '--numeric-owner',
      ]);
      const tree = describeTree(join(world.dir, 'tree'));
      assert.deepEqual(describeTree(join(unpacked, world.dir.slice(1), 'tree')), tree);
      assert.equal(tree.size, 7);

      using restored = new DatabaseSync(join(hand.folder, 'restored/chat/chat.sqlite'), { readOnly: true });
      using original = new DatabaseSync(join(world.dir, 'chat.db'), { readOnly: true });
      assert.deepEqual(rows(restored), rows(original));

      const out = join(temporary(t), 'out');
      const sameOwner = isRoot ? ['--same-owner'] : [];
      const restore = await world.run('restore', 'latest', '--to', out, '--key', world.key, ...sameOwner);
      assert.equal(restore.status, 0, restore.stderr);
      assert.ok(readFileSync(join(out, 'chat/chat.sqlite')).equals(hand.restored('chat/chat.sqlite')));
      assert.deepEqual(describeTree(join(out, 'etc', world.dir.slice(1), 'tree')), tree);
    },
  );

  await t.test('with a protected key, gpg asks for its passphrase and the guide does the rest', async (t) => {
    const key = join(world.dir, 'eve/eve.key.asc');
    const hand = person(t, world, key, { passphrase });
    const done = await hand.follow();
    assert.equal(done.status, 0, done.stderr);
    const folder = join(hand.folder, 'restored');
    const readable = execFileSync('find', [folder, '-perm', '/077'], { encoding: 'utf8' });
    assert.equal(readable, '', 'what comes back can be read by its owner only');

    const wrong = person(t, world, key, { passphrase: 'wrong' });
    const refused = await wrong.follow();
    assert.notEqual(refused.status, 0);
    assert.throws(() => wrong.restored('etc/files.tar'), { code: 'ENOENT' });
  });

  await t.test(
    'where a piece of one stream is missing, the others come back as the guide says',
    async (t) => {
      const { streams, folders } = await indexOf(world, await indexFile(world));
      const { segments } = streams.find(({ name }) => name === 'chat/chat.sqlite')!;
      const [place, id] = segments[0]!;
      const missing = join(world.dir, 'store/h1/snap', folders[place]!.snapshot, 's', `${id}.zst.gpg`);
      const before = readFileSync(missing);
      rmSync(missing);
      const hand = person(t, world, world.key);
      assert.notEqual((await hand.follow()).status, 0);
      assert.throws(() => hand.restored('etc/files.tar'), { code: 'ENOENT' }, 'it comes after the other');
      const others = ['etc/files.tar', '_/details.jsonl'];
      const again = await hand.follow({}, (blocks) => [
        ...blocks.slice(0, 4),
        ...others.map((name) => `restore_stream ${name} restored/${name}\n`),
      ]);
      put(missing, before);
      assert.equal(again.status, 0, again.stdout + again.stderr);
      for (const name of others)
        assert.ok(name.startsWith('_/') || hand.restored(name).equals(toStdout(world, name)), name);
      assert.match(hand.restored('_/details.jsonl').toString(), /^\{"type":"entry"/m);
    },
  );

  await t.test('without a private key of a recipient, it stops with nothing restored', async (t) => {
    const other = join(world.dir, 'other');
    await world.run('keys', 'generate', '--user-id', 'X <x@example.org>', '--out', other, '--no-passphrase');
    const hand = person(t, world, join(other, 'x.key.asc'));
    const { status, stderr } = await hand.follow();
    assert.notEqual(status, 0);
    assert.match(stderr, /No secret key/);
    assert.throws(() => hand.restored('etc/files.tar'), { code: 'ENOENT' });
  });

  await t.test('each piece opens with sq too', () => {
    const restored = join(world.dir, 'by-gpg');
    // The option is --recipient-file from version 1 on.
    const help = execFileSync('sq', ['decrypt', '--help'], { encoding: 'utf8' });
    const option = help.includes('--recipient-file') ? '--recipient-file' : '--recipient-key';
    const [piece = ''] = objectsOf(world);
    const frame = execFileSync('sq', ['decrypt', option, world.key, piece], {
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 2 ** 24,
    });
    const plain = execFileSync('zstd', ['-q', '-d'], { input: frame, maxBuffer: 2 ** 24 });
    const gpg = freshGpg(t);
    gpg.run(['--import', world.key]);
    gpg.run(['--output', restored, '--decrypt', piece]);
    const same = execFileSync('zstd', ['-q', '-d', '-c', '--', restored], { maxBuffer: 2 ** 24 });
    assert.ok(plain.length > 0 && plain.equals(same));
  });

  await t.test('one session key, shown once, opens every piece of its folder', (t) => {
    const folder = join(
      world.dir,
      'store/h1/snap',
      readdirSync(join(world.dir, 'store/h1/snap'))[0] ?? '',
      's',
    );
    const pieces = readdirSync(folder).map((name) => join(folder, name));
    const withKey = freshGpg(t);
    withKey.run(['--import', world.key]);
    const status = ['--show-session-key', '--status-fd', '1', '--output', join(world.dir, 'piece')];
    const shown = withKey.run([...status, '--decrypt', pieces[0] ?? '']).toString();
    const sessionKey = /SESSION_KEY (9:[0-9A-F]+)/.exec(shown)?.[1] ?? '';
    const without = freshGpg(t);
    assert.ok(pieces.length > 3);
    for (const [n, piece] of pieces.entries()) {
      const out = join(world.dir, `piece${n}`);
      without.run(['--override-session-key', sessionKey, '--output', out, '--decrypt', piece]);
      assert.ok(statSync(out).size > 1000);
    }
  });

  await t.test('the copy of the guide in the store can be pasted as well', async (t) => {
    const hand = person(t, world, world.key, { guide: join(world.dir, 'store/h1/RESTORE.md') });
    const done = await hand.follow();
    assert.equal(done.status, 0, done.stderr);
  });

  await t.test('the copy of the guide in the store is the same, and signed by the host', (t) => {
    const gpg = freshGpg(t);
    gpg.run(['--import', join(world.dir, 'restore-kit/hosts/h1.asc')]);
    const copy = join(world.dir, 'store/h1/RESTORE.md');
    const out = join(world.dir, 'copy.md');
    gpg.run(['--verify', copy]);
    gpg.run(['--output', out, '--decrypt', copy]);
    const kit = readFileSync(join(world.dir, 'restore-kit/RESTORE.md'), 'utf8');
    // gpg ends the lines of a signed text as mail does.
    assert.equal(readFileSync(out, 'utf8').replaceAll('\r', '').trimEnd(), kit.trimEnd());
    put(copy, readFileSync(copy, 'utf8').replace('HOST=h1', 'HOST=h2'));
    assert.throws(() => gpg.run(['--verify', copy]), /BAD signature/);
  });
});

suite('restoring by hand from a bucket', needs('s3'), () => {
  test('the guide, pasted, gives every stream as sealift does, behind more than a page of keys', async (t) => {
    // A folder that programs like to tidy away.
    const { store, bucket, client } = await bucketStore({ prefix: 'jabber/./' });
    // What a run that was killed long ago left behind: more than one page of it lies before the snapshots.
    const folder = `${store.prefix}h1/snap/20200101T000000Z-all-aaaaaa/s/`;
    const ids = Array.from({ length: 1010 }, (_, n) => n.toString(16).padStart(32, '0'));
    const send = async (): Promise<void> => {
      for (let id = ids.pop(); id !== undefined; id = ids.pop())
        await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${folder}${id}.zst.gpg`, Body: 'x' }));
    };
    await Promise.all(Array.from({ length: 16 }, send));
    const world = await hostWithBackups(t, store);
    const hand = person(t, world, world.key);
    const { accessKeyId: S3_KEY, secretAccessKey: S3_SECRET } = theService('s3');

    const done = await hand.follow({ S3_KEY, S3_SECRET });
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.match(done.stdout, /^restored\/chat\/chat.sqlite: OK$/m);
    assert.ok(hand.restored('etc/files.tar').equals(toStdout(world, 'etc')));

    // Where the bucket is a part of the name of the server, and nothing else is taken.
    const byName = await s3Proxy(t, async (exchange) => {
      if (exchange.headers.host?.startsWith(`${bucket}.`)) exchange.answer(await exchange.ask());
      else exchange.answer(errorAnswer(403, 'SecondLevelDomainForbidden'));
    });
    const found = { endpoint: byName.replace('127.0.0.1', 's3.localhost'), forcePathStyle: false };
    const keys = { accessKeyId: undefined, secretAccessKey: undefined };
    const about = {
      host: 'h1',
      store: { ...store, ...found, ...keys, kind: 's3' as const },
      fingerprint: '',
    };
    const guide = put(join(world.dir, 'by-name.md'), restoreGuide(about));
    const named = await person(t, world, world.key, { guide }).follow({ S3_KEY, S3_SECRET });
    assert.equal(named.status, 0, named.stdout + named.stderr);
    assert.match(named.stdout, /^restored\/chat\/chat.sqlite: OK$/m);

    const stranger = person(t, world, world.key);
    const refused = await stranger.follow({ S3_KEY, S3_SECRET: 'wrong' });
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /403/);
    const unset = await stranger.follow();
    assert.match(unset.stderr, /S3_KEY/);
  });
});

test('the guide says how each kind of stream is put back to use', () => {
  const store = { kind: 'directory' as const, path: '/srv/store' };
  const guide = restoreGuide({ host: 'h1', store, fingerprint: '' });
  const [, ...used] = guide.split('\n').filter((line) => /^\| (`|stream)/.test(line));
  const named = used.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(.*?)`/g)].map(([, name]) => name));
  assert.deepEqual(named, [
    'globals.sql',
    '*.dump',
    '*.sql',
    '*.sqlite',
    '*.rdb',
    '*.ldif',
    'prosody.tar',
    'ejabberd.tar',
    'mnesia.backup',
    'sealift.tar',
    'files.tar',
  ]);
});

const rows = (database: DatabaseSync): unknown => database.prepare('SELECT * FROM message').all();

async function indexOf(
  world: World,
  file: string,
): Promise<{
  folders: { snapshot: string }[];
  streams: { name: string; segments: [number, string, number, string][] }[];
}> {
  const own = await loadHostKey(join(world.dir, 'state/host-key.asc'), 'h1');
  const { content } = await openSigned(readFileSync(file), [own.publicKey], 'the index');
  return JSON.parse(Buffer.from(content).toString()) as Awaited<ReturnType<typeof indexOf>>;
}
