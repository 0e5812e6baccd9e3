import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { freshBucket, theService } from '../services/services.ts';
import { sealift, type CliResult } from './cli.ts';
import { runInProcess } from './in-process.ts';
import { temporary } from './temporary.ts';

/** A way to run commands. */
export interface Commands {
  run(...args: string[]): Promise<CliResult>;
  /** Runs a command that must succeed, with `--json`; returns the last line or document that it printed. */
  json<T>(...args: string[]): Promise<T>;
}

/**
 * A host that was set up with the real commands: configuration, state, an operator key, a store. Its commands run in the
 * process of the test (in-process.ts).
 */
export interface World extends Commands {
  readonly dir: string;
  readonly configFile: string;
  /** The operator's private key, without a passphrase. */
  readonly key: string;
  /** The same commands, by another clock. */
  at(clock: Clock): Commands;
  /** Runs the program as people do, in a process of its own. */
  start(...args: string[]): Promise<CliResult>;
  /** Replaces the jobs of the configuration. */
  setJobs(jobs: object): void;
}

export interface WorldOptions {
  readonly jobs: object;
  /** The store as in the configuration; default: a new directory. */
  readonly store?: object;
  readonly host?: string;
  readonly settings?: object;
  /** What its commands see in their environment, beside what `programEnv` has. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function makeWorld(t: TestContext, options: WorldOptions): Promise<World> {
  const dir = temporary(t);
  const configFile = join(dir, 'sealift.yaml');
  const at = (clock?: Clock): Commands =>
    commandsBy((args) => runInProcess(['-c', configFile, ...args], { cwd: dir, env: options.env, clock }));
  const commands = at();
  mkdirSync(join(dir, 'store'));
  const operator = ['--user-id', 'Op <op@example.org>', '--out', join(dir, 'op'), '--no-passphrase'];
  await commands.json('keys', 'generate', ...operator);
  // JSON is YAML.
  const setJobs = (jobs: object): void =>
    writeFileSync(
      configFile,
      JSON.stringify({
        host: options.host ?? 'h1',
        stateDir: join(dir, 'state'),
        store: options.store ?? { kind: 'directory', path: join(dir, 'store') },
        ...options.settings,
        jobs,
      }),
      { mode: 0o600 },
    );
  setJobs(options.jobs);
  await commands.json('init', '--recipient', join(dir, 'op', 'op.pub.asc'));
  return {
    dir,
    configFile,
    key: join(dir, 'op', 'op.key.asc'),
    ...commands,
    at,
    start: (...args) => sealift(['-c', configFile, ...args], { cwd: dir }),
    setJobs,
  };
}

const commandsBy = (run: (args: readonly string[]) => Promise<CliResult>): Commands => ({
  run: (...args) => run(args),
  async json<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await run([...args, '--json']);
    assert.equal(status, 0, `sealift ${args.join(' ')}: ${stdout}${stderr}`);
    const lines = stdout.trimEnd();
    return JSON.parse(lines.startsWith('{\n') ? lines : (lines.split('\n').at(-1) ?? '')) as T;
  },
});

/** The store settings of a new bucket of the test's S3 server. */
export async function bucketStore(options: { versioned?: boolean; prefix?: string } = {}) {
  const { endpoint, region, accessKeyId, secretAccessKey } = theService('s3');
  const { bucket, client } = await freshBucket(options);
  const store = {
    kind: 's3',
    endpoint,
    region,
    bucket,
    prefix: options.prefix ?? 'jabber/',
    accessKeyId,
    secretAccessKey,
  };
  return { store, bucket, client };
}

export const every2h = '0 */2 * * *';

export const readJson = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));

export interface BackupSummary {
  readonly snapshots: readonly {
    readonly job: string;
    readonly snapshot: string;
    readonly status: string;
    readonly bytes: number;
    readonly newBytes: number;
    readonly storedBytes: number;
    readonly segments: number;
    readonly newSegments: number;
    readonly problems: readonly { source: string; code: string; text: string }[];
  }[];
}

export interface Listing {
  readonly snapshots: readonly {
    readonly host: string;
    readonly job: string;
    readonly snapshot: string;
    readonly status: string;
    readonly newBytes: number;
    readonly bytes: number;
    readonly startedAt: string;
    readonly expiresAt: string;
    readonly problems: readonly { source: string; code: string }[];
    readonly streams: readonly { name: string; kind: string; status: string; bytes: number }[];
  }[];
}
