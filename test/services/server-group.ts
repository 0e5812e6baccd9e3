import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type ListenOptions, type Server } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const startLimitMs = 60_000;
const stopLimitMs = 10_000;

export interface Program {
  command: string;
  args: string[];
  /** The user to become; needs root. Absent: whoever runs the tests. */
  user?: string | undefined;
  env?: NodeJS.ProcessEnv;
  input?: string;
}

/**
 * The processes of one service. Whatever stops the start (a server that dies, the limit, the caller's signal)
 * aborts `signal`, and with it every step that waits. Disposal ends the servers, newest first.
 */
export class ServerGroup implements AsyncDisposable {
  readonly signal: AbortSignal;
  readonly #logDir: string;
  readonly #died = new AbortController();
  readonly #servers: { child: ChildProcess; endSignal: NodeJS.Signals }[] = [];
  #ending = false;
  #lastRefusal: unknown;

  constructor(logDir: string, callerSignal?: AbortSignal) {
    this.#logDir = logDir;
    const reasons = [this.#died.signal, AbortSignal.timeout(startLimitMs)];
    this.signal = AbortSignal.any(callerSignal ? [callerSignal, ...reasons] : reasons);
  }

  /** Starts a server that stays in the foreground; `endSignal` is the one that makes it go. */
  async start(name: string, program: Program, endSignal: NodeJS.Signals): Promise<void> {
    this.signal.throwIfAborted();
    const log = openSync(join(this.#logDir, `${name}.out`), 'a');
    // A session of its own: Ctrl-C reaches the runner alone, which ends the tests before their servers.
    const [command, args, env] = commandLine(program, endSignal);
    const child = spawn(command, args, { env, cwd: '/', detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    await once(child, 'spawn');
    this.#servers.push({ child, endSignal });
    child.once('exit', (code, signal) => {
      if (this.#ending) return;
      const reason = `${name} ended by itself with ${signal ?? `status ${code}`}`;
      process.stderr.write(`${reason}\n`);
      this.#died.abort(new Error(reason));
    });
  }

  /** Runs a program to its end and returns what it wrote to stdout. */
  async run(program: Program): Promise<string> {
    this.signal.throwIfAborted();
    const [command, args, env] = commandLine(program, 'SIGKILL');
    // A group of its own, so that an abort also ends its children (initdb has some), which would go on writing.
    const child = spawn(command, args, { env, cwd: '/', detached: true });
    const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    const abort = () => {
      try {
        if (child.pid) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The group has ended in this moment, which is all that was wanted.
      }
    };
    this.signal.addEventListener('abort', abort);
    // A program that ends without reading its input says why itself; the broken pipe adds nothing.
    child.stdin.on('error', () => {}).end(program.input);
    const [stdout, stderr, [status, signal]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      closed,
    ]);
    this.signal.removeEventListener('abort', abort);
    this.signal.throwIfAborted();
    if (status === 0) return stdout;
    throw new Error(`${program.command} ended with ${signal ?? `status ${status}`}\n${stderr}`);
  }

  /** Tries until the server answers as it should. */
  async until(attempt: () => Promise<unknown>): Promise<void> {
    for (;;) {
      try {
        await attempt();
        return;
      } catch (error) {
        this.signal.throwIfAborted();
        this.#lastRefusal = error;
        await sleep(50, undefined, { signal: this.signal });
      }
    }
  }

  /** What stopped the start, with the last lines of every log. */
  failure(what: string, error: unknown): Error {
    const cause: unknown = this.signal.aborted ? this.signal.reason : error;
    const lines = [`${what} did not start: ${messageOf(cause)}`];
    if (this.#lastRefusal) lines.push(`--- last attempt to use it`, messageOf(this.#lastRefusal));
    for (const name of readdirSync(this.#logDir).toSorted()) {
      const log = readFileSync(join(this.#logDir, name), 'utf8').trimEnd();
      if (log) lines.push(`--- ${name}`, ...log.split('\n').slice(-8));
    }
    return new Error(lines.join('\n'), { cause });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true;
    for (const { child, endSignal } of this.#servers.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = once(child, 'exit');
      child.kill(endSignal);
      const kill = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
      await gone;
      clearTimeout(kill);
    }
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === 'TimeoutError' ? `not ready after ${startLimitMs / 1000} s` : error.message.trimEnd();
}

/**
 * Through setpriv, which replaces itself by the program, so that the process id is the program's own (runuser
 * stays in between), and which lets the kernel end it when the runner vanishes without a chance to do so.
 * The environment is the program's alone: PG* and CEPH_* variables of the operator must not reach it. It works in
 * the root directory, which every user may enter, and from which Debian's Ceph 18 looks for its plug-ins.
 */
function commandLine(program: Program, endSignal: NodeJS.Signals): [string, string[], NodeJS.ProcessEnv] {
  const user = program.user ? ['--reuid', program.user, '--regid', program.user, '--init-groups'] : [];
  const ending = ['--pdeathsig', endSignal.replace('SIG', '')];
  const env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', ...program.env };
  return ['setpriv', [...user, ...ending, '--', program.command, ...program.args], env];
}

let nextPort = (process.pid % 120) * 100;

/**
 * Loopback ports that nobody listens on, and nobody else gets before this process ends. They lie below Linux's range for
 * outgoing connections, so that none of those takes one before its server does.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = 20_000 + (nextPort++ % 12_000);
    // An abstract socket goes with its process. Held, it says on the whole machine that the port is given away.
    const claim = await listening({ path: `\0sealift-test-port-${port}` });
    const probe = claim && (await listening({ port, host: '127.0.0.1' }));
    if (probe) ports.push(port);
    probe?.close();
  }
  return ports;
}

/** Undefined where that is taken. */
async function listening(at: ListenOptions): Promise<Server | undefined> {
  const server = createServer()
    .listen({ ...at, exclusive: true })
    .unref();
  return once(server, 'listening').then(
    () => server,
    () => undefined,
  );
}

/**
 * Waits for servers that start side by side. Where one does not start, the others are ended: a process with a server
 * below it would not end itself.
 */
export async function startedTogether<Starts extends readonly Promise<AsyncDisposable>[]>(
  ...starts: Starts
): Promise<{ -readonly [K in keyof Starts]: Awaited<Starts[K]> }> {
  const results = await Promise.allSettled(starts);
  const failure = results.find((result) => result.status === 'rejected');
  const started = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  if (failure === undefined) return started as { -readonly [K in keyof Starts]: Awaited<Starts[K]> };
  for (const server of started) await server[Symbol.asyncDispose]();
  throw failure.reason;
}
