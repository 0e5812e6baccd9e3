import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';

/** Debian packages by what they are for, with the process names that show such a server already at work. */
const packageSets = {
  postgres: { packages: ['postgresql'], servers: /^(postgres|postmaster)$/ },
  s3: {
    packages: ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common'],
    servers: /^(radosgw|ceph-(mon|osd|mgr|mds).*)$/,
  },
  mysql: { packages: ['mariadb-server'], servers: /^(mariadbd|mysqld)$/ },
  redis: { packages: ['redis-server'], servers: /^redis-server$/ },
  ldap: { packages: ['slapd', 'ldap-utils'], servers: /^slapd$/ },
  ejabberd: { packages: ['ejabberd', 'erlang-p1-pgsql'], servers: /^(beam\.smp|epmd)$/ },
  prosody: {
    packages: ['prosody', 'lua-dbi-postgresql', 'lua-dbi-sqlite3'],
    servers: /^(prosody|lua5\.\d)$/,
  },
  examples: { packages: ['docker-compose', 'systemd'], servers: undefined },
  recipes: { packages: ['etcd-server', 'etcd-client', 'influxdb', 'git'], servers: /^(etcd|influxd)$/ },
  tools: { packages: ['gnupg', 'zstd', 'jq', 'sq', 'zsh', 'fish', 'openssl', 'attr'], servers: undefined },
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
    throw new Error(
      `the tests need packages that are not installed, and this is not root; run: ${commandLine}`,
    );
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
  if (missing.includes('postgresql')) withholdMainCluster();
  await installHoldingServicesBack(missing);
}

async function installedPackages(names: string[]): Promise<Set<string>> {
  const query = ['--show', '--showformat=${Package} ${db:Status-Status}\\n', ...names];
  const output = await promisify(execFile)('dpkg-query', query).then(
    ({ stdout }) => stdout,
    (error: NodeJS.ErrnoException & { stdout?: string }) => {
      if (error.code === 'ENOENT')
        throw new Error('the tests install their servers on Debian or Ubuntu only');
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
function withholdMainCluster(): void {
  const path = '/etc/postgresql-common/createcluster.conf';
  if (existsSync(path)) return;
  mkdirSync('/etc/postgresql-common', { recursive: true });
  writeFileSync(path, 'create_main_cluster = false\n');
  process.stderr.write(`wrote ${path} so that installing postgresql creates no cluster\n`);
}

/** invoke-rc.d starts nothing while /usr/sbin/policy-rc.d answers 101 (Debian policy-rc.d specification). */
const installScript = `
set -eu
policy=/usr/sbin/policy-rc.d
owners=$policy.before-sealift-tests
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$owners"; fi
restore() {
  rm -f "$policy"
  if [ -e "$owners" ] || [ -L "$owners" ]; then mv "$owners" "$policy"; fi
}
trap restore EXIT
printf '#!/bin/sh\\nexit 101\\n' >"$policy"
chmod 755 "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet update
apt-get --quiet install --yes --no-install-recommends "$@"
`;

/**
 * In a shell with a session of its own: neither Ctrl-C nor the death of the runner leaves packages half configured
 * or the owner's policy-rc.d set aside.
 */
async function installHoldingServicesBack(packages: string[]): Promise<void> {
  const args = ['-c', installScript, 'install', ...packages];
  const shell = spawn('sh', args, { detached: true, stdio: ['ignore', 2, 2] });
  const [status] = (await once(shell, 'exit')) as [number | null];
  if (status !== 0) throw new Error(`apt-get could not install ${packages.join(' ')}`);
}
