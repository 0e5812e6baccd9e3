import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const limitMs = 60_000;

/** A server that goes to the background, installed below a folder as a package would install it below `/`. */
export interface Installation {
  readonly name: string;
  /** For the PATH; a `systemctl` that starts and stops this server, and no other, is laid down there. */
  readonly binDir: string;
  readonly pidFile: string;
  readonly log: string;
  /** A shell command that succeeds once it is ready. */
  readonly ready: string;
  /** The shell command that starts it. */
  readonly startCommand: string;
}

export interface InstalledServer extends AsyncDisposable {
  start(): Promise<void>;
  stop(): Promise<void>;
}

export async function installServer(what: Installation): Promise<InstalledServer> {
  const { name, binDir, pidFile, log, ready, startCommand } = what;
  await mkdir(binDir, { recursive: true });
  await mkdir(dirname(pidFile), { recursive: true });
  const systemctl = join(binDir, 'systemctl');
  await writeScript(
    systemctl,
    `case "$*" in
       'start ${name}') rm -f ${log}; ${startCommand}; until [ -s ${pidFile} ] && ${ready}; do sleep 0.1; done ;;
       'stop ${name}') [ -s ${pidFile} ] || exit 0; pid=$(cat ${pidFile}); kill -TERM $pid; while [ -e /proc/$pid ]; do sleep 0.1; done; rm -f ${pidFile} ;;
       # A source of kind system asks the real one.
       *list-unit*) exec /usr/bin/systemctl "$@" ;;
       *) exit 5 ;;
     esac`,
  );
  // The shell's stdin ends with this process, whatever ends it, and then it ends the server.
  const watch = `read -r line; [ -s ${pidFile} ] && kill -9 "$(cat ${pidFile})"`;
  const watcher = spawn('sh', ['-c', watch], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });

  const pid = () => (existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0);
  const runs = () => pid() > 0 && existsSync(`/proc/${pid()}`);
  const run = async (verb: string) => {
    const doing = promisify(execFile)(systemctl, [verb, name], { timeout: limitMs });
    await doing.catch(async (error: unknown) => {
      throw new Error(`${name} did not ${verb}: ${await readFile(log, 'utf8').catch(String)}`, {
        cause: error,
      });
    });
  };
  return {
    start: () => run('start'),
    stop: async () => {
      if (runs()) await run('stop');
    },
    async [Symbol.asyncDispose]() {
      if (runs()) process.kill(pid(), 'SIGKILL');
      watcher.kill('SIGKILL');
    },
  };
}

export const writeScript = (path: string, lines: string): Promise<void> =>
  writeFile(path, `#!/bin/bash\n${lines}\n`, { mode: 0o755 });

export const chown = (owner: string, ...paths: string[]) =>
  promisify(execFile)('chown', ['-R', owner, ...paths]);
