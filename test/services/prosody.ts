import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chown, installServer, type InstalledServer, writeScript } from './installed-server.ts';
import { freePorts } from './server-group.ts';
import { withoutServices } from './services.ts';

/** It refuses to run as root and becomes the user that Debian's package makes. */
export const prosodyNeeds = {
  skip: withoutServices
    ? 'needs prosody, and SEALIFT_TEST_SERVICES=none'
    : process.geteuid?.() !== 0 && 'needs root, who may become the user prosody',
};

/**
 * A Prosody as Debian installs it, but below `root`: `root/etc/prosody`, `root/var/lib/prosody` and so on. Its port is
 * on loopback, and plain passwords are taken without TLS.
 */
export interface ProsodyService extends InstalledServer {
  readonly config: string;
  readonly data: string;
  /** For the PATH: `prosodyctl` of this server, and a `systemctl` that starts and stops it. */
  readonly binDir: string;
  readonly host: 'localhost';
  readonly port: number;
  /** Runs prosodyctl; returns what it wrote, without what it says about certificates and packages. */
  ctl(...args: string[]): Promise<string>;
  /** What installing the package lays down: a configuration, and a folder without data. */
  install(): Promise<void>;
}

/** `storage` is the part of the configuration that says where the data is kept, in Lua. */
export async function installProsody(root: string, storage: string): Promise<ProsodyService> {
  const [port = 0] = await freePorts(1);
  const [config, data] = [join(root, 'etc/prosody'), join(root, 'var/lib/prosody')];
  const [logs, run, binDir] = [join(root, 'var/log/prosody'), join(root, 'run/prosody'), join(root, 'bin')];
  const [pidFile, log, main] = [
    join(run, 'prosody.pid'),
    join(logs, 'prosody.log'),
    join(config, 'prosody.cfg.lua'),
  ];

  const install = async () => {
    for (const folder of ['certs', 'conf.avail', 'conf.d'])
      await mkdir(join(config, folder), { recursive: true });
    await mkdir(data, { recursive: true });
    await chmod(data, 0o750);
    await writeFile(main, settings({ data, pidFile, log, port, storage }), { mode: 0o640 });
    await writeFile(join(config, 'conf.avail/localhost.cfg.lua'), 'VirtualHost "localhost"\n');
    if (!existsSync(join(config, 'conf.d/localhost.cfg.lua')))
      await symlink('../conf.avail/localhost.cfg.lua', join(config, 'conf.d/localhost.cfg.lua'));
    await chown('root:prosody', config);
    await chown('prosody:prosody', data);
  };

  await chmod(root, 0o755);
  await mkdir(logs, { recursive: true });
  await install();
  const as = 'setpriv --reuid=prosody --regid=prosody --init-groups --';
  const server = await installServer({
    name: 'prosody',
    binDir,
    pidFile,
    log,
    ready: `grep -qs "Activated service 'c2s'" ${log} && [ -S ${join(data, 'prosody.sock')} ]`,
    startCommand: `${as} /usr/bin/prosody -D --config ${main} >/dev/null`,
  });
  await chown('prosody:prosody', logs, run);
  const prosodyctl = join(binDir, 'prosodyctl');
  await writeScript(prosodyctl, `exec ${as} /usr/bin/prosodyctl --config ${main} "$@"`);

  const ctl = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' };
    const { stdout } = await promisify(execFile)(prosodyctl, args, { env, cwd: '/' });
    return stdout
      .replace(/^\*{9,}\n.*^\*{9,}\n/ms, '')
      .replaceAll(/^certmanager .*\n/gm, '')
      .trim();
  };
  return { ...server, config, data, binDir, host: 'localhost', port, ctl, install };
}

const settings = (of: { data: string; pidFile: string; log: string; port: number; storage: string }) => `
data_path = "${of.data}"
pidfile = "${of.pidFile}"
log = { info = "${of.log}"; }
modules_enabled = { "roster"; "saslauth"; "disco"; "posix"; "admin_shell"; }
modules_disabled = { "s2s"; "tls"; }
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { ${of.port} }
s2s_ports = {}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
certificates = "certs"
${of.storage}
Include "conf.d/*.cfg.lua"
`;
