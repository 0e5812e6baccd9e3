/**
 * npm test: real servers, then the tests, then nothing left behind.
 *
 * Arguments are test files (all of them by default) and flags of node's test runner in the form --flag=value.
 * SEALIFT_TEST_SERVICES=none runs what needs no server; SEALIFT_TEST_POSTGRES and SEALIFT_TEST_S3 name servers
 * that exist already (services/services.ts).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { buildInto } from '../build.ts';
import { installMissing } from './services/install.ts';
import { startPostgres } from './services/postgres.ts';
import { startRgw } from './services/rgw.ts';
import { service, variableOf, withoutServices, type ServiceKind } from './services/services.ts';

const root = join(import.meta.dirname, '..');

/** Servers of which each test file starts its own. */
const ownServers = ['mysql', 'redis', 'ldap', 'ejabberd', 'prosody', 'recipes'] as const;

const starters = { postgres: startPostgres, s3: startRgw };

const interruption = new AbortController();
let interruptedBy: NodeJS.Signals | undefined;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(name, () => {
    interruptedBy ??= name;
    interruption.abort(new Error(`interrupted by ${interruptedBy}`));
  });

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const known = error instanceof Error && !(error instanceof SuppressedError);
  process.stderr.write(`${known ? error.message : inspect(error)}\n`);
  process.exitCode = interruptedBy ? 128 + constants.signals[interruptedBy] : 1;
}

async function main(argv: string[]): Promise<number> {
  await using directory = await temporaryDirectory();
  await using servers = await startServers(directory);
  const reportPath = join(directory.path, 'report.tap');
  const env = {
    ...process.env,
    ...servers.env,
    SEALIFT_TEST_PROGRAM: await buildProgram(join(directory.path, 'program')),
    // Each test file is a process that loads the sources: they are compiled once.
    NODE_COMPILE_CACHE: join(directory.path, 'compiled'),
  };
  const status = await runTests(argv, env, reportPath);
  // Without a file to run, the runner ends before it opens its report.
  const report = existsSync(reportPath) ? readFileSync(reportPath, 'utf8') : '';
  return judge(status, report);
}

/** Starts what is not given, side by side; a failure of one ends the start of the other. */
async function startServers(directory: TemporaryDirectory) {
  const kinds = Object.keys(starters) as ServiceKind[];
  const wanted = withoutServices ? [] : kinds.filter((kind) => !service(kind));
  if (!withoutServices) await installMissing([...wanted, ...ownServers, 'examples', 'tools']);

  const startedAt = performance.now();
  const failure = new AbortController();
  const signal = AbortSignal.any([interruption.signal, failure.signal]);
  await using started = new AsyncDisposableStack();
  const env: NodeJS.ProcessEnv = {};
  const starts = wanted.map(async (kind) => {
    signal.throwIfAborted();
    const serverDir = join(directory.path, kind);
    await mkdir(serverDir);
    const server = started.use(await starters[kind](serverDir, signal));
    env[variableOf[kind]] = JSON.stringify(server);
  });
  try {
    await Promise.all(starts);
  } catch (error) {
    failure.abort();
    await Promise.allSettled(starts);
    interruption.signal.throwIfAborted();
    directory.keepLogs = true;
    throw new Error(`${(error as Error).message}\nThe logs are kept in ${directory.path}`, { cause: error });
  }
  if (wanted.length > 0) {
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    process.stderr.write(`${wanted.join(' and ')} ready in ${seconds} s\n`);
  }
  const servers = started.move();
  return { env, [Symbol.asyncDispose]: () => servers.disposeAsync() };
}

/** What is shipped, laid out as in the package; the path of its launcher. */
async function buildProgram(folder: string): Promise<string> {
  await buildInto(join(folder, 'dist'));
  for (const name of ['bin', 'package.json'])
    await cp(join(root, name), join(folder, name), { recursive: true });
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  return join(folder, 'bin', 'sealift');
}

async function runTests(argv: string[], env: NodeJS.ProcessEnv, reportPath: string): Promise<number> {
  const flags = argv.filter((argument) => argument.startsWith('-'));
  const files = argv.filter((argument) => !argument.startsWith('-')).map((file) => resolve(file));
  const reporters = ['spec', 'stdout', 'tap', reportPath].map((value, index) =>
    index % 2 === 0 ? `--test-reporter=${value}` : `--test-reporter-destination=${value}`,
  );
  const selection = files.length > 0 ? files : ['test/**/*.test.ts'];
  // Made for two cores: some files wait for a server or a clock while others work.
  const args = ['--test', '--test-concurrency=3', ...reporters, ...flags, ...selection];
  interruption.signal.throwIfAborted();
  const runner = spawn(process.execPath, args, { env, cwd: root, stdio: 'inherit' });
  // Ctrl-C reaches the runner by itself; a signal sent to this process alone does not.
  interruption.signal.addEventListener('abort', () => runner.kill('SIGTERM'), { once: true });
  const [status] = (await once(runner, 'exit')) as [number | null];
  interruption.signal.throwIfAborted();
  return status ?? 1;
}

/** The runner's status, unless no test ran at all; names what was left out. */
function judge(status: number, report: string): number {
  // The summary comes last; lines that look like it may be output of a test.
  const count = (what: string) =>
    Number([...report.matchAll(new RegExp(`^# ${what} (\\d+)$`, 'gm'))].at(-1)?.[1] ?? 0);
  if (withoutServices) {
    const skipped = [...report.matchAll(/^ *ok \d+ - (.*) # SKIP .*SEALIFT_TEST_SERVICES=none/gm)];
    const names = skipped.map(([, name]) => `  ${name}\n`);
    process.stderr.write(`left out by SEALIFT_TEST_SERVICES=none: ${names.length}\n${names.join('')}`);
  }
  // A file in which no test ran counts as a test that passed, by the name of the file.
  const emptyFiles = [...report.matchAll(/^ok \d+ - .*\.ts$/gm)].length;
  if (count('tests') > count('skipped') + emptyFiles) return status;
  process.stderr.write('no test ran\n');
  return status || 1;
}

interface TemporaryDirectory extends AsyncDisposable {
  path: string;
  /** What `log` directories hold outlives the run. */
  keepLogs: boolean;
}

async function temporaryDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'sealift-run-'));
  // The shell's stdin ends with this process, also by SIGKILL, and the kernel then ends the servers
  // (services/server-group.ts); it gives them a moment and removes their files.
  const script = 'read -r line; sleep 5; exec rm -rf -- "$1"';
  const sweeper = spawn('sh', ['-c', script, 'sweep', path], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // PostgreSQL's user has to reach its own directory inside.
  await chmod(path, 0o711);
  const directory = { path, keepLogs: false };
  const remove = async () => {
    sweeper.kill('SIGKILL');
    if (!directory.keepLogs) return rm(path, { recursive: true });
    for (const kind of await readdir(path))
      for (const name of await readdir(join(path, kind)))
        if (name !== 'log') await rm(join(path, kind, name), { recursive: true });
  };
  return Object.assign(directory, { [Symbol.asyncDispose]: remove });
}
