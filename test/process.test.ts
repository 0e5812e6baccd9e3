import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SealiftError } from '../src/errors.ts';
import {
  feedProcess,
  findProgram,
  output,
  perform,
  readProcess,
  systemUser,
  ToolFailure,
} from '../src/process.ts';
import { failsWith } from './support/fails-with.ts';

const bin = join(import.meta.dirname, 'fixtures/bin');
const fixture = (name: string, ...args: string[]) => ({ argv: [join(bin, name), ...args] });
const never = new AbortController().signal;
/** A command of the shell that writes more than is read at a time. */
const aBlock = 'head -c 300000 /dev/zero';
const isRoot = process.geteuid?.() === 0;

async function sizeOf(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let sizeBytes = 0;
  for await (const chunk of chunks) sizeBytes += chunk.length;
  return sizeBytes;
}

/** Processes whose command line holds the text: none once they have ended. */
function running(text: string): string[] {
  const found = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid);
  return found.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
    } catch {
      return false;
    }
  });
}

/** What a program started is signalled with it, but only init can wait for it. */
async function allGone(text: string): Promise<boolean> {
  for (let i = 0; i < 100 && running(text).length > 0; i++) await delay(10);
  return running(text).length === 0;
}

async function* zeros(count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield Buffer.alloc(65_536);
}

async function* drops() {
  for (const byte of 'drop by drop') yield Buffer.from(byte);
  yield Buffer.alloc(0);
}

async function* damaged() {
  yield Buffer.from('first\n');
  yield Buffer.from('last\n');
  await delay(200);
  throw new Error('the hash does not match');
}

suite('reading a program', () => {
  test('arguments arrive as they are, without a shell', async () => {
    const odd = ['a b', '$HOME', '"', "'", '-x', ';', 'ü\n'];
    const { stdout } = await output(fixture('ok', ...odd), never);
    assert.equal(stdout, `${odd.join('\n')}\n`);
  });

  test('large output arrives whole', async () => {
    assert.equal(
      await sizeOf(readProcess({ argv: ['head', '-c', '300M', '/dev/zero'] }, never)),
      300 * 2 ** 20,
    );
  });

  test('a program that is killed midway does not end naturally', async () => {
    await assert.rejects(
      sizeOf(readProcess(fixture('dies-midway'), never)),
      failsWith('tool-failed', /SIGKILL/),
    );
  });

  test('a valid ending with a bad status does not end naturally, and the error quotes the program', async () => {
    await assert.rejects(
      sizeOf(readProcess(fixture('fails-at-the-end'), never)),
      failsWith('tool-failed', /^fails-at-the-end ended with status 1: the disk of the server is broken$/),
    );
  });

  test('a flood on standard error neither blocks nor fills memory, and its last word is kept', async () => {
    const before = process.memoryUsage().rss;
    assert.equal((await output(fixture('floods-stderr'), never)).stdout, 'PGDMP');
    assert.ok(process.memoryUsage().rss - before < 100e6);
    await assert.rejects(output(fixture('floods-stderr', '1'), never), (error: unknown) => {
      assert.ok(error instanceof SealiftError && error.cause instanceof ToolFailure);
      assert.ok(error.cause.stderr.endsWith('the last word') && error.cause.stderr.length <= 4096);
      return true;
    });
  });

  test('a program that is to write in blocks does, where there is stdbuf, and errors still name it', async () => {
    const asked = { argv: ['/usr/bin/printenv', '_STDBUF_O'], buffered: true };
    const said = await Array.fromAsync(readProcess(asked, never), String);
    assert.equal(said.join(''), '262144\n');
    const failing = (argv: string[]) => sizeOf(readProcess({ argv, buffered: true }, never));
    await assert.rejects(failing(['false']), { code: 'tool-failed', message: 'false ended with status 1' });
    await assert.rejects(failing(['/nowhere/tool']), { code: 'tool-missing' });
    await assert.rejects(failing(['no-such-tool']), { code: 'tool-missing' });

    const { PATH } = process.env;
    process.env['PATH'] = '/nowhere';
    try {
      await assert.rejects(sizeOf(readProcess(asked, never)), { message: 'printenv ended with status 1' });
    } finally {
      process.env['PATH'] = PATH;
    }
  });

  test('a stdbuf that is there and does not work does not keep a program from running', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sealift-stdbuf-'));
    const { PATH } = process.env;
    try {
      await writeFile(join(dir, 'stdbuf'), '#!/bin/sh\necho "failed to find libstdbuf.so" >&2\nexit 125\n', {
        mode: 0o755,
      });
      process.env['PATH'] = `${dir}:${PATH}`;
      const said = await Array.fromAsync(
        readProcess({ argv: ['echo', 'dumped'], buffered: true }, never),
        String,
      );
      assert.equal(said.join(''), 'dumped\n');
    } finally {
      process.env['PATH'] = PATH;
      await rm(dir, { recursive: true });
    }
  });

  test('a stdbuf that may not be started does not keep a program from running either', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sealift-stdbuf-'));
    const { PATH } = process.env;
    try {
      await writeFile(join(dir, 'stdbuf'), 'no program', { mode: 0o644 });
      process.env['PATH'] = dir;
      const dump = { argv: ['/bin/echo', 'dumped'], buffered: true };
      assert.equal((await Array.fromAsync(readProcess(dump, never), String)).join(''), 'dumped\n');
    } finally {
      process.env['PATH'] = PATH;
      await rm(dir, { recursive: true });
    }
  });

  test('a missing program is told from one that fails', async () => {
    const missing = failsWith('tool-missing', /sealift-no-such-tool is not installed/);
    await assert.rejects(output({ argv: ['sealift-no-such-tool'] }, never), missing);
    if (isRoot) {
      const runAs = await systemUser('nobody', never);
      await assert.rejects(output({ argv: ['sealift-no-such-tool'], runAs }, never), missing);
    }
  });

  test('arguments that no program can be given are told without being repeated', async () => {
    for (const argument of ['x'.repeat(200_000), 'canary\0'])
      await assert.rejects(output({ argv: ['echo', argument] }, never), (error: unknown) => {
        assert.ok(failsWith('tool-failed', /^echo could not be started: /)(error));
        return !String(error).includes('canary');
      });
  });

  test('control characters in messages do not reach the terminal', async () => {
    await assert.rejects(
      output({ argv: ['sh', '-c', String.raw`printf 'bad\033[2Jline\nnext' >&2; exit 1`] }, never),
      failsWith('tool-failed', /bad\?\[2Jline; next$/),
    );
  });

  test('a slow reader holds the program back', async () => {
    const chunks = readProcess({ argv: ['sh', '-c', 'while :; do echo; done'] }, never);
    await chunks.next();
    const before = process.memoryUsage().rss;
    await delay(500);
    assert.ok(process.memoryUsage().rss - before < 20e6);
    await chunks.return();
  });

  test('a reader that stops early ends the program', async () => {
    const mark = `600.${process.pid}1`;
    for await (const _ of readProcess(
      { argv: ['sh', '-c', `${aBlock}; sleep ${mark} & sleep ${mark}`] },
      never,
    ))
      break;
    assert.ok(await allGone(mark));
  });

  test('an abort ends a program that ignores SIGTERM, with its children, and throws the reason', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const mark = `hangs-${process.pid}`;
    const chunks = readProcess(fixture('hangs', mark), abort.signal);
    await chunks.next();
    const startedAt = performance.now();
    abort.abort(reason);
    await assert.rejects(chunks.next(), reason);
    assert.ok(performance.now() - startedAt < 7000);
    assert.ok(await allGone(mark));
  });

  test('a program that fails has failed, also where a daemon of its holds its output open', async () => {
    const mark = `600.${process.pid}3`;
    const daemon = `${aBlock}; setsid --fork sleep ${mark}; sleep 0.2; exit 3`;
    try {
      const soon = AbortSignal.timeout(5000);
      await assert.rejects(
        sizeOf(readProcess({ argv: ['sh', '-c', daemon] }, soon)),
        failsWith('tool-failed', /status 3/),
      );
    } finally {
      for (const pid of running(mark)) process.kill(Number(pid));
    }
  });

  test('a program that may not be ended, as under sudo, is not waited for', async (t) => {
    const mark = `600.${process.pid}4`;
    const abort = new AbortController();
    const chunks = readProcess({ argv: ['sh', '-c', `${aBlock}; exec sleep ${mark}`] }, abort.signal);
    await chunks.next();
    const doing = perform({ argv: ['sleep', mark] }, abort.signal, () => {});
    t.mock.method(process, 'kill', () => {
      throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
    });
    try {
      abort.abort(new Error('enough'));
      const late = AbortSignal.timeout(9000);
      const inTime = (ends: Promise<unknown>) =>
        Promise.race([
          ends,
          new Promise((_, reject) => late.addEventListener('abort', () => reject(late.reason))),
        ]);
      // Both at once: either may be the first to end.
      await Promise.all([chunks.next(), doing].map((ends) => assert.rejects(inTime(ends), /enough/)));
    } finally {
      t.mock.restoreAll();
      for (const pid of running(mark)) process.kill(Number(pid), 'SIGKILL');
    }
  });

  test('an abort while the reader does something else ends the program at once', async () => {
    const abort = new AbortController();
    const mark = `600.${process.pid}2`;
    const chunks = readProcess({ argv: ['sh', '-c', `${aBlock}; sleep ${mark}`] }, abort.signal);
    await chunks.next();
    abort.abort(new Error('enough'));
    assert.ok(await allGone(mark));
    await assert.rejects(chunks.next(), /enough/);
  });

  test('an abort between a block and a shorter last one throws the reason, though all has been read', async () => {
    const abort = new AbortController();
    const program = 'head -c 100 /dev/zero; sleep 0.2; head -c 262144 /dev/zero';
    const chunks = readProcess({ argv: ['sh', '-c', program] }, abort.signal);
    await chunks.next();
    await delay(200);
    abort.abort(new Error('enough'));
    await assert.rejects(chunks.next(), /enough/);
  });

  test('with no file handle left, that is what is said', () => {
    const script = `
      import { openSync } from 'node:fs';
      import { output, readProcess } from '${join(import.meta.dirname, '../src/process.ts')}';
      const never = new AbortController().signal;
      try { for (;;) openSync('/dev/null'); } catch {}
      for (const start of [() => output({ argv: ['true'] }, never), () => Array.fromAsync(readProcess({ argv: ['true'] }, never))])
        await start().catch(({ code, message }) => console.log(code, message));`;
    const { stdout, stderr } = spawnSync(
      'prlimit',
      ['--nofile=64', process.execPath, '--input-type=module', '--eval', script],
      { encoding: 'utf8' },
    );
    const said = 'tool-failed true could not be started: too many files are open';
    assert.equal(stdout, `${said}\n${said}\n`, stderr);
  });

  test('a signal that has already aborted starts nothing', async () => {
    await assert.rejects(output(fixture('ok'), AbortSignal.abort(new Error('before'))), /before/);
  });

  test('a short tool that talks without end is stopped', async () => {
    await assert.rejects(output({ argv: ['yes'] }, never), failsWith('tool-failed', /more than/));
  });
});

/** What a program says, however it ends. */
async function lines(argv: readonly string[], secrets?: readonly string[]): Promise<string[]> {
  const said: string[] = [];
  await perform({ argv, secrets }, never, (line) => said.push(line)).catch(() => {});
  return said;
}

suite('what a program says', () => {
  test('is told line by line when it has ended, well or not', async () => {
    assert.deepEqual(await lines(['sh', '-c', 'echo one; echo; echo two; echo three >&2']), [
      'one',
      'two',
      'three',
    ]);
    assert.deepEqual(await lines(['sh', '-c', 'echo one; exit 3']), ['one']);
    await assert.rejects(
      perform({ argv: ['sh', '-c', 'echo why >&2; exit 3'] }, never, () => {}),
      failsWith('tool-failed', /status 3: why$/),
    );
  });

  test('is cut to its last 4 KiB', async () => {
    const said = (await lines(['sh', '-c', 'yes | head -c 1000000; echo the last word'])).join('\n');
    assert.ok(said.length <= 4096 && said.endsWith('the last word'), `${said.length}`);
  });

  test('never holds its secrets, wherever the cut goes through them', async () => {
    const secret = 'S3CRET-0123456789';
    for (let pad = 4096 - 40; pad <= 4096; pad++) {
      const script = `printf '%s' ${secret}; head -c ${pad} /dev/zero | tr '\\0' .`;
      const [said = ''] = await lines(['sh', '-c', `(${script}) >&2; exit 1`], [secret, 'S3CRET']);
      assert.doesNotMatch(said, /[0-9A-Z]{2}/, `padded with ${pad}`);
    }
    assert.deepEqual(await lines(['echo', `password=${secret}!`], [secret]), ['password=[redacted]!']);
  });

  test('may go on by what it left behind, which is not ended', async () => {
    const mark = `600.${process.pid}3`;
    const startedAt = performance.now();
    assert.deepEqual(await lines(['sh', '-c', `echo ready; sleep ${mark} &`]), ['ready']);
    assert.ok(performance.now() - startedAt < 5000, 'it is not waited for');
    const [pid] = running(mark);
    assert.ok(pid !== undefined, 'it still runs');
    process.kill(Number(pid), 'SIGKILL');
  });

  test('comes to an end when the signal aborts, with all that it started', async () => {
    const mark = `600.${process.pid}4`;
    const argv = ['sh', '-c', `sleep ${mark} & sleep ${mark}`];
    await assert.rejects(
      perform({ argv }, AbortSignal.timeout(200), () => {}),
      /timeout/,
    );
    assert.ok(await allGone(mark));
  });
});

suite('the environment of a program', () => {
  test('holds nothing of this process but PATH, HOME and TZ', async () => {
    process.env['SEALIFT_TEST_CANARY'] = 'canary-secret';
    try {
      const { stdout } = await output({ argv: ['env'], env: { GIVEN: 'yes' } }, never);
      const names = stdout
        .trim()
        .split('\n')
        .map((line) => line.split('=')[0]);
      assert.deepEqual(
        names.filter((name) => name !== 'TZ').toSorted((a = '', b = '') => a.localeCompare(b)),
        ['GIVEN', 'HOME', 'LANG', 'LC_ALL', 'PATH'],
      );
    } finally {
      delete process.env['SEALIFT_TEST_CANARY'];
    }
  });

  test(
    'has a HOME also where nobody knows of one, as of a user without a name',
    { skip: !isRoot },
    async () => {
      const { HOME } = process.env;
      delete process.env['HOME'];
      process.seteuid!(123_456);
      try {
        assert.match((await output({ argv: ['env'] }, never)).stdout, /^HOME=\/$/m);
      } finally {
        process.seteuid!(0);
        if (HOME !== undefined) process.env['HOME'] = HOME;
      }
    },
  );

  test(
    'another user runs it with all groups, as the process that gets the signals',
    { skip: !isRoot },
    async () => {
      // Debian's PostgreSQL puts its user into a second group. No user of a bare system is in one.
      const [, member = 'nobody'] =
        /^[^:]+:[^:]*:\d+:(?!root\b)([^,\n]+)/m.exec(await readFile('/etc/group', 'utf8')) ?? [];
      const runAs = await systemUser(member, never);
      const script = 'id -u; id -g; id -G; echo $HOME; pwd; ps -o ppid= -p $$';
      const { stdout } = await output({ argv: ['sh', '-c', script], runAs }, never);
      const [uid, gid, groups, home, cwd, parent] = stdout.trim().split('\n');
      assert.deepEqual([Number(uid), Number(gid)], [runAs.uid, runAs.gid]);
      assert.equal(groups, (await output({ argv: ['id', '-G', member] }, never)).stdout.trim());
      assert.deepEqual([home, cwd, Number(parent)], [runAs.home, '/', process.pid]);
    },
  );

  test('a user that does not exist is a mistake in the configuration', async () => {
    await assert.rejects(
      systemUser('no-such-user', never),
      failsWith('config-invalid', /no user "no-such-user"/),
    );
    await assert.rejects(systemUser('-x', never), failsWith('config-invalid', /no user "-x"/));
  });

  test('programs are found by directory, in order', async () => {
    assert.equal(await findProgram('ok', ['/nonexistent', bin]), join(bin, 'ok'));
    assert.equal(await findProgram('ok', ['/nonexistent']), undefined);
    mkdirSync(join(bin, 'folders/ok'), { recursive: true });
    assert.equal(await findProgram('ok', [join(bin, 'folders'), bin]), join(bin, 'ok'), 'a folder is none');
  });
});

suite('feeding a program', () => {
  test('it gets all of a body, however it is cut', async () => {
    assert.equal((await feedProcess({ argv: ['cat'] }, drops(), never)).stdout, 'drop by drop');
    assert.equal((await feedProcess({ argv: ['wc', '-c'] }, zeros(1000), never)).stdout.trim(), '65536000');
    assert.equal((await feedProcess({ argv: ['wc', '-c'] }, zeros(0), never)).stdout.trim(), '0');
  });

  test('a program that fails while it is fed is reported by its own error', async () => {
    const argv = ['sh', '-c', 'head -c 100 >/dev/null; echo "no room" >&2; exit 4'];
    await assert.rejects(
      feedProcess({ argv }, zeros(10_000), never),
      failsWith('tool-failed', /status 4: no room/),
    );
  });

  test('success without reading everything is a failure, unless it was expected', async () => {
    const argv = ['head', '-c', '1'];
    await assert.rejects(feedProcess({ argv }, zeros(10_000), never), failsWith('tool-failed', /read all/));
    await feedProcess({ argv }, zeros(10_000), never, { mayStopReading: true });
  });

  test('a body that throws at its very end keeps the last chunk and the end of input from the program', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'sealift-test-'));
    const argv = ['sh', '-c', 'read a; touch began; read b; touch committed'];
    await assert.rejects(feedProcess({ argv, cwd: directory }, damaged(), never), /the hash does not match/);
    assert.deepEqual(readdirSync(directory), ['began']);
    await rm(directory, { recursive: true });
  });

  test('an abort ends the program and throws the reason', async () => {
    const feeding = feedProcess({ argv: ['sleep', '600'] }, zeros(10_000), AbortSignal.timeout(100));
    await assert.rejects(feeding, /timeout/);
  });
});
