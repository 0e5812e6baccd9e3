import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import type { AuditDocument } from '../../src/commands/audit-document.ts';
import { lookAtHost } from '../../src/commands/audit-survey.ts';
import type { ReaderSession } from '../../src/commands/reader-session.ts';
import { createHostKey, loadHostKey } from '../../src/seal/host-key.ts';
import { openSigned, signBytes } from '../../src/seal/sign.ts';
import { loadTrust } from '../../src/seal/trust.ts';
import { openIndexCache } from '../../src/snapshot/index-cache.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import { needs } from '../services/services.ts';
import { madeDaysAgo } from '../support/aged.ts';
import type { CliResult } from '../support/cli.ts';
import { runInProcess } from '../support/in-process.ts';
import { freshGpg } from '../support/gpg.ts';
import { fingerprintOf, makeKey } from '../support/keys.ts';
import { resign } from '../support/resign.ts';
import { put, temporary } from '../support/temporary.ts';
import { bucketStore, makeWorld, type World } from '../support/world.ts';
import { assertRefusal, backup, hostWithSnapshot, treeJob } from './bad-input.ts';
import { shiftedClock } from './shifted-clock.ts';

/** Somebody with a configuration and pinned keys of their own, and no private key. */
interface Auditor {
  readonly dir: string;
  run(...args: string[]): Promise<CliResult>;
  /** The exit status, and the findings as `severity rule subject`. */
  audit(...args: string[]): Promise<{ status: number | null; found: string[]; document: AuditDocument }>;
}

function auditorOf(t: TestContext, world: World, store?: object): Auditor {
  const dir = temporary(t);
  cpSync(join(world.dir, 'keys'), join(dir, 'keys'), { recursive: true });
  // Whatever state this machine itself has is none of the auditor's.
  const stateDir = join(dir, 'none');
  const config = { stateDir, store: store ?? { kind: 'directory', path: join(world.dir, 'store') } };
  put(join(dir, 'auditor.yaml'), JSON.stringify(config), 0o600);
  mkdirSync(join(dir, 'state'));
  const env = { SEALIFT_CONFIG: join(dir, 'auditor.yaml'), XDG_STATE_HOME: join(dir, 'state') };
  const run = (...args: string[]) => runInProcess(args, { cwd: dir, env });
  return {
    dir,
    run,
    async audit(...args) {
      const { status, stdout, stderr } = await run('audit', '--json', ...args);
      const document = JSON.parse(stdout) as AuditDocument;
      assert.ok(document.findings, stdout + stderr);
      const found = document.findings.map(({ severity, rule, subject }) => `${severity} ${rule} ${subject}`);
      return { status, found, document };
    },
  };
}

/** A host with two snapshots in a directory, an auditor who has seen them, and a way back after each damage. */
async function audited(t: TestContext) {
  const { world, id } = await hostWithSnapshot(t);
  put(join(world.dir, 'tree/more'), 'more\n');
  const newest = await backup(world);
  const auditor = auditorOf(t, world);
  const store = join(world.dir, 'store');
  const snap = join(store, 'h1/snap');
  const spared = join(world.dir, 'spared');
  cpSync(store, spared, { recursive: true, preserveTimestamps: true });
  return {
    world,
    auditor,
    older: id,
    newest,
    store,
    snap,
    mend(): void {
      rmSync(store, { recursive: true });
      cpSync(spared, store, { recursive: true, preserveTimestamps: true });
    },
    /** The keys of the objects of a snapshot, relative to the store. */
    segmentsOf: (snapshot: string) =>
      readdirSync(join(snap, snapshot, 's')).map((name) => `h1/snap/${snapshot}/s/${name}`),
  };
}

const hourAgo = (hours: number): number => Date.now() / 1000 - hours * 3600;
const age = (path: string, hours: number): void => utimesSync(path, hourAgo(hours), hourAgo(hours));
const idHoursAgo = (hours: number): string =>
  `${new Date(hourAgo(hours) * 1000).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z-tree-aaaaaa`;

const index = (snapshot: string) => `h1/snap/${snapshot}/index.json.gpg`;

test('what an auditor finds in a directory:', async (t) => {
  const { world, auditor, older, newest, store, snap, mend, segmentsOf } = await audited(t);

  await t.test('nothing in a store as it should be, and the numbers of it', async () => {
    const { status, found, document } = await auditor.audit();
    assert.deepEqual([status, found, document.ok], [0, [], true]);
    const files = readdirSync(snap, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.gpg'),
    );
    assert.equal(document.objects, files.length);
    assert.equal(
      document.bytes,
      files.reduce((sum, name) => sum + statSync(join(snap, name)).size, 0),
    );
    const [host] = document.hosts;
    assert.deepEqual([host?.host, host?.snapshots, host?.remembered], ['h1', 2, false]);
    assert.deepEqual(
      host?.jobs.map(({ job, newest }) => [job, newest]),
      [['tree', newest]],
    );
    assert.equal(
      document.sampled,
      segmentsOf(older).length + segmentsOf(newest).length,
      'so few are all sampled',
    );
    assert.equal(document.oldestSnapshot?.replaceAll(/[-:]/g, ''), older.slice(0, 16));
    const [memory, ...more] = readdirSync(join(auditor.dir, 'state/sealift'));
    assert.deepEqual(more, []);
    assert.equal(statSync(join(auditor.dir, 'state/sealift', memory!)).mode & 0o777, 0o600);
    assert.match((await auditor.run('audit')).stdout, /2 live snapshots.*\n[^]*The promises are kept\./);
  });

  const broken = (name: string, damage: () => Promise<void> | void, expected: (() => string[]) | string[]) =>
    t.test(name, async (t) => {
      t.after(mend);
      await damage();
      const { status, found, document } = await auditor.audit();
      const wanted = typeof expected === 'function' ? expected() : expected;
      assert.deepEqual(found.toSorted(), wanted.toSorted());
      const isBroken = wanted.some((finding) => finding.startsWith('broken'));
      assert.deepEqual([status, document.ok], [isBroken ? 20 : 0, !isBroken]);
    });
  const rename = (from: string, to: string) => renameSync(join(snap, from), join(snap, to));

  const orphan = idHoursAgo(100);
  const strand = (hours: number) => () => {
    cpSync(join(snap, older), join(snap, orphan), { recursive: true });
    rmSync(join(snap, orphan, 'index.json.gpg'));
    for (const name of readdirSync(join(snap, orphan, 's'))) age(join(snap, orphan, 's', name), hours);
  };
  await broken('an unfinished run within its grace is nothing', strand(98.9), []);
  await broken('beyond its grace and two hours it is', strand(99.1), () => [
    `broken expired-object h1/snap/${orphan}/`,
  ]);

  await broken('a missing object', () => rmSync(join(store, segmentsOf(newest)[0]!)), [
    `broken presence ${segmentsOf(newest)[0]}`,
  ]);
  await broken('a truncated object', () => truncateSync(join(store, segmentsOf(newest)[0]!), 1000), [
    // By its size, by its content, and by its form.
    `broken presence ${segmentsOf(newest)[0]}`,
    `broken presence ${segmentsOf(newest)[0]}`,
    `broken sealed ${segmentsOf(newest)[0]}`,
  ]);
  await broken(
    'an object of the same size with other content',
    () => {
      const file = join(store, segmentsOf(newest)[0]!);
      const bytes = readFileSync(file);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(file, bytes);
    },
    [`broken presence ${segmentsOf(newest)[0]}`],
  );
  await broken(
    'an object that the host signed, and that is no OpenPGP message',
    async () => {
      const key = segmentsOf(newest)[0]!;
      const file = join(store, key);
      const plain = Buffer.alloc(statSync(file).size, 'row ');
      writeFileSync(file, plain);
      const name = basename(key, '.zst.gpg');
      await resign(world, newest, (text) =>
        text.replaceAll(
          new RegExp(`("${name}",\\d+,)"[0-9a-f]{64}"`, 'g'),
          `$1"${createHash('sha256').update(plain).digest('hex')}"`,
        ),
      );
      // The auditor remembers the snapshot as it was.
      rmSync(join(auditor.dir, 'state/sealift'), { recursive: true });
    },
    [`broken sealed ${segmentsOf(newest)[0]}`],
  );
  rmSync(join(auditor.dir, 'state/sealift'), { recursive: true });

  await broken(
    'an index that was changed',
    () => {
      const file = join(store, index(older));
      const bytes = readFileSync(file);
      bytes[300]! ^= 1;
      writeFileSync(file, bytes);
    },
    [`broken signature ${index(older)}`],
  );
  await broken(
    'an index that a stranger signed',
    async () => {
      const stranger = await createHostKey(join(temporary(t), 'key.asc'), 'h1', new Date());
      const { publicKey } = await loadHostKey(join(world.dir, 'state/host-key.asc'), 'h1');
      const { content } = await openSigned(readFileSync(join(store, index(older))), [publicKey], older);
      writeFileSync(join(store, index(older)), await signBytes(content, stranger.privateKey, new Date()));
    },
    [`broken signature ${index(older)}`],
  );
  await broken('a predecessor that is gone', () => rmSync(join(store, index(older))), [
    `broken chain ${index(newest)}`,
  ]);

  const future = idHoursAgo(-48);
  await broken('a snapshot that is dated in the future', () => rename(newest, future), [
    `broken future h1/snap/${future}/`,
    // It was made for another folder, and what this auditor has seen is gone.
    'broken rollback h1/tree',
    `broken signature ${index(future)}`,
  ]);

  await broken(
    'foreign objects, in and outside of the folder of a host: warnings',
    () => {
      mkdirSync(join(store, 'photos'));
      for (const name of ['notes.txt', 'photos/cat.jpg', 'h1/snap/cat.jpg'])
        writeFileSync(join(store, name), 'x');
    },
    ['notes.txt', 'photos/cat.jpg', 'h1/snap/cat.jpg'].map((key) => `warning foreign-object ${key}`),
  );

  await t.test('a store that was set back behind what this auditor has seen', async () => {
    assert.equal((await auditor.audit()).status, 0);
    rmSync(join(snap, newest), { recursive: true });
    for (const _ of ['first', 'again']) {
      const { status, found, document } = await auditor.audit();
      assert.deepEqual([status, found], [20, ['broken rollback h1/tree']]);
      assert.match(
        document.findings[0]?.message ?? '',
        new RegExp(`has seen snapshot 2, ${newest}.*ends with 1, ${older}`),
      );
    }
    rmSync(join(store, 'h1'), { recursive: true });
    assert.ok((await auditor.audit()).found.includes('broken rollback h1/tree'), 'also one that was emptied');
    mend();
  });

  await t.test('recipients that are others than those of this auditor', async () => {
    const folder = join(auditor.dir, 'keys/recipients');
    const [file] = readdirSync(folder);
    const { publicKey } = await makeKey();
    put(join(folder, 'ada.asc'), publicKey.armor());
    const more = await auditor.audit();
    assert.deepEqual([more.status, more.found], [20, ['broken recipients h1/tree']]);
    assert.match(more.document.findings[0]?.message ?? '', new RegExp(fingerprintOf(publicKey)));
    renameSync(join(folder, file!), join(auditor.dir, 'op.asc'));
    assert.deepEqual((await auditor.audit()).found, ['broken recipients h1', 'broken recipients h1/tree']);
    rmSync(join(folder, 'ada.asc'));
    const none = await auditor.audit();
    assert.deepEqual([none.status, none.found], [0, [`warning recipients ${store}`]]);
    renameSync(join(auditor.dir, 'op.asc'), join(folder, file!));
  });

  await t.test('a host whose key is not pinned', async () => {
    const pin = join(auditor.dir, 'keys/hosts/h1.asc');
    renameSync(pin, join(auditor.dir, 'h1.asc'));
    const { status, found, document } = await auditor.audit();
    assert.deepEqual([status, found], [20, ['broken signature h1']]);
    const { fingerprint } = await world.json<{ fingerprint: string }>('init');
    assert.match(document.findings[0]?.message ?? '', new RegExp(`sealift keys trust ${fingerprint}`));
    renameSync(join(auditor.dir, 'h1.asc'), pin);
  });

  assert.deepEqual((await auditor.audit()).found, [], 'all was mended in between');
});

test('a snapshot beyond its end is found with its objects, until it is pruned', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const old = await madeDaysAgo(world, id, 8);
  const next = await backup(world);
  const auditor = auditorOf(t, world);
  // For a day there was nothing to restore.
  const gap = `broken gap h1/snap/${next}/`;
  const { status, found, document } = await auditor.audit();
  assert.equal(status, 20);
  assert.deepEqual(found, [
    `broken expired-snapshot h1/snap/${old}/index.json.gpg`,
    `broken expired-object h1/snap/${old}/`,
    gap,
  ]);
  assert.equal(document.oldestSnapshot?.replaceAll(/[-:]/g, ''), old.slice(0, 16));
  await world.json('prune');
  const after = await auditor.audit();
  assert.deepEqual([after.status, after.found], [20, [gap]]);
});

test('a store that was emptied, and to which the host went on to back up, is behind what the auditor has seen', async (t) => {
  const { world, auditor, snap } = await audited(t);
  assert.equal((await auditor.audit()).status, 0);
  rmSync(snap, { recursive: true });
  const next = await backup(world);
  const { status, found, document } = await auditor.audit();
  assert.equal(status, 20);
  assert.deepEqual(found.toSorted(), ['broken rollback h1/tree', `warning chain ${index(next)}`]);
  assert.match(document.findings[0]?.message ?? '', /has seen snapshot 2, .*goes on to 3 without it/);
  const stranger = await auditorOf(t, world).audit();
  assert.deepEqual([stranger.status, stranger.found], [0, [`warning chain ${index(next)}`]]);
});

test('times of the store that cannot be are a finding, and the snapshots are judged by their own', async (t) => {
  const { auditor, snap } = await audited(t);
  for (const file of readdirSync(snap, { recursive: true, encoding: 'utf8' }))
    if (file.endsWith('.gpg')) utimesSync(join(snap, file), 86_400, 86_400);
  const { status, found } = await auditor.audit();
  assert.deepEqual([status, found], [20, ['broken clock h1']]);
});

test('on the host itself a configured job without a snapshot breaks the promise', async (t) => {
  const { world } = await hostWithSnapshot(t);
  assert.equal((await world.run('audit')).status, 0);
  world.setJobs({ ...treeJob, never: treeJob.tree });
  const { status, stdout } = await world.run('audit');
  assert.equal(status, 20);
  assert.match(stdout, /h1\/never/);
});

test('a host whose key is pinned and that has nothing in the store is not passed over for the others', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const store = { kind: 'directory', path: join(world.dir, 'store') };
  const other = await makeWorld(t, { host: 'h2', jobs: treeJob, store });
  mkdirSync(join(other.dir, 'tree'));
  put(join(other.dir, 'tree/file'), 'data\n');
  await backup(other);
  cpSync(join(other.dir, 'keys/hosts/h2.asc'), join(world.dir, 'keys/hosts/h2.asc'));
  const auditor = auditorOf(t, world);
  const recipients = join(other.dir, 'keys/recipients');
  for (const name of readdirSync(recipients))
    cpSync(join(recipients, name), join(auditor.dir, 'keys/recipients', `other-${name}`));
  rmSync(join(world.dir, 'store/h1'), { recursive: true });

  const elsewhere = await auditor.run('audit');
  assert.match(elsewhere.stdout, /h1\n {2}Nothing of this host is in the store/);
  assert.match(elsewhere.stdout, /warning {2}no-snapshots {2}h1\n/);
  const onTheHost = await world.run('audit');
  assert.equal(onTheHost.status, 20, onTheHost.stdout);
  assert.match(onTheHost.stdout, /broken {3}no-snapshots {2}h1\/tree\n/);
  const alone = await auditor.run('audit', '--host', 'h1');
  assert.equal(alone.status, 10, 'who asks for this host alone is not told that all is well');
});

test('a prune that is at work while the auditor looks breaks no promise', async (t) => {
  const { world, id } = await hostWithSnapshot(t);
  const old = await madeDaysAgo(world, id, 8);
  await backup(world);
  const folder = join(world.dir, 'store/h1/snap', old);
  rmSync(join(folder, 'index.json.gpg'));
  await using store = await openDirectoryStore(join(world.dir, 'store'));
  let looks = 0;
  const session = {
    store: {
      ...store,
      // The prune deletes one object between two looks, until none is left.
      listVersions(prefix: string) {
        const [object] = looks++ === 0 ? [] : readdirSync(join(folder, 's'));
        if (object !== undefined) rmSync(join(folder, 's', object));
        return store.listVersions(prefix);
      },
    },
    config: { host: undefined, jobs: [], maxAgeSeconds: 604_800, reuseWindowSeconds: 93_600 },
    trust: await loadTrust([join(world.dir, 'keys/hosts')]),
    cache: openIndexCache(join(world.dir, 'cache'), store.address),
  } as unknown as ReaderSession;
  const objects = readdirSync(join(folder, 's')).length;
  const options = { time: () => new Date(), memory: undefined, allowed: undefined, signal: t.signal };
  const { findings } = await lookAtHost(session, 'h1', options);
  assert.deepEqual(
    findings.map(({ rule }) => rule),
    ['gap'],
    'but that of the host, which made none for eight days',
  );
  assert.equal(looks, objects + 1);
});

const usage = (says: RegExp) => ({ exit: 2, code: 'usage', says });

suite('a report', () => {
  test('is a page and JSON, signed by a key of gpg, and verified by gpg and by sealift', async (t) => {
    const { auditor, store } = await audited(t);
    writeFileSync(join(store, '<script>alert(1)<'), 'x');
    const gpg = freshGpg(t);
    const generate = ['--passphrase', 'pass word', '--pinentry-mode', 'loopback', '--quick-generate-key'];
    gpg.run([...generate, 'Vera <vera@example.org>', 'ed25519', 'sign', 'never']);
    const secret = [
      '--passphrase',
      'pass word',
      '--pinentry-mode',
      'loopback',
      '--armor',
      '--export-secret-keys',
    ];
    put(join(auditor.dir, 'vera.key.asc'), gpg.run(secret), 0o600);
    put(join(auditor.dir, 'vera.asc'), gpg.run(['--armor', '--export']));
    put(join(auditor.dir, 'pass'), 'pass word\n', 0o600);

    const sign = ['--sign-with', 'vera.key.asc', '--passphrase-file', 'pass'];
    const { status, document } = await auditor.audit('--report', 'audit.html', ...sign);
    assert.equal(status, 0);
    const path = (name: string) => join(auditor.dir, name);
    assert.deepEqual(JSON.parse(readFileSync(path('audit.json'), 'utf8')), document);
    for (const name of ['audit.html', 'audit.json']) gpg.run(['--verify', path(`${name}.asc`), path(name)]);
    const page = readFileSync(path('audit.html'), 'utf8');
    assert.match(page, /the promises are kept/);
    assert.match(page, /&#60;script&#62;alert\(1\)&#60;/);
    assert.doesNotMatch(page, /<script|<link|src=|url\(|https?:/i);
    assert.ok(
      page.includes(
        createHash('sha256')
          .update(readFileSync(path('audit.json')))
          .digest('hex'),
      ),
    );

    const verify = (...more: string[]) => auditor.run('audit', '--verify', 'audit.html', '--json', ...more);
    const signer = ['--signer', 'vera.asc'];
    const verified = await verify(...signer);
    assert.equal(verified.status, 0, verified.stdout);
    const said = JSON.parse(verified.stdout) as { ok: boolean; userId: string; report: { ok: boolean } };
    assert.deepEqual([said.ok, said.userId, said.report.ok], [true, 'Vera <vera@example.org>', true]);
    const human = await auditor.run('audit', '--verify', 'audit.json', ...signer);
    assert.match(human.stdout, /genuine[^]*signed by Vera[^]*the promises were kept/);

    const { publicKey } = await makeKey({}, 'Mallory');
    put(path('mallory.asc'), publicKey.armor());
    const stranger = { exit: 12, code: 'key-untrusted', says: /signed by another key/, hint: /--signer/ };
    assertRefusal(await verify('--signer', 'mallory.asc'), stranger);
    assertRefusal(await verify(), { exit: 2, code: 'usage', says: /needs the public key of the auditor/ });

    for (const name of ['audit.html', 'audit.json']) {
      const before = readFileSync(path(name), 'utf8');
      writeFileSync(path(name), before.replace('kept', 'kelp').replace('"objects": ', '"objects": 1'));
      assertRefusal(await verify(...signer), {
        exit: 21,
        code: 'verify-failed',
        says: new RegExp(`${name} is not what was signed`),
      });
      assert.throws(() => gpg.run(['--verify', path(`${name}.asc`), path(name)]));
      writeFileSync(path(name), before);
    }

    const again = ['audit', '--report', 'audit.json', '--json'];
    const taken = { exit: 2, code: 'target-exists', says: /there is already .*audit\.html/, hint: /--force/ };
    assertRefusal(await auditor.run(...again), taken);
    assert.equal((await auditor.run(...again, ...sign, '--force')).status, 0);
    assert.equal((await verify(...signer)).status, 0);
    rmSync(path('audit.html.asc'));
    assertRefusal(await verify(...signer), {
      exit: 21,
      code: 'verify-failed',
      says: /the report is not signed/,
    });

    // A page of one report beside the JSON of another, both genuine. Of one store in one second both would be the same.
    writeFileSync(join(store, 'notes.txt'), 'x');
    assert.equal((await auditor.audit('--report', 'other.html', ...sign)).status, 0);
    for (const end of ['html', 'html.asc']) cpSync(path(`other.${end}`), path(`audit.${end}`));
    assertRefusal(await verify(...signer), {
      exit: 21,
      code: 'verify-failed',
      says: /belongs to another report/,
    });
  });

  test('that could not be written or signed stops the audit before it begins', async (t) => {
    const { auditor } = await audited(t);
    const run = (...args: string[]) => auditor.run('audit', '--json', ...args);
    assertRefusal(await run('--report', 'audit.pdf'), usage(/must end in \.html or \.json/));
    assertRefusal(await run('--sign-with', 'x'), usage(/--sign-with goes with --report/));
    assertRefusal(await run('--report', 'a.html', '--passphrase-file', 'x'), usage(/goes with --sign-with/));
    assertRefusal(await run('--signer', 'x'), usage(/--signer goes with --verify/));
    const missing = { exit: 12, code: 'key-missing', says: /cannot be read/ };
    assertRefusal(await run('--report', 'a.html', '--sign-with', 'nobody.asc'), missing);
    assert.ok(!readdirSync(auditor.dir).includes('a.html'));
  });
});

test('a store without backups, and a host that is not there, are told', async (t) => {
  const { world, auditor, store } = await audited(t);
  const run = (...args: string[]) => auditor.run('audit', '--json', ...args);
  const none = { exit: 10, code: 'store-not-found', says: /no backups of host web/, hint: /It holds: h1/ };
  assertRefusal(await run('--host', 'web'), none);
  assert.equal((await run('--host', 'h1')).status, 0);
  for (const name of readdirSync(store)) rmSync(join(store, name), { recursive: true });
  const other = auditorOf(t, world);
  const empty = { exit: 10, code: 'store-not-found', says: /holds no backups/ };
  assertRefusal(await other.run('audit', '--json'), empty);
});

suite('in a bucket', needs('s3'), () => {
  test('the auditor sees every version, markers, foreign objects and the rules of the bucket', async (t) => {
    const { store, bucket, client } = await bucketStore({ versioned: true });
    const { world, id } = await hostWithSnapshot(t, { store });
    await world.run('bucket', 'apply');
    const auditor = auditorOf(t, world, store);
    const clean = await auditor.audit();
    assert.equal(clean.status, 0, clean.found.join('\n'));
    assert.deepEqual(
      clean.found.filter((finding) => !finding.includes(' bucket ')),
      [],
    );
    const Prefix = `jabber/h1/snap/${id}/s/`;
    const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix }));
    const [{ Key, VersionId } = {}] = Versions;
    const key = Key!.slice('jabber/'.length);

    await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'jabber/notes.txt', Body: 'x' }));
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    const hidden = await auditor.audit();
    assert.equal(hidden.status, 0, hidden.found.join('\n'));
    for (const finding of [`warning presence ${key}`, 'warning foreign-object notes.txt'])
      assert.ok(hidden.found.includes(finding), hidden.found.join('\n'));
    assert.equal(hidden.document.sampled, Versions.length, 'an older version is sampled as well');

    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId }));
    const gone = await auditor.audit();
    assert.equal(gone.status, 20);
    assert.ok(gone.found.includes(`broken presence ${key}`), gone.found.join('\n'));
  });

  test('a clock that is an hour apart is broken, and nothing else is', async (t) => {
    const { store } = await bucketStore();
    const { world } = await hostWithSnapshot(t, { store });
    await world.run('bucket', 'apply');
    const endpoint = await shiftedClock(t, 65 * 60_000);
    const { status, found, document } = await auditorOf(t, world, { ...store, endpoint }).audit();
    assert.equal(status, 20);
    const broken = document.findings.filter(({ severity }) => severity === 'broken');
    assert.deepEqual(
      broken.map(({ rule }) => rule),
      ['clock'],
      found.join('\n'),
    );
    assert.match(broken[0]?.message ?? '', /the store says \S+Z, this machine \S+Z/);
  });
});
