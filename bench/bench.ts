import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startMariadb } from '../test/services/mariadb.ts';
import { startPostgres } from '../test/services/postgres.ts';
import { changeOnePercent, writeMixed, writeServerTree, writeSmallFiles } from './data.ts';
import { benchRetention } from './retention.ts';
import { alternate, measure, median, type Run } from './measure.ts';

/**
 * `npm run bench [demo|tar|restore|change|memory|files|include|retention|postgres|mysql ...]`: the limits of the program,
 * measured side by side with what one would do by hand. Data in the page cache, directory store, medians of alternating
 * runs. Needs gpg, zstd and the programs of PostgreSQL and MariaDB.
 */
const root = join(import.meta.dirname, '..');
/** As the package ships it; the launcher sets the same options and variables. */
const options = '--disable-warning=ExperimentalWarning --max-semi-space-size=8 --v8-pool-size=1';
const program = `${process.execPath} ${options} ${join(root, 'dist', 'main.js')}`;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);
const GiB = 2 ** 30;
const MiB = 2 ** 20;

const dir = mkdtempSync(join(tmpdir(), 'sb-'));
const launcherEnv = { MALLOC_MMAP_THRESHOLD_: '1048576', NODE_COMPILE_CACHE: join(dir, 'compiled') };
const config = join(dir, 'sealift.yaml');
const sealift = `${program} -c ${config} -q`;
const gnupgHome = join(dir, 'gpg');
const byHand = `zstd -q -1 -T0 | gpg --batch --quiet --trust-model always --homedir ${gnupgHome} --compress-algo none -e -r op@example.org > ${dir}/by-hand.gpg`;
const table: string[][] = [];

interface Row {
  readonly what: string;
  readonly ours: string;
  readonly theirs?: string;
  readonly ratio: number;
  /** None is set for what is measured only to be known. */
  readonly limit?: { readonly atLeast: number } | { readonly atMost: number };
}

function report({ what, ours, theirs = '', ratio, limit }: Row): void {
  table.push([what, ours, theirs, ratio.toFixed(2), ...(limit ? judge(ratio, limit) : [])]);
  process.stderr.write(`${table.at(-1)!.join('  ')}\n`);
}

function judge(ratio: number, limit: NonNullable<Row['limit']>): [wanted: string, verdict: string] {
  const met = 'atLeast' in limit ? ratio >= limit.atLeast : ratio <= limit.atMost;
  const wanted = 'atLeast' in limit ? `>= ${limit.atLeast}` : `<= ${limit.atMost}`;
  return [wanted, met ? 'met' : 'MISSED'];
}

function setJobs(sources: object[]): void {
  const settings = {
    host: 'bench',
    stateDir: join(dir, 'state'),
    store: { kind: 'directory', path: join(dir, 'store') },
    jobs: sources.length > 0 ? { bench: { schedule: '0 0 * * *', sources } } : {},
  };
  writeFileSync(config, JSON.stringify(settings), { mode: 0o600 });
}

let stores = 0;
/**
 * The next run finds an empty store, and has all to do. Earlier ones are deleted later: a file system that has just
 * deleted thousands of files is slow in making new ones. But they leave the page cache, so that each run writes to memory
 * that has been used before, as the line by hand does with its one file: new memory is slow on a virtual machine.
 */
function emptyStore(): void {
  const forget = 'dd if={} iflag=nocache count=0 status=none ;'.split(' ');
  if (stores > 0) execFileSync('find', [join(dir, `store-${stores}`), '-type', 'f', '-exec', ...forget]);
  rmSync(join(dir, 'store'), { force: true });
  mkdirSync(join(dir, `store-${++stores}`));
  symlinkSync(`store-${stores}`, join(dir, 'store'));
}

function deleteStores(): void {
  for (; stores > 0; stores--) rmSync(join(dir, `store-${stores}`), { recursive: true, force: true });
}

const backup = (): Promise<Run> => measure(`exec ${sealift} --json backup`, launcherEnv);

async function fullBackup(): Promise<Run> {
  emptyStore();
  return backup();
}

interface Summary {
  readonly snapshots: readonly { bytes: number; newBytes: number; storedBytes: number }[];
}
const lastLine = ({ stdout }: Run): unknown => JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
const summaryOf = (run: Run) => (lastLine(run) as Summary).snapshots[0]!;

const secondsOf = (runs: readonly Run[]): number => median(runs.map(({ seconds }) => seconds));
const rate = (bytes: number, seconds: number): string => `${(bytes / seconds / 1e6).toFixed(0)} MB/s`;

/** The job against its dump by hand. */
async function benchDump(server: string, dump: string): Promise<void> {
  const { a, b } = await alternate(rounds, fullBackup, () => measure(`${dump} | ${byHand}`));
  const [ours, theirs] = [secondsOf(a), secondsOf(b)];
  const { bytes } = summaryOf(a[0]!);
  report({
    what: `${server} database of ${(bytes / 1e6).toFixed(0)} MB, wall time`,
    ours: `${ours.toFixed(2)} s`,
    theirs: `${theirs.toFixed(2)} s`,
    ratio: ours / theirs,
    limit: { atMost: 1.25 },
  });
}

async function prepare(): Promise<void> {
  mkdirSync(gnupgHome, { mode: 0o700 });
  setJobs([]);
  emptyStore();
  await measure(`${sealift} keys generate --user-id 'Op <op@example.org>' --out ${dir}/op --no-passphrase`);
  await measure(`${sealift} init --recipient ${dir}/op/op.pub.asc`);
  await measure(`gpg --batch --quiet --homedir ${gnupgHome} --import ${dir}/op/op.key.asc`);
}

const benches: Record<string, () => Promise<void>> = {
  async demo() {
    const stage = mkdtempSync(join(tmpdir(), 'sbd-'));
    const runs: Run[] = [];
    for (let round = 0; round < rounds; round++)
      runs.push(await measure(`${process.execPath} ${join(root, 'demo', 'demo.ts')}`, { TMPDIR: stage }));
    const seconds = secondsOf(runs);
    report({ what: 'npm run demo', ours: `${seconds.toFixed(1)} s`, ratio: seconds, limit: { atMost: 20 } });
    rmSync(stage, { recursive: true });
  },

  async tar() {
    const file = join(dir, 'mixed');
    writeMixed(file, 2 * GiB, root);
    setJobs([{ name: 'mixed', kind: 'files', paths: [file] }]);
    const { a, b } = await alternate(rounds, fullBackup, () => measure(`< ${file} ${byHand}`));
    const [ours, theirs] = [secondsOf(a), secondsOf(b)];
    report({
      what: '2 GiB mixed stream, throughput',
      ours: rate(2 * GiB, ours),
      theirs: rate(2 * GiB, theirs),
      ratio: theirs / ours,
      limit: { atLeast: 0.6 },
    });
    rmSync(file);
  },

  async restore() {
    const file = join(dir, 'mixed');
    writeMixed(file, 2 * GiB, root);
    setJobs([{ name: 'mixed', kind: 'files', paths: [file] }]);
    await fullBackup();
    await measure(`< ${file} ${byHand}`);
    const restore = `exec ${sealift} restore --stdout --key ${dir}/op/op.key.asc > /dev/null`;
    const open = `gpg --batch --quiet --homedir ${gnupgHome} -d ${dir}/by-hand.gpg | zstd -q -d > /dev/null`;
    const { a, b } = await alternate(
      rounds,
      () => measure(restore, launcherEnv),
      () => measure(open),
    );
    const [ours, theirs] = [secondsOf(a), secondsOf(b)];
    report({
      what: '2 GiB mixed stream back to standard output',
      ours: `${ours.toFixed(2)} s`,
      theirs: `${theirs.toFixed(2)} s`,
      ratio: ours / theirs,
    });
    await measure(`gpgconf --homedir ${gnupgHome} --kill all`);
    rmSync(file);
  },

  async change() {
    const file = join(dir, 'mixed');
    writeMixed(file, GiB, root);
    setJobs([{ name: 'mixed', kind: 'files', paths: [file] }]);
    const firsts: number[] = [];
    const seconds: number[] = [];
    const shares: number[] = [];
    for (let round = 0; round < rounds; round++) {
      firsts.push((await fullBackup()).seconds);
      changeOnePercent(file, round);
      const run = await backup();
      const { newBytes, storedBytes } = summaryOf(run);
      seconds.push(run.seconds);
      shares.push(newBytes / storedBytes);
    }
    const [first, second] = [median(firsts), median(seconds)];
    report({
      what: '1 GiB with 1 % changed, bytes written',
      ours: `${(100 * median(shares)).toFixed(1)} %`,
      ratio: median(shares),
      limit: { atMost: 0.05 },
    });
    report({
      what: '1 GiB with 1 % changed, time against the first run',
      ours: `${second.toFixed(2)} s`,
      theirs: `${first.toFixed(2)} s`,
      ratio: second / first,
      limit: { atMost: 0.5 },
    });
    rmSync(file);
  },

  async memory() {
    const peaks: number[] = [];
    for (const sizeBytes of [GiB, 8 * GiB]) {
      const file = join(dir, 'mixed');
      writeMixed(file, sizeBytes, root);
      setJobs([{ name: 'mixed', kind: 'files', paths: [file] }]);
      const runs = [await fullBackup(), await fullBackup(), await fullBackup()];
      const peak = median(runs.map(({ peakBytes }) => peakBytes));
      peaks.push(peak);
      report({
        what: `peak memory for ${sizeBytes / GiB} GiB, MiB`,
        ours: `${(peak / MiB).toFixed(0)} MiB`,
        ratio: peak / MiB,
        limit: { atMost: 350 },
      });
      rmSync(file);
    }
    report({
      what: 'peak memory, 8 GiB against 1 GiB',
      ours: `${(peaks[1]! / MiB).toFixed(0)} MiB`,
      theirs: `${(peaks[0]! / MiB).toFixed(0)} MiB`,
      ratio: peaks[1]! / peaks[0]!,
      limit: { atMost: 1.1 },
    });
  },

  async files() {
    const tree = join(dir, 'small');
    writeSmallFiles(tree, 20_000);
    setJobs([{ name: 'small', kind: 'files', paths: [tree] }]);
    const runs: Run[] = [];
    for (let round = 0; round < rounds; round++) runs.push(await fullBackup());
    const perSecond = 20_000 / secondsOf(runs);
    report({
      what: '20,000 small files, whole run, files/s',
      ours: `${perSecond.toFixed(0)}/s`,
      ratio: perSecond,
      limit: { atLeast: 8000 },
    });
    rmSync(tree, { recursive: true });
  },

  async include() {
    const tree = join(dir, 'server');
    const files = writeServerTree(tree, root);
    setJobs([{ name: 'server', kind: 'files', paths: [tree] }]);
    const first = await fullBackup();
    const { bytes, storedBytes } = summaryOf(first);
    const shares: number[] = [];
    const seconds: number[] = [];
    for (const [i, file] of files.entries()) {
      const to = join(dir, `included-${i}`);
      const run = await measure(
        `exec ${sealift} --json restore --include '${file}' --to ${to} --key ${dir}/op/op.key.asc`,
      );
      if (!readFileSync(join(to, 'server', file)).equals(readFileSync(file)))
        throw new Error(`${file} did not come back`);
      shares.push((lastLine(run) as { fetchedBytes: number }).fetchedBytes / storedBytes);
      seconds.push(run.seconds);
    }
    const worst = Math.max(...shares);
    report({
      what: `one file of 10 KB from ${(bytes / GiB).toFixed(1)} GiB (${(storedBytes / GiB).toFixed(1)} stored), fetched, %`,
      ours: `${shares.map((share) => (100 * share).toFixed(2)).join(' ')} %, ${median(seconds).toFixed(1)} s`,
      ratio: 100 * worst,
      limit: { atMost: 1 },
    });
    rmSync(tree, { recursive: true });
  },

  async retention() {
    const { stdout, peakBytes } = await measure(
      `exec ${process.execPath} ${join(root, 'bench', 'plan-million.ts')}`,
    );
    const { seconds } = JSON.parse(stdout) as { seconds: number };
    const common = { what: 'prune plan for a million objects' };
    report({ ...common, ours: `${seconds.toFixed(2)} s`, ratio: seconds, limit: { atMost: 5 } });
    const MB = peakBytes / MiB;
    report({ ...common, ours: `${MB.toFixed(0)} MiB`, ratio: MB, limit: { atMost: 500 } });
    await benchRetention({ dir, program, report: (what, result) => void table.push([what, result]) });
  },

  async postgres() {
    const pgDir = mkdtempSync(join(tmpdir(), 'sbp-'));
    await using server = await startPostgres(pgDir);
    const { host, port, user, binDir } = server;
    const connect = `-h ${host} -p ${port} -U ${user}`;
    const ask = `${binDir}/psql -q ${connect} -d postgres -c`;
    setJobs([{ name: 'pg', kind: 'postgres', databases: ['postgres'], globals: false, host, port, user }]);
    // What a run takes to start weighs on the smaller one.
    for (const messages of [2_400_000, 9_600_000]) {
      await measure(
        `${ask} "CREATE TABLE message AS SELECT i AS id, 1 + i % 5000 AS account,
           now() + i * interval '7 seconds' AS sent, md5(i::text) || ' some words of a chat message ' || repeat(md5((i / 3)::text), 4) AS body
           FROM generate_series(1, ${messages}) i"`,
      );
      await benchDump('PostgreSQL', `${binDir}/pg_dump ${connect} -Fc -Z0 -d postgres`);
      await measure(`${ask} 'DROP TABLE message'`);
    }
    await server[Symbol.asyncDispose]();
    rmSync(pgDir, { recursive: true, force: true });
  },

  async mysql() {
    const myDir = mkdtempSync(join(tmpdir(), 'sbm-'));
    await using server = await startMariadb(myDir, undefined, ['--innodb-buffer-pool-size=1G']);
    const connect = `--no-defaults --socket=${server.socket}`;
    await measure(
      `mariadb ${connect} -e "CREATE DATABASE chat; USE chat; CREATE TABLE message (id bigint PRIMARY KEY, account int, sent datetime, body text)
         AS SELECT seq AS id, 1 + seq % 5000 AS account, '2026-01-01' + INTERVAL seq * 7 SECOND AS sent,
         CONCAT(MD5(seq), ' some words of a chat message ', REPEAT(MD5(seq DIV 3), 4)) AS body FROM seq_1_to_2400000"`,
    );
    const { socket: host } = server;
    setJobs([{ name: 'my', kind: 'mysql', databases: ['chat'], users: false, host }]);
    await benchDump('MariaDB', `mariadb-dump ${connect} --single-transaction --quick chat`);
    await server[Symbol.asyncDispose]();
    rmSync(myDir, { recursive: true, force: true });
  },
};

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in benches));
if (unknown.length > 0)
  throw new Error(`no bench ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}`);
try {
  await measure(`cd ${root} && npm run -s build`);
  await prepare();
  for (const [name, bench] of Object.entries(benches))
    if (chosen.length === 0 || chosen.includes(name)) {
      await bench();
      deleteStores();
    }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
const header = ['what', 'sealift', 'by hand', 'ratio', 'limit', ''];
const widths = header.map((title, i) => Math.max(title.length, ...table.map((row) => row[i]?.length ?? 0)));
for (const row of [header, ...table])
  console.log(
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
