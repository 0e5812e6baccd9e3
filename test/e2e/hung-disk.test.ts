import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, programEnv } from '../support/cli.ts';
import { hangingDisk, needsHangingDisk } from '../support/hanging-disk.ts';
import { until } from '../support/running.ts';
import { put } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';

suite('a disk that hangs', needsHangingDisk, () => {
  test('costs the sources on it, whose time ends, and no thread for each run', async (t) => {
    const disk = hangingDisk(t);
    const path = join(disk.path, 'a.db');
    const database = new DatabaseSync(path);
    database.exec('CREATE TABLE t (x)');
    database.close();
    const world = await makeWorld(t, { jobs: {} });
    const tree = join(world.dir, 'tree');
    mkdirSync(tree);
    put(join(tree, 'file'), 'text');
    const sources = [
      { name: 'db', kind: 'sqlite', path, timeLimit: '1s' },
      { name: 'logs', kind: 'files', paths: [disk.path], timeLimit: '1s' },
      { name: 'tree', kind: 'files', paths: [tree] },
    ];
    world.setJobs({ j: { schedule: every2h, sources } });
    assert.equal((await world.start('backup')).status, 0);

    disk.hang();
    const tookLonger = /source db took longer than its timeLimit of 1s[^]*source logs took longer/;
    const unanswered =
      /question to source db of job j has no answer yet[^]*question to \S+ has no answer yet/;
    // Before this process waits for the same path: from the second to ask for it on, the kernel ends nobody who waits.
    const doctor = await Promise.race([world.start('doctor'), delay(40_000)]);
    assert.equal(doctor?.status, 3, 'doctor waits for the disk');
    assert.match(
      doctor.stdout,
      /j\/db: it has not said within 1s[^]*warning +source [^]*a disk does not answer/,
    );

    // The last two are in this process, as in a daemon.
    for (const [backup, told] of [
      [world.start, tookLonger],
      [world.run, tookLonger],
      [world.run, unanswered],
    ] as const) {
      const startedMs = performance.now();
      const { status, stdout, stderr } = await backup('backup');
      assert.equal(status, 3, stderr);
      assert.match(stdout, /in 1 stream/);
      assert.match(stdout, told);
      assert.ok(performance.now() - startedMs < 30_000);
    }
    disk.goOn();
    await delay(500);
    const { status, stdout, stderr } = await world.run('backup');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /in 3 streams/);
  });

  test('with the store on it does not hold a program that is told twice to end', async (t) => {
    const disk = hangingDisk(t);
    const store = { kind: 'directory', path: disk.path };
    const sources = [{ name: 's', kind: 'command', argv: ['echo', 'some'] }];
    const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } }, store });
    assert.equal((await world.run('backup')).status, 0);

    disk.hang();
    for (const command of ['backup', 'list']) {
      const child = spawn(launcher, ['-c', world.configFile, command], {
        env: programEnv(world.dir),
        stdio: 'ignore',
      });
      const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
      await until(
        () => waitsForDisk(child.pid!),
        () => 'it does not ask the disk for anything',
      );
      child.kill('SIGTERM');
      await delay(1200);
      assert.equal(child.exitCode, null, 'it waits for the disk');
      child.kill('SIGTERM');
      assert.deepEqual(await Promise.race([ended, delay(5000, ['still there'])]), [130, null]);
    }
    disk.goOn();
    assert.equal((await world.json<{ snapshots: unknown[] }>('list')).snapshots.length, 1);
  });
});

/** By what the kernel says that its threads wait in. */
function waitsForDisk(pid: number): boolean {
  const waits = (thread: string): boolean =>
    /fuse|request_wait/.test(readFileSync(`/proc/${pid}/task/${thread}/wchan`, 'utf8'));
  return readdirSync(`/proc/${pid}/task`).some(waits);
}
