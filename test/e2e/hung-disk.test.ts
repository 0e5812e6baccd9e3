import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { withoutServices } from '../services/services.ts';
import { launcher, programEnv, sealift, type CliResult } from '../support/cli.ts';
import { until } from '../support/running.ts';
import { put, temporary } from '../support/temporary.ts';
import { every2h, makeWorld } from '../support/world.ts';
import { type Mounted, needsMounts, underMounts } from './bad-input.ts';

const needsDisk = {
  skip: needsMounts.skip || ((withoutServices || !existsSync('/dev/fuse')) && 'needs bindfs and /dev/fuse'),
};

/** Of bindfs, which the test command installs: stopped, it answers nobody, and whoever asks it for something waits. */
interface Disk {
  readonly path: string;
  /** The same, as it is also seen where nothing is mounted. */
  readonly behind: string;
  readonly inside: Mounted;
  readonly pid: number;
  hang(): void;
  goOn(): void;
}

async function mountDisk(t: TestContext): Promise<Disk> {
  const dir = temporary(t);
  const [behind, path, pidFile] = [join(dir, 'behind'), join(dir, 'disk'), join(dir, 'pid')];
  for (const folder of [behind, path]) mkdirSync(folder);
  // Nobody else sees the mount: whoever looks at all mounts of the machine would wait for it.
  const inside = await underMounts(
    t,
    `bindfs -f '${behind}' '${path}' >&2 & echo $! >'${pidFile}'
     until mountpoint -q '${path}'; do kill -0 $! || { echo 'no disk'; exit 1; }; sleep 0.02; done`,
  );
  const pid = Number(readFileSync(pidFile, 'utf8'));
  const [hang, goOn, end] = (['SIGSTOP', 'SIGCONT', 'SIGTERM'] as const).map(
    (signal) => () => void process.kill(pid, signal),
  ) as [() => void, () => void, () => void];
  t.after(() => [goOn, end].forEach((act) => act()));
  return { path, behind, inside, pid, hang, goOn };
}

suite('a disk that hangs', needsDisk, () => {
  test('costs the sources on it, whose time ends, and no thread for each run', async (t) => {
    const disk = await mountDisk(t);
    new DatabaseSync(join(disk.behind, 'a.db')).exec('CREATE TABLE t (x)');
    const world = await makeWorld(t, { jobs: {} });
    const tree = join(world.dir, 'tree');
    mkdirSync(tree);
    put(join(tree, 'file'), 'text');
    const sources = [
      { name: 'db', kind: 'sqlite', path: join(disk.path, 'a.db'), timeLimit: '1s' },
      { name: 'logs', kind: 'files', paths: [disk.path], timeLimit: '1s' },
      { name: 'tree', kind: 'files', paths: [tree] },
    ];
    world.setJobs({ j: { schedule: every2h, sources } });
    const args = ['-c', world.configFile, 'backup'];
    const backup = (): Promise<CliResult> => disk.inside(args, { cwd: world.dir });
    assert.equal((await backup()).status, 0);

    disk.hang();
    const startedMs = performance.now();
    const { status, stdout, stderr } = await backup();
    assert.equal(status, 3, stderr);
    assert.match(
      stdout,
      /in 1 stream[^]*source db took longer than its timeLimit of 1s[^]*source logs took longer/,
    );
    assert.ok(performance.now() - startedMs < 30_000);
    const looked = disk.inside(['-c', world.configFile, 'doctor'], { cwd: world.dir });
    const doctor = await Promise.race([looked, delay(40_000)]);
    assert.equal(doctor?.status, 3, 'doctor waits for the disk');
    assert.match(
      doctor.stdout,
      /j\/db: it has not said within 1s[^]*warning +source [^]*a disk does not answer/,
    );

    // Three in one process, as of a daemon; before the last one the disk has gone on.
    const module = new URL('../support/in-process.ts', import.meta.url).href;
    const script = `
      import { runInProcess } from ${JSON.stringify(module)};
      const backup = async () => {
        const { status, stdout } = await runInProcess(${JSON.stringify(args)}, { cwd: ${JSON.stringify(world.dir)} });
        return [status, /db: (.*?) \\(/.exec(stdout)?.[1], /logs: (.*?) \\(/.exec(stdout)?.[1]];
      };
      const runs = [await backup(), await backup()];
      process.kill(${disk.pid}, 'SIGCONT');
      await new Promise((resolve) => setTimeout(resolve, 500));
      console.log(JSON.stringify([...runs, await backup()]));`;
    const [program, ...inside] = disk.inside.enter;
    const node = [...inside, process.execPath, put(join(world.dir, 'three.mjs'), script)];
    const told = await sealift(node, { cwd: world.dir, program: program! });
    assert.deepEqual(
      JSON.parse(told.stdout),
      [
        [
          3,
          'source db took longer than its timeLimit of 1s',
          'source logs took longer than its timeLimit of 1s',
        ],
        [
          3,
          'an earlier question to source db of job j has no answer yet',
          `an earlier question to ${disk.path} has no answer yet`,
        ],
        [0, null, null],
      ],
      told.stderr,
    );
  });

  test('with the store on it does not hold a program that is told twice to end', async (t) => {
    const disk = await mountDisk(t);
    const store = { kind: 'directory', path: disk.path };
    const sources = [{ name: 's', kind: 'command', argv: ['echo', 'some'] }];
    const world = await makeWorld(t, { jobs: { j: { schedule: every2h, sources } }, store });
    const args = (command: string): string[] => ['-c', world.configFile, command];
    assert.equal((await disk.inside(args('backup'), { cwd: world.dir })).status, 0);

    disk.hang();
    for (const command of ['backup', 'list']) {
      const [program, ...inside] = disk.inside.enter;
      const child = spawn(program!, [...inside, launcher, ...args(command)], {
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
    const { stdout } = await disk.inside([...args('list'), '--json'], { cwd: world.dir });
    assert.equal((JSON.parse(stdout) as { snapshots: unknown[] }).snapshots.length, 1);
  });
});

/** By what the kernel says that its threads wait in. */
function waitsForDisk(pid: number): boolean {
  const waits = (thread: string): boolean =>
    /fuse|request_wait/.test(readFileSync(`/proc/${pid}/task/${thread}/wchan`, 'utf8'));
  return readdirSync(`/proc/${pid}/task`).some(waits);
}
