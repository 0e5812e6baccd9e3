import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePorts } from './server-group.ts';
import { withoutServices } from './services.ts';

/** Debian's ejabberdctl serves root and the user ejabberd only. */
export const ejabberdNeeds = {
  skip: withoutServices
    ? 'needs ejabberd, and SEALIFT_TEST_SERVICES=none'
    : process.geteuid?.() !== 0 && 'needs root, who may run ejabberdctl',
};

const limitMs = 60_000;

/**
 * An ejabberd as Debian installs it, but below `root`: `root/etc/ejabberd`, `root/var/lib/ejabberd` and so on. Its
 * ports are on loopback; it has neither epmd nor the machine's cookie. Plain passwords are taken without TLS.
 */
export interface EjabberdService extends AsyncDisposable {
  readonly root: string;
  readonly config: string;
  readonly data: string;
  /** For the PATH: `ejabberdctl` of this server, and a `systemctl` that starts and stops it. */
  readonly binDir: string;
  readonly ejabberdctl: string;
  readonly host: 'localhost';
  readonly port: number;
  /** Runs ejabberdctl as the server's user; returns what it wrote, without the last line break. */
  ctl(...args: string[]): Promise<string>;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** What installing the package lays down: a configuration, and a folder without a database. */
  install(): Promise<void>;
}

export async function installEjabberd(root: string): Promise<EjabberdService> {
  const [port = 0, distributionPort = 0] = await freePorts(2);
  const [config, data] = [join(root, 'etc/ejabberd'), join(root, 'var/lib/ejabberd')];
  const [logs, run, binDir] = [join(root, 'var/log/ejabberd'), join(root, 'run'), join(root, 'bin')];
  const pidFile = join(run, 'ejabberd.pid');
  const ejabberdctl = join(binDir, 'ejabberdctl');

  const settings = [
    'ERL_OPTIONS="-env ERL_CRASH_DUMP_BYTES 0"',
    'INET_DIST_INTERFACE=127.0.0.1',
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
    await writeFile(join(config, 'ejabberd.yml'), ejabberdYml(port), { mode: 0o600 });
    await copyFile('/etc/ejabberd/inetrc', join(config, 'inetrc'));
    await writeFile(join(root, 'etc/default/ejabberd'), settings);
    if (!existsSync(join(config, 'ejabberdctl.cfg')))
      await symlink('../default/ejabberd', join(config, 'ejabberdctl.cfg'));
    await chown('root:ejabberd', config);
    await chown('ejabberd:ejabberd', data, join(config, 'ejabberd.yml'));
  };

  await chmod(root, 0o755);
  for (const folder of [logs, run, binDir]) await mkdir(folder, { recursive: true });
  await install();
  await chown('ejabberd:ejabberd', logs, run);
  const options = ['--config-dir', config, '--config', join(config, 'ejabberd.yml')];
  const places = ['--ctl-config', join(config, 'ejabberdctl.cfg'), '--spool', data, '--logs', logs];
  const script = (path: string, lines: string) => writeFile(path, `#!/bin/bash\n${lines}\n`, { mode: 0o755 });
  // Debian's would use su, which changes HOME.
  await script(
    ejabberdctl,
    `[ $UID = 0 ] && exec setpriv --reuid=ejabberd --regid=ejabberd --init-groups -- "$0" "$@"
     exec /usr/sbin/ejabberdctl ${[...options, ...places].join(' ')} "$@"`,
  );
  // The client is an Erlang machine of its own: seconds for each call. And a server that is told to stop before it has
  // said that it is started may never do so.
  const log = join(logs, 'ejabberd.log');
  const started = `grep -qs 'is started in the node' ${log}`;
  await script(
    join(binDir, 'systemctl'),
    `case "$*" in
       'start ejabberd') rm -f ${log}; ${ejabberdctl} start; until ${started}; do sleep 0.1; done ;;
       'stop ejabberd') kill -TERM $(cat ${pidFile}); while [ -e ${pidFile} ]; do sleep 0.1; done ;;
       *) exit 5 ;;
     esac`,
  );

  const ctl = async (...args: string[]): Promise<string> => {
    const env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' };
    return (await promisify(execFile)(ejabberdctl, args, { env, cwd: '/' })).stdout.trimEnd();
  };
  const pid = () => (existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0);
  const runs = () => pid() > 0 && existsSync(`/proc/${pid()}`);

  // It daemonizes. The shell's stdin ends with this process, whatever ends it, and then it ends the server.
  const watch = `read -r line; [ -s ${pidFile} ] && kill -9 "$(cat ${pidFile})"`;
  const watcher = spawn('sh', ['-c', watch], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });

  const systemctl = async (verb: 'start' | 'stop') => {
    const doing = promisify(execFile)(join(binDir, 'systemctl'), [verb, 'ejabberd'], { timeout: limitMs });
    await doing.catch(async (error: unknown) => {
      throw new Error(`ejabberd did not ${verb}: ${await readFile(log, 'utf8').catch(String)}`, {
        cause: error,
      });
    });
  };
  const start = () => systemctl('start');
  const stop = async () => {
    if (runs()) await systemctl('stop');
  };
  return {
    ...{ root, config, data, binDir, ejabberdctl, host: 'localhost', port, ctl, start, stop, install },
    async [Symbol.asyncDispose]() {
      if (runs()) process.kill(pid(), 'SIGKILL');
      watcher.kill('SIGKILL');
    },
  };
}

const chown = (owner: string, ...paths: string[]) => promisify(execFile)('chown', ['-R', owner, ...paths]);

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
  mod_vcard: {}
`;

/** Nothing that anybody knows. */
export const newPassword = (): string => `p${randomBytes(9).toString('hex')}`;
