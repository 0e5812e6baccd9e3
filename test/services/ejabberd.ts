import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chown, installServer, type InstalledServer, writeScript } from './installed-server.ts';
import { freePorts } from './server-group.ts';
import { withoutServices } from './services.ts';

/** Debian's ejabberdctl serves root and the user ejabberd only. */
export const ejabberdNeeds = {
  skip: withoutServices
    ? 'needs ejabberd, and SEALIFT_TEST_SERVICES=none'
    : process.geteuid?.() !== 0 && 'needs root, who may run ejabberdctl',
};

/**
 * An ejabberd as Debian installs it, but below `root`: `root/etc/ejabberd`, `root/var/lib/ejabberd` and so on. Its
 * ports are on loopback; it has neither epmd nor the machine's cookie. Plain passwords are taken without TLS.
 */
export interface EjabberdService extends InstalledServer {
  readonly config: string;
  readonly data: string;
  /** For the PATH: `ejabberdctl` of this server, and a `systemctl` that starts and stops it. */
  readonly binDir: string;
  readonly ejabberdctl: string;
  readonly host: 'localhost';
  readonly port: number;
  /** Runs ejabberdctl as the server's user; returns what it wrote, without the last line break. */
  ctl(...args: string[]): Promise<string>;
  /** What installing the package lays down: a configuration, and a folder without a database. */
  install(): Promise<void>;
}

/** `settings`: lines for ejabberd.yml, beside those of `ejabberdYml`. */
export async function installEjabberd(root: string, settings = ''): Promise<EjabberdService> {
  const [port = 0, distributionPort = 0] = await freePorts(2);
  const [config, data] = [join(root, 'etc/ejabberd'), join(root, 'var/lib/ejabberd')];
  const [logs, run, binDir] = [join(root, 'var/log/ejabberd'), join(root, 'run/ejabberd'), join(root, 'bin')];
  const pidFile = join(run, 'ejabberd.pid');
  const log = join(logs, 'ejabberd.log');
  const ejabberdctl = join(binDir, 'ejabberdctl');

  const environment = [
    // Loopback only. INET_DIST_INTERFACE would start one more Erlang machine for each call to say the same.
    'ERL_OPTIONS="-env ERL_CRASH_DUMP_BYTES 0 -kernel inet_dist_use_interface {127,0,0,1}"',
    // With this there is no epmd, which would be shared with the machine.
    `ERL_DIST_PORT=${distributionPort}`,
    'ERLANG_NODE=ejabberd@localhost',
    `EJABBERD_PID_PATH=${pidFile}`,
    // Where Erlang keeps its cookie.
    `export HOME=${data}`,
    '',
  ].join('\n');

  const install = async () => {
    await mkdir(join(root, 'etc/default'), { recursive: true });
    await mkdir(join(config, 'modules.d'), { recursive: true });
    await mkdir(data, { recursive: true });
    await chmod(data, 0o700);
    await writeFile(join(config, 'ejabberd.yml'), ejabberdYml(port) + settings, { mode: 0o600 });
    await copyFile('/etc/ejabberd/inetrc', join(config, 'inetrc'));
    await writeFile(join(root, 'etc/default/ejabberd'), environment);
    if (!existsSync(join(config, 'ejabberdctl.cfg')))
      await symlink('../default/ejabberd', join(config, 'ejabberdctl.cfg'));
    await chown('root:ejabberd', config);
    await chown('ejabberd:ejabberd', data, join(config, 'ejabberd.yml'));
  };

  await chmod(root, 0o755);
  await mkdir(logs, { recursive: true });
  await install();
  const server = await installServer({
    name: 'ejabberd',
    binDir,
    pidFile,
    log,
    // One that is told to stop before it has said this may never do so. Asking by `ejabberdctl status` would start an
    // Erlang machine each time, which takes a second of processor time.
    ready: `grep -qs 'is started in the node' ${log}`,
    startCommand: `${ejabberdctl} start`,
  });
  await chown('ejabberd:ejabberd', logs, run);
  const options = ['--config-dir', config, '--config', join(config, 'ejabberd.yml')];
  const places = ['--ctl-config', join(config, 'ejabberdctl.cfg'), '--spool', data, '--logs', logs];
  // Debian's would use su, which changes HOME.
  await writeScript(
    ejabberdctl,
    `[ $UID = 0 ] && exec setpriv --reuid=ejabberd --regid=ejabberd --init-groups -- "$0" "$@"
     exec /usr/sbin/ejabberdctl ${[...options, ...places].join(' ')} "$@"`,
  );

  const ctl = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' };
    return (await promisify(execFile)(ejabberdctl, args, { env, cwd: '/' })).stdout.trimEnd();
  };
  return { ...server, config, data, binDir, ejabberdctl, host: 'localhost', port, ctl, install };
}

const ejabberdYml = (port: number) => `
hosts:
  - localhost
loglevel: info
listen:
  -
    port: ${port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: c2s
auth_password_format: scram
access_rules:
  c2s:
    allow: all
api_permissions:
  "console commands":
    from:
      - ejabberd_ctl
    who: all
    what: "*"
modules:
  mod_admin_extra: {}
  mod_offline: {}
  mod_roster: {}
`;
