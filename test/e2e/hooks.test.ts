import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { launcher, programEnv, sealift } from '../support/cli.ts';
import { until } from '../support/running.ts';
import { every2h, makeWorld, type BackupSummary, type Listing, type World } from '../support/world.ts';
import { refuses } from './bad-input.ts';

/** A world with one job whose parts write down, each in a line of the file `log`, that they were there. */
async function hookedWorld(t: TestContext): Promise<Hooked> {
  const world = await makeWorld(t, { jobs: {} });
  const log = join(world.dir, 'log');
  const note = (text: string): string => `echo "${text}" >> ${log}`;
  const before = ['sh', '-c', note('before $SEALIFT_HOST $SEALIFT_JOB')];
  const after = ['sh', '-c', note('after $SEALIFT_STATUS ${SEALIFT_SNAPSHOT:-none} ${SEALIFT_ERROR:-well}')];
  const source = { name: 'it', kind: 'command', shell: `${note('source')}; echo data` };
  return {
    world,
    note,
    setJob: (change = {}, ...more) =>
      world.setJobs({ j: { schedule: every2h, before, after, sources: [source, ...more], ...change } }),
    lines() {
      const lines = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
      rmSync(log, { force: true });
      return lines;
    },
  };
}

interface Hooked {
  readonly world: World;
  /** A shell line that writes this down. */
  note(text: string): string;
  setJob(change?: object, ...sources: object[]): void;
  /** What was written down since the last call. */
  lines(): string[];
}

/** By the commits, without the time that `list` takes. */
const count = ({ dir }: World): number =>
  readdirSync(join(dir, 'store'), { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('/index.json.gpg'),
  ).length;

test('hooks run around the job:', async (t) => {
  const { world, setJob, lines, note } = await hookedWorld(t);

  await t.test('`before`, the sources, the commit, `after`, which is told the outcome', async () => {
    const index = `${world.dir}/store/h1/snap/$SEALIFT_SNAPSHOT/index.json.gpg`;
    const after = ['sh', '-c', `test -e "${index}"; ${note('after $? $SEALIFT_STATUS $SEALIFT_SNAPSHOT')}`];
    setJob({ after });
    const { snapshots } = await world.json<BackupSummary>('backup');
    assert.deepEqual(lines(), ['before h1 j', 'source', `after 0 complete ${snapshots[0]?.snapshot}`]);
  });

  await t.test('a partial snapshot is told as such, and a job that saved nothing by its code', async () => {
    setJob({}, { name: 'bad', kind: 'command', argv: ['false'] });
    assert.equal((await world.run('backup')).status, 3);
    const [newest] = (await world.json<Listing>('list')).snapshots;
    assert.deepEqual(lines(), ['before h1 j', 'source', `after partial ${newest?.snapshot} well`]);
    setJob({ sources: [{ name: 'bad', kind: 'command', argv: ['false'] }] });
    await refuses(world, ['backup'], { exit: 1, code: 'nothing-saved', says: /status 1/ });
    assert.deepEqual(lines(), ['before h1 j', 'after failed none nothing-saved']);
  });

  await t.test(
    'a `before` that fails, is missing or hangs saves nothing, reads nothing, and `after` runs',
    async () => {
      const snapshots = count(world);
      for (const [before, says] of [
        [
          ['sh', '-c', 'echo "cannot freeze" >&2; exit 4'],
          /`before` of job j failed: sh ended with status 4: cannot freeze$/,
        ],
        [['sealift-no-such'], /`before` of job j failed: sealift-no-such is not installed/],
        [['sleep', '600'], /`before` of job j failed: .*longer than the hookTimeLimit of 1s/],
      ] as const) {
        setJob({ before, hookTimeLimit: '1s' });
        await refuses(world, ['backup'], { exit: 1, code: 'hook-failed', says });
        assert.deepEqual(lines(), ['after failed none hook-failed']);
      }
      assert.equal(count(world), snapshots);
    },
  );

  await t.test('an `after` that fails, is missing or hangs is loud, and the snapshot stays', async () => {
    for (const [after, says] of [
      [
        ['sh', '-c', 'echo "cannot thaw" >&2; exit 4'],
        /`after` of job j failed: sh ended with status 4: cannot thaw$/,
      ],
      [['sleep', '600'], /`after` of job j failed: .*longer than the hookTimeLimit of 1s/],
    ] as const) {
      const snapshots = count(world);
      setJob({ after, hookTimeLimit: '1s' });
      const { status, stdout, stderr } = await world.run('backup', '--json');
      assert.equal(status, 3, stdout + stderr);
      const summary = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as BackupSummary;
      assert.equal(summary.snapshots[0]?.status, 'complete');
      const [problem] = summary.snapshots[0].problems;
      assert.equal(problem?.code, 'hook-failed');
      assert.match(problem.text, says);
      const logged = stderr.split('\n').find((line) => line.includes('"level":"error"')) ?? '';
      assert.match((JSON.parse(logged) as { msg: string }).msg, says);
      assert.equal(count(world), snapshots + 1);
    }
    lines();
  });

  await t.test('where a run ends before there is anything to save, only `after`', async () => {
    setJob();
    const text = readFileSync(world.configFile, 'utf8');
    writeFileSync(world.configFile, text.replace('"jobs"', '"recipients":"gone","jobs"'));
    await refuses(world, ['backup'], { exit: 12, code: 'key-missing', says: /gone/ });
    assert.deepEqual(lines(), ['after failed none key-missing']);
  });

  await t.test('when another run has the lock, none', async () => {
    setJob({ before: ['sleep', '2'] });
    const first = world.run('backup');
    await until(
      () => readdirSync(join(world.dir, 'state/lock')).length > 0,
      () => 'no lock',
    );
    let second = await world.run('backup');
    // It may have come before the first had the lock, which then waits no longer.
    if (second.status !== 11) [second] = [await first];
    assert.equal(second.status, 11);
    await first;
    assert.equal(lines().filter((line) => line.startsWith('after')).length, 1);
  });

  await t.test(
    'what they say is in the log, and what they leave running does not hold the job up',
    async () => {
      setJob({ before: ['sh', '-c', 'echo frozen; echo aside >&2; sleep 20 &'] });
      const startedAt = performance.now();
      const { status, stderr } = await world.run('backup');
      assert.equal(status, 0);
      assert.ok(performance.now() - startedAt < 15_000);
      for (const line of ['frozen', 'aside'])
        assert.match(stderr, new RegExp(`"level":"info",.*"hook":"before","msg":"${line}"`));
      assert.doesNotMatch((await world.run('-q', 'backup')).stderr, /frozen/);
      lines();
    },
  );
});

test('hooks see their own few variables and no secret of sealift', async (t) => {
  const { world, setJob } = await hookedWorld(t);
  const dump = (file: string) => ['sh', '-c', `env > ${world.dir}/${file}`];
  const env = { TOKEN: { env: 'SEALIFT_CANARY' } };
  setJob({
    before: dump('before'),
    after: dump('after'),
    sources: [{ name: 'it', kind: 'command', argv: ['env'], env }],
  });
  const variables = { SEALIFT_CANARY: 'cAnArY', AWS_SECRET_ACCESS_KEY: 'cAnArY' };
  const { status, stderr } = await sealift(['-c', world.configFile, 'backup'], {
    cwd: world.dir,
    env: variables,
  });
  assert.equal(status, 0, stderr);
  const names = (file: string): string[] => {
    const text = readFileSync(join(world.dir, file), 'utf8');
    assert.doesNotMatch(text, /cAnArY/);
    return text.split('\n').flatMap((line) => /^SEALIFT_\w+/.exec(line) ?? []);
  };
  assert.deepEqual(names('before').toSorted(), ['SEALIFT_HOST', 'SEALIFT_JOB']);
  assert.deepEqual(names('after').toSorted(), [
    'SEALIFT_HOST',
    'SEALIFT_JOB',
    'SEALIFT_SNAPSHOT',
    'SEALIFT_STATUS',
  ]);
});

test('an interruption:', async (t) => {
  const { world, setJob, lines, note } = await hookedWorld(t);
  await world.run('backup');

  /** Starts a backup and sends the signal once this has been written down. */
  async function strike(signal: NodeJS.Signals, when: string, through = launcher): Promise<number | null> {
    const words = through === launcher ? [] : [launcher];
    const child = spawn(through, [...words, '-c', world.configFile, '-q', 'backup'], {
      env: programEnv(world.dir),
      stdio: 'ignore',
    });
    const exited = once(child, 'exit') as Promise<[number | null]>;
    const log = join(world.dir, 'log');
    await until(
      () => existsSync(log) && readFileSync(log, 'utf8').includes(when),
      () => `no ${when}`,
    );
    child.kill(signal);
    return (await exited)[0];
  }
  const hanging = { name: 'slow', kind: 'command', shell: `${note('slow')}; exec sleep 600` };

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    await t.test(`${signal} while a source is read runs \`after\`, which is told`, async () => {
      setJob({}, hanging);
      assert.equal(await strike(signal, 'slow'), 130);
      assert.deepEqual(lines(), ['before h1 j', 'source', 'slow', 'after interrupted none interrupted']);
      assert.equal(count(world), 0);
    });

  await t.test('in `before`, `before` ends and `after` runs', async () => {
    setJob({ before: ['sh', '-c', `${note('begun')}; sleep 600; ${note('went on')}`] });
    assert.equal(await strike('SIGINT', 'begun'), 130);
    assert.deepEqual(lines(), ['begun', 'after interrupted none interrupted']);
  });

  await t.test('in `after` lets it come to its end, and the snapshot is there', async () => {
    setJob({ after: ['sh', '-c', `${note('begun')}; sleep 1; ${note('after $SEALIFT_STATUS')}`] });
    assert.equal(await strike('SIGINT', 'begun'), 0);
    assert.deepEqual(lines(), ['before h1 j', 'source', 'begun', 'after complete']);
    assert.equal(count(world), 1);
  });

  await t.test(
    'by SIGKILL is all that keeps `after` from running; the next run is a run like any other',
    async () => {
      // It ends when nobody reads it any more.
      setJob({}, { ...hanging, shell: `${note('slow')}; while echo; do sleep 0.2; done` });
      assert.equal(await strike('SIGKILL', 'slow'), null);
      await delay(300);
      assert.deepEqual(lines(), ['before h1 j', 'source', 'slow']);
      setJob();
      const { snapshots } = await world.json<BackupSummary>('backup');
      assert.deepEqual(lines(), ['before h1 j', 'source', `after complete ${snapshots[0]?.snapshot} well`]);
    },
  );

  await t.test('SIGHUP means nothing to a program that was started by nohup', async () => {
    setJob({}, { name: 'slow', kind: 'command', shell: `${note('slow')}; sleep 1; echo x` });
    assert.equal(await strike('SIGHUP', 'slow', 'nohup'), 0);
    assert.match(lines().join(), /^before h1 j,source,slow,after complete /);
  });
});

test('status tells of a backup by hand that failed, or whose `after` did, until one succeeds', async (t) => {
  const { world, setJob } = await hookedWorld(t);
  setJob();
  assert.equal((await world.run('backup')).status, 0);
  assert.equal((await world.run('status')).status, 0);
  await delay(1000 - (Date.now() % 1000)); // snapshots are dated in whole seconds
  for (const [hook, exit] of [
    ['before', 1],
    ['after', 3],
  ] as const) {
    setJob({ [hook]: ['false'] });
    assert.equal((await world.run('backup')).status, exit);
    const { status, stdout } = await world.run('status');
    assert.equal(status, 3);
    assert.match(stdout, new RegExp(`wrong.* job j: failed at .*hook \`${hook}\``, 's'));
    setJob();
    assert.equal((await world.run('backup')).status, 0);
    assert.equal((await world.run('status')).status, 0);
    await delay(1000 - (Date.now() % 1000));
  }
});

test('a daemon whose `after` fails ends with 3 and status says so, until it succeeds', async (t) => {
  const { world, setJob } = await hookedWorld(t);
  setJob({ schedule: '* * * * * *', after: ['false'] });
  const failed = await world.start('daemon', '--once', '-v', '-v');
  assert.equal(failed.status, 3);
  for (const line of failed.stderr.trimEnd().split('\n')) assert.ok(line.split('"job":').length <= 2, line);
  assert.match(failed.stderr, /"job":"j","code":"hook-failed"/);
  assert.equal(count(world), 1);
  const { status, stdout } = await world.run('status');
  assert.equal(status, 3);
  assert.match(
    stdout,
    /wrong.* job j: failed at .*: the hook `after` of job j failed: false ended with status 1/,
  );
  setJob({ schedule: '* * * * * *' });
  await delay(1000); // on a fast machine all that took less than a second, and the next instant is still to come
  assert.equal((await world.start('daemon', '--once')).status, 0);
  assert.doesNotMatch((await world.run('status')).stdout, /hook/);
});
