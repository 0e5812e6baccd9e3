import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

/** Debian packages by what they are for, with the process names that show such a server already at work. */
const packageSets = {
  postgres: { packages: ['postgresql'], servers: /^(postgres|postmaster)$/ },
  s3: {
    packages: ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-mgr', 'ceph-common'],
    servers: /^(radosgw|ceph-(mon|osd|mgr|mds).*)$/,
  },
  tools: { packages: ['gnupg', 'zstd', 'jq', 'sq'], servers: undefined },
};
export type PackageSet = keyof typeof packageSets;

/**
 * Makes sure that the Debian packages of these sets are installed.
 *
 * The machine may be somebody's server: packages are named before anything happens, no service is started, and
 * where a server of the same kind already runs the owner has to agree first (SEALIFT_TEST_INSTALL=1, or CI).
 */
export async function installMissing(sets: PackageSet[]): Promise<void> {
  const installed = await installedPackages(sets.flatMap((set) => packageSets[set].packages));
  const lacking = (set: PackageSet) => packageSets[set].packages.filter((name) => !installed.has(name));
  const missing = sets.flatMap(lacking);
  if (missing.length === 0) return;

  const commandLine = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid?.() !== 0)
    throw new Error(`the tests need packages that are not installed, and this is not root; run: ${commandLine}`);
  if (!process.env['CI'] && process.env['SEALIFT_TEST_INSTALL'] !== '1')
    for (const set of sets.filter((set) => lacking(set).length > 0)) {
      const running = runningServer(packageSets[set].servers);
      if (running)
        throw new Error(
          `the tests want to install ${lacking(set).join(' ')}, but ${running} already runs on this machine; ` +
            `set SEALIFT_TEST_INSTALL=1 to allow it (no service is started or restarted), or run: ${commandLine}`,
        );
    }

  process.stderr.write(`installing for the tests: ${missing.join(' ')}\n`);
  if (missing.includes('postgresql')) await withholdMainCluster();
  await withServicesHeldBack(async () => {
    await aptGet(['update']);
    await aptGet(['install', '--yes', '--no-install-recommends', ...missing]);
  });
}

async function installedPackages(names: string[]): Promise<Set<string>> {
  const query = ['--show', '--showformat=${Package} ${db:Status-Status}\\n', ...names];
  const output = await promisify(execFile)('dpkg-query', query).then(
    ({ stdout }) => stdout,
    (error: NodeJS.ErrnoException & { stdout?: string }) => {
      if (error.code === 'ENOENT') throw new Error('the tests install their servers on Debian or Ubuntu only');
      // An unknown package makes dpkg-query exit with 1 while it still lists the known ones.
      return error.stdout ?? '';
    },
  );
  const lines = output.split('\n').map((line) => line.split(' '));
  return new Set(lines.flatMap(([name, status]) => (name && status === 'installed' ? [name] : [])));
}

function runningServer(names: RegExp | undefined): string | undefined {
  if (!names) return undefined;
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (names.test(name)) return `${name} (process ${pid})`;
    } catch {
      // The process ended between the listing and the look: it runs no server any more.
    }
  }
  return undefined;
}

/** Debian's PostgreSQL packages create a cluster on installation unless told otherwise beforehand. */
async function withholdMainCluster(): Promise<void> {
  const path = '/etc/postgresql-common/createcluster.conf';
  if (existsSync(path)) return;
  await mkdir('/etc/postgresql-common', { recursive: true });
  await writeFile(path, 'create_main_cluster = false\n');
  process.stderr.write(`wrote ${path} so that installing postgresql creates no cluster\n`);
}

/** Runs `work` while invoke-rc.d is told to start nothing (101: "action forbidden by policy"). */
async function withServicesHeldBack(work: () => Promise<void>): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  // Set aside by name, not in memory: after a kill the owner's file is still there, and the next run restores it.
  const saved = `${policy}.before-sealift-tests`;
  if (existsSync(policy) && !existsSync(saved)) await rename(policy, saved);
  try {
    await writeFile(policy, '#!/bin/sh\nexit 101\n');
    await chmod(policy, 0o755);
    await work();
  } finally {
    await rm(policy, { force: true });
    if (existsSync(saved)) await rename(saved, policy);
  }
}

/** In a session of its own, because Ctrl-C in the middle of dpkg would leave packages half configured. */
function aptGet(args: string[]): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawn('apt-get', ['--quiet', ...args], { env, detached: true, stdio: ['ignore', 2, 2] });
  child.once('error', reject);
  child.once('exit', (code, signal) => {
    if (code === 0) resolve();
    else reject(new Error(`apt-get ${args.join(' ')} ended with ${signal ?? `status ${code}`}`));
  });
  return promise;
}
