import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { SystemUser } from '../src/process.ts';
import { openTemporary, type Place, removePlaced } from '../src/temporary.ts';
import { failsWith } from './support/fails-with.ts';
import { temporary } from './support/temporary.ts';

const source = pathToFileURL(join(import.meta.dirname, '../src/temporary.ts')).href;

/** A folder that a process left which was killed. */
function leftBehind(owner: string, place?: Place, options?: object): string {
  const code = `const { openTemporary } = await import(${JSON.stringify(source)});
    const folder = await (await openTemporary(${JSON.stringify(owner)}, ${JSON.stringify(options)})).folder(${JSON.stringify(place)});
    process.stdout.write(folder, () => process.kill(process.pid, 'SIGKILL'));`;
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
    encoding: 'utf8',
  });
  assert.equal(signal, 'SIGKILL');
  writeFileSync(join(stdout, 'plaintext'), 'secret');
  return stdout;
}

test('a folder is empty, private and another one each time, and all go at the end with what is in them', async () => {
  const opened = await openTemporary(`test ${process.pid} a`);
  const folders = [await opened.folder(), await opened.folder()];
  assert.notEqual(folders[0], folders[1]);
  for (const folder of folders) {
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(folder), []);
    mkdirSync(join(folder, 'sub'), { mode: 0o500 });
    writeFileSync(join(folder, 'file'), 'secret');
  }
  await opened[Symbol.asyncDispose]();
  for (const folder of folders) assert.ok(!existsSync(folder));
});

test('none is made for who goes on when all is over', async () => {
  const owner = `test ${process.pid} late`;
  const opened = await openTemporary(owner);
  const late = opened.folder();
  const folder = await opened.folder();
  await Promise.all([opened[Symbol.asyncDispose](), late.catch(() => {})]);
  const after = opened.folder();
  await assert.rejects(after, failsWith('failed', /the run is over/));
  const prefix = basename(folder).slice(0, -6); // mkdtemp's own six
  assert.deepEqual(
    readdirSync(tmpdir()).filter((name) => name.startsWith(prefix)),
    [],
  );
});

test('they go on the way out of an error, too', async () => {
  let folder = '';
  const failing = async (): Promise<void> => {
    await using opened = await openTemporary(`test ${process.pid} b`);
    folder = await opened.folder();
    throw new Error('the dump failed');
  };
  await assert.rejects(failing, { message: 'the dump failed' });
  assert.ok(folder !== '' && !existsSync(folder));
});

test('what a killed process left goes when the next one of the same owner begins, and no sooner', async () => {
  const [mine, other] = [`test ${process.pid} c`, `test ${process.pid} d`];
  const left = leftBehind(mine);
  assert.ok(existsSync(join(left, 'plaintext')));
  {
    await using _other = await openTemporary(other);
    assert.ok(existsSync(left));
  }
  await using _mine = await openTemporary(mine);
  assert.ok(!existsSync(left));
});

test('of several at once, each leaves those of others that run alone, and removes what killed ones left', async (t) => {
  const owner = `test ${process.pid} h`;
  const options = { oneOfSeveral: true };
  const left = leftBehind(owner, undefined, options);
  const code = `const { openTemporary } = await import(${JSON.stringify(source)});
    await using opened = await openTemporary(${JSON.stringify(owner)}, ${JSON.stringify(options)});
    process.stdout.write(await opened.folder());
    await new Promise((resolve) => process.stdin.on('end', resolve).resume());`;
  const running = spawn(process.execPath, ['--input-type=module', '--eval', code]);
  t.after(() => running.kill('SIGKILL'));
  const [folder] = (await once(running.stdout, 'data')) as [Buffer];
  assert.ok(!existsSync(left));
  {
    await using mine = await openTemporary(owner, options);
    assert.ok(existsSync(await mine.folder()) && existsSync(folder.toString()));
  }
  assert.ok(existsSync(folder.toString()));
  running.stdin.end();
  assert.deepEqual(await once(running, 'exit'), [0, null]);
  assert.ok(!existsSync(folder.toString()));
});

test('where there is no folder for temporary files, that is said', async (t) => {
  const usual = process.env['TMPDIR'];
  t.after(() => (usual === undefined ? delete process.env['TMPDIR'] : (process.env['TMPDIR'] = usual)));
  process.env['TMPDIR'] = '/nowhere';
  const says = failsWith('failed', /temporary files.*ENOENT.*\/nowhere/, /TMPDIR/);
  await assert.rejects(openTemporary(`test ${process.pid} g`), says);
});

test('a link that somebody laid under such a name is not followed', async (t) => {
  const owner = `test ${process.pid} e`;
  const left = leftBehind(owner);
  const precious = temporary(t);
  writeFileSync(join(precious, 'file'), 'x');
  const trap = join(dirname(left), `${basename(left).slice(0, -6)}trap00`);
  symlinkSync(precious, trap);
  t.after(() => rmSync(trap, { force: true }));
  await using _opened = await openTemporary(owner);
  assert.ok(!existsSync(left));
  assert.ok(existsSync(join(precious, 'file')));
});

test(
  'a folder of another user under such a name is left alone',
  { skip: process.getuid?.() !== 0 && 'giving a folder away needs root' },
  async (t) => {
    const owner = `test ${process.pid} f`;
    const left = leftBehind(owner);
    chownSync(left, 65_534, 65_534);
    t.after(() => rmSync(left, { recursive: true }));
    await using _opened = await openTemporary(owner);
    assert.ok(existsSync(join(left, 'plaintext')));
  },
);

test('folders of programs whose names begin alike are left alone', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sealift-'));
  t.after(() => rmSync(folder, { recursive: true }));
  await using _opened = await openTemporary(`test ${process.pid} g`);
  assert.ok(existsSync(folder));
});

/** A folder of a server that another user owns, where root can act as that user. */
function serverFolder(t: TestContext): Place {
  const within = temporary(t);
  if (process.geteuid?.() !== 0) return { within, runAs: undefined };
  const nobody: SystemUser = { name: 'nobody', uid: 65_534, gid: 65_534, home: '/' };
  chownSync(within, nobody.uid, nobody.gid);
  return { within, runAs: nobody };
}

test('a folder in a place of a server is its private own, and goes at the end', async (t) => {
  const place = serverFolder(t);
  let folder = '';
  {
    await using opened = await openTemporary(`test ${process.pid} h`);
    folder = await opened.folder(place);
    const { mode, uid } = statSync(folder);
    assert.deepEqual([dirname(folder), mode & 0o777], [place.within, 0o700]);
    assert.equal(uid, statSync(place.within).uid);
    writeFileSync(join(folder, 'plaintext'), 'secret');
    // Removing it early and again at the end is the same.
    const other = await opened.folder(place);
    await removePlaced(other, place);
    assert.ok(!existsSync(other));
  }
  assert.ok(!existsSync(folder));
});

test(
  'where one folder cannot be removed, the others go all the same',
  { skip: process.getuid?.() !== 0 && 'acting as the user of a server needs root' },
  async (t) => {
    const [gone, place] = [serverFolder(t), serverFolder(t)];
    const opened = await openTemporary(`test ${process.pid} k`);
    const folders = [await opened.folder(place), await opened.folder(gone), await opened.folder(place)];
    const another = await opened.folder(gone);
    chownSync(gone.within, 0, 0);
    await assert.rejects(async () => opened[Symbol.asyncDispose](), { code: 'tool-failed' });
    assert.deepEqual([...folders, another].filter(existsSync), [folders[1], another]);
  },
);

test('what a killed process left in a place goes when the next one of the same owner uses it', async (t) => {
  const place = serverFolder(t);
  const [mine, other] = [
    leftBehind(`test ${process.pid} i`, place),
    leftBehind(`test ${process.pid} j`, place),
  ];
  const trap = join(place.within, `${basename(mine).slice(0, -8)}trap0000`);
  symlinkSync(other, trap);
  await using opened = await openTemporary(`test ${process.pid} i`);
  await opened.folder(place);
  assert.ok(!existsSync(mine));
  assert.ok(existsSync(join(other, 'plaintext')));
});
