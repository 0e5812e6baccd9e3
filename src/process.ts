import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { constants, existsSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { inBlocks } from './blocks.ts';
import { ownHome } from './config/environment.ts';
import { SealiftError, systemCode } from './errors.ts';

/**
 * Other programs, started without a shell, each as one promise or iterator that ends well only if the program did.
 *
 * - Success is exit status 0, no signal, and the natural end of standard output; all else throws.
 * - Children lead a process group of their own, so that ending one also ends what it started, and Ctrl-C on the
 *   terminal reaches them only through the signal.
 * - They see a small environment (`childEnvironment`), never this process's, and stand in `/` unless told otherwise,
 *   because another user may not be able to enter the current directory.
 */
export interface Command {
  /** The program (a path, or a name for the PATH) and its arguments. Readable by every user of the machine. */
  readonly argv: readonly string[];
  /** Added to `childEnvironment`. Readable by the user that the program runs as. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly runAs?: SystemUser | undefined;
  readonly cwd?: string | undefined;
  /**
   * Has it write in blocks of 256 KiB, where `stdbuf` (coreutils) works. By itself a program that uses C's stdio writes
   * 4 KiB at a time to a pipe, and most of what reading it costs, here and there, is by the number of writes.
   */
  readonly buffered?: boolean | undefined;
  /** Written to standard input, which is otherwise empty. */
  readonly input?: string | undefined;
  /** Texts that are hidden in what it says on standard error, of which errors and logs are made. */
  readonly secrets?: readonly string[] | undefined;
}

export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/**
 * How a program ended badly: the cause of a `tool-failed`. `stderr` holds the last 4 KiB that it wrote there; `stdout`
 * what `output` had collected, because some programs say there what went wrong.
 */
export class ToolFailure extends Error {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  readonly stdout: string;

  constructor(
    program: string,
    status: number | null,
    signal: NodeJS.Signals | null,
    stderr: string,
    stdout = '',
  ) {
    super(`${program} ${signal === null ? `ended with status ${status}` : `was ended by ${signal}`}`);
    this.name = 'ToolFailure';
    this.status = status;
    this.signal = signal;
    this.stderr = stderr;
    this.stdout = stdout;
  }
}

const tailBytes = 4096;
const outputLimitBytes = 16 * 1024 * 1024;
const graceMs = 5000;
/** What a program has said may still be in the pipe when it has ended. */
const lastWordsMs = 1000;
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Standard output of a program. Throws `tool-failed`, `tool-missing` or, when the signal aborts, its reason; the
 * program has ended by then. A consumer that stops early ends the program too. A chunk is good until the next is asked
 * for.
 */
export async function* readProcess(
  command: Command,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  if (command.buffered === true && (yield* read(command, signal, ['stdbuf', '--output=256K']))) return;
  yield* read(command, signal);
}

/** With `through`, the program that starts it: false if that did not work, and nothing has been started. */
async function* read(
  command: Command,
  signal: AbortSignal,
  through: readonly string[] = [],
): AsyncGenerator<Buffer, boolean, void> {
  let hasBegun = false;
  try {
    await using child = new Child(command, signal, { through, blockwise: true });
    for await (const chunk of child.output()) {
      hasBegun = true;
      yield chunk;
    }
    await child.succeeded();
    return true;
  } catch (error) {
    if (through.length > 0 && !hasBegun && wasNotStarted(error)) return false;
    throw error;
  }
}

/** By the system's word, or by a status: of `stdbuf` for itself (125), and of it and `setpriv` for what they cannot start. */
const wasNotStarted = (error: unknown): boolean =>
  error instanceof SealiftError &&
  (error.cause instanceof ToolFailure
    ? [125, 126, 127].includes(error.cause.status ?? 0)
    : systemCode(error.cause) !== undefined);

/** Runs a tool that says little: `tool-failed` if it writes more than 16 MiB. */
export async function output(
  command: Command,
  signal: AbortSignal,
): Promise<{ stdout: string; stderr: string }> {
  await using child = new Child(command, signal);
  const stdout = await collect(child);
  await child.succeeded(stdout);
  return { stdout, stderr: child.stderr };
}

/** Long for a tool that says what a machine is like, and short for one that waits for a disk that is gone. */
const answerMs = 5 * 60_000;

/** The same for what is asked by the way: a tool that hangs fails, like any other, and the rest goes on. */
export async function answer(
  command: Command,
  signal: AbortSignal,
  limitMs = answerMs,
): Promise<{ stdout: string; stderr: string }> {
  const patience = AbortSignal.timeout(limitMs);
  try {
    return await output(command, AbortSignal.any([signal, patience]));
  } catch (error) {
    signal.throwIfAborted();
    if (!patience.aborted || error !== patience.reason) throw error;
    const what = basename(command.argv[0] ?? '');
    throw new SealiftError('tool-failed', `${what} has not ended within ${limitMs / 1000} s`, {
      cause: error,
    });
  }
}

/**
 * Runs a program for what it does. Its exit status alone tells success: what it started may stay behind, even with its
 * output open. `say` is handed the last 4 KiB of both its outputs, line by line, once it has ended in whatever way.
 */
export async function perform(
  command: Command,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<void> {
  await using child = new Child(command, signal, { leavesChildren: true });
  const said = child.keepOutput();
  try {
    await child.succeeded();
  } finally {
    for (const text of [said(), child.stderr])
      for (const line of text.split('\n')) if (line !== '') say(line);
  }
}

/**
 * Writes `body` to a program's standard input. The last chunk is handed over only once `body` has ended naturally,
 * so a program that commits at the end of its input cannot do so when `body` throws; it is ended instead.
 * The program's own failure wins over the broken pipe that it causes.
 *
 * With `mayStopReading` a program that succeeds may leave input unread, which otherwise is a failure, and nothing is
 * held back: for programs that look at the head of a stream and change nothing.
 */
export async function feedProcess(
  command: Omit<Command, 'input'>,
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal: AbortSignal,
  { mayStopReading = false }: { mayStopReading?: boolean } = {},
): Promise<{ stdout: string; stderr: string }> {
  await using child = new Child(command, signal, { piped: true });
  const said = collect(child);
  // Until it is awaited below; the child's failure tells the same more clearly.
  said.catch(() => {});
  const tookAll = await feed(child.stdin, body, !mayStopReading);
  const stdout = await said;
  await child.succeeded(stdout);
  if (!tookAll && !mayStopReading)
    throw new SealiftError('tool-failed', `${child.program} ended before it had read all of its input`);
  return { stdout, stderr: child.stderr };
}

/** The first of these directories' programs of that name that can be started. */
export async function findProgram(name: string, directories: readonly string[]): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    if (await canBeStarted(path)) return path;
  }
  return undefined;
}

const canBeStarted = (path: string): Promise<boolean> =>
  Promise.all([access(path, constants.X_OK), stat(path)]).then(
    ([, stats]) => stats.isFile(),
    () => false,
  );

/** The directories of the PATH, or the usual ones if there is none. */
export function searchPath(): string[] {
  return (process.env['PATH'] ?? systemPath).split(':').filter((directory) => directory.startsWith('/'));
}

/** A user of this machine, from wherever it keeps them (`getent`). Throws `config-invalid` if there is none. */
export async function systemUser(name: string, signal: AbortSignal): Promise<SystemUser> {
  const argv = ['getent', 'passwd', '--', name];
  const { stdout } = await output({ argv }, signal).catch((error: unknown) => {
    if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) throw error;
    throw new SealiftError('config-invalid', `this machine has no user "${name}"`, { cause: error });
  });
  const [user = '', , uid, gid, , home = '/'] = stdout.trim().split(':');
  return { name: user, uid: Number(uid), gid: Number(gid), home };
}

/**
 * What every child sees. An allow-list, because this process's environment may hold the keys of the store: PATH, HOME
 * and TZ are passed on, and messages are asked for in English, since some of them are told apart by their text.
 */
function childEnvironment(runAs: SystemUser | undefined): Record<string, string> {
  const { PATH = systemPath, TZ } = process.env;
  const home = runAs?.home ?? (process.env['HOME'] || ownHome());
  return { PATH, HOME: home, LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8', ...(TZ === undefined ? {} : { TZ }) };
}

/**
 * `setpriv` changes the user and then becomes the program, so that signals sent to it reach the program; `runuser`
 * would stay in between as its parent. Node's own `uid` option would drop the supplementary groups, which are those of a
 * name: two users may have one number.
 */
function commandLine({ argv, runAs }: Command): string[] {
  if (runAs === undefined || runAs.uid === process.geteuid?.()) return [...argv];
  if (process.geteuid?.() !== 0)
    throw new SealiftError('config-invalid', `only root can start programs as the user ${runAs.name}`, {
      hint: `run sealift as root or as ${runAs.name}, or leave out runAs`,
    });
  // The child may have a PATH of its own, without it.
  const places = searchPath().map((directory) => join(directory, 'setpriv'));
  return [
    places.find(existsSync) ?? 'setpriv',
    `--reuid=${runAs.name}`,
    `--regid=${runAs.gid}`,
    '--init-groups',
    '--',
    ...argv,
  ];
}

/** What kills the programs that were asked to end and have not yet. They do not outlive this process. */
const ending = new Set<() => void>();
process.on('exit', () => ending.forEach((kill) => kill()));

interface ChildOptions {
  /** It is fed. */
  readonly piped?: boolean;
  /** What it started may stay behind. */
  readonly leavesChildren?: boolean;
  /** The program that starts it. */
  readonly through?: readonly string[];
  /** `output` gives blocks of 256 KiB (`blocks.ts`). */
  readonly blockwise?: boolean;
}

/** A running program. Disposing of it ends it, if it has not ended, and waits until it has. */
class Child implements AsyncDisposable {
  readonly program: string;
  readonly #child: ChildProcessByStdio<Writable | null, Readable, Readable>;
  /** Its standard output, and what that is read as. */
  readonly #stdout: Readable;
  readonly #pieces: AsyncIterable<Buffer>;
  readonly #signal: AbortSignal;
  readonly #ended = Promise.withResolvers<{ status: number | null; signal: NodeJS.Signals | null }>();
  /** The ends of what is taken in as it comes. */
  readonly #closed: Promise<unknown>[] = [];
  readonly #stop = () => void this.#end();
  readonly #secrets: readonly string[];
  readonly #leavesChildren: boolean;
  #running = true;
  #hasFailed = false;
  #startError: unknown;
  #stderr: Tail;
  #ending: Promise<void> | undefined;

  constructor(
    command: Command,
    signal: AbortSignal,
    { piped = false, leavesChildren = false, through = [], blockwise = false }: ChildOptions = {},
  ) {
    signal.throwIfAborted();
    this.program = basename(command.argv[0] ?? '');
    this.#signal = signal;
    this.#secrets = command.secrets ?? [];
    this.#leavesChildren = leavesChildren;
    this.#stderr = new Tail(this.#secrets);
    const [file = '', ...args] = commandLine({ ...command, argv: [...through, ...command.argv] });
    const input = piped || command.input !== undefined ? 'pipe' : 'ignore';
    const failed = (why: string, cause?: unknown): SealiftError =>
      new SealiftError('tool-failed', `${this.program} could not be started: ${why}`, { cause });
    try {
      this.#child = spawn(file, args, {
        cwd: command.cwd ?? '/',
        env: { ...childEnvironment(command.runAs), ...command.env },
        stdio: [input, 'pipe', 'pipe'],
        detached: true,
      }) as ChildProcessByStdio<Writable | null, Readable, Readable>;
    } catch (cause) {
      const isTooLong = systemCode(cause) === 'E2BIG';
      throw failed(isTooLong ? 'its arguments are too long' : 'it cannot be given its arguments', cause);
    }
    // Node tells of that later, and has made no pipes, whatever their type says.
    if ((this.#child.stdout as Readable | undefined) === undefined) {
      this.#child.on('error', () => {});
      throw failed('too many files are open');
    }
    const { stdout } = this.#child;
    const { pipe, blocks } = blockwise ? inBlocks(stdout) : { pipe: stdout, blocks: stdout };
    this.#stdout = pipe;
    this.#pieces = blocks;
    this.#listen();
    // A pipe that breaks is told by how the program ended; `feed` sees it by the write that fails.
    this.#child.stdin?.on('error', () => {});
    if (command.input !== undefined) this.#child.stdin?.end(command.input);
  }

  #listen(): void {
    const child = this.#child;
    const over = (status: number | null, signal: NodeJS.Signals | null) => {
      this.#running = false;
      // What a failed program left running may hold its output open, and has nothing more to say. A daemon is out of reach.
      if (status !== 0) {
        this.#hasFailed = true;
        this.#kill('SIGKILL');
        setTimeout(() => this.#stdout.destroy(), lastWordsMs).unref();
      }
      this.#ended.resolve({ status, signal });
    };
    child.once('exit', over);
    child.once('error', (error) => {
      if (child.pid !== undefined) return;
      this.#startError = error;
      over(null, null);
    });
    child.stderr.on('data', (chunk: Buffer) => this.#stderr.add(chunk));
    this.#closed.push(end(child.stderr));
    this.#signal.addEventListener('abort', this.#stop, { once: true });
  }

  get stdin(): Writable {
    if (this.#child.stdin === null) throw new Error('this child was started without a pipe to its input');
    return this.#child.stdin;
  }

  get stderr(): string {
    return this.#stderr.text();
  }

  /** Instead of `output`: takes standard output in as it comes. Returns what gives the last of it. */
  keepOutput(): () => string {
    const tail = new Tail(this.#secrets);
    this.#stdout.on('data', (chunk: Buffer) => tail.add(chunk));
    this.#closed.push(end(this.#stdout));
    return () => tail.text();
  }

  /** Ends at the end of standard output, which is not yet success. */
  async *output(): AsyncGenerator<Buffer, void, void> {
    try {
      for await (const chunk of this.#pieces) {
        this.#signal.throwIfAborted();
        yield chunk;
      }
      // A program that was ended for it ends its output, too.
      this.#signal.throwIfAborted();
    } catch (error) {
      this.#signal.throwIfAborted();
      if (!this.#hasFailed) throw error;
    }
  }

  /** Waits for the end; throws unless it was a success. */
  async succeeded(stdout?: string): Promise<void> {
    const { status, signal } = await this.#ended.promise;
    // Its last words may still be in the pipe; but a daemon that it left behind may hold the pipe open for ever.
    const waiting = new AbortController();
    await Promise.race([
      Promise.all(this.#closed),
      delay(lastWordsMs, undefined, { signal: waiting.signal }).catch(() => {}),
    ]);
    waiting.abort();
    this.#signal.throwIfAborted();
    if (this.#startError !== undefined) throw this.#notStarted(this.#startError);
    if (status === 0) return;
    throw this.#failed(new ToolFailure(this.program, status, signal, this.stderr, stdout));
  }

  #notStarted(cause: unknown): SealiftError {
    const file = this.#child.spawnfile;
    if (systemCode(cause) !== 'ENOENT')
      return new SealiftError('tool-failed', `${file} could not be started`, { cause });
    const hint = file === 'setpriv' ? 'apt-get install util-linux' : undefined;
    return new SealiftError('tool-missing', `${file} is not installed, or not on the PATH`, { hint, cause });
  }

  #failed(failure: ToolFailure): SealiftError {
    if (failure.status === 127 && failure.stderr.startsWith('setpriv: failed to execute'))
      return new SealiftError('tool-missing', `${this.program} is not installed`, { cause: failure });
    const words = printable(failure.stderr);
    return new SealiftError('tool-failed', words === '' ? failure.message : `${failure.message}: ${words}`, {
      cause: failure,
    });
  }

  /** SIGTERM, and SIGKILL after five seconds or when this process ends, to the program and what it started. */
  #end(): Promise<void> {
    this.#ending ??= (async () => {
      if (this.#running) {
        const kill = (): void => this.#kill('SIGKILL');
        this.#kill('SIGTERM');
        const timer = setTimeout(kill, graceMs);
        ending.add(kill);
        // One that became another user (sudo) may not be ended from here: it is left, and ends when its pipes break.
        const leave = setTimeout(() => this.#ended.resolve({ status: null, signal: null }), 1.2 * graceMs);
        await this.#ended.promise;
        clearTimeout(timer);
        clearTimeout(leave);
        ending.delete(kill);
        this.#child.unref();
      }
      const mayStay = this.#leavesChildren && this.#child.exitCode === 0;
      if (!this.#stdout.readableEnded && !mayStay) this.#kill('SIGKILL');
      // Only now, because a closed pipe could look like the natural end of the input.
      for (const pipe of [...this.#child.stdio, this.#stdout]) pipe?.destroy();
    })();
    return this.#ending;
  }

  #kill(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      // ESRCH: all gone. EPERM: it became another user, and ends when its pipes break.
      if (systemCode(error) !== 'ESRCH' && systemCode(error) !== 'EPERM') throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#stop);
    await this.#end();
  }
}

const end = (pipe: Readable): Promise<void> => new Promise((resolve) => pipe.once('close', resolve));

/** The last 4 KiB of what a program says, without secrets. */
class Tail {
  readonly #secrets: readonly string[];
  /** So much more is kept, so that a secret which the cut went through is still known by its rest. */
  readonly #spareBytes: number;
  #bytes: Buffer = Buffer.alloc(0);
  #isCut = false;

  constructor(secrets: readonly string[]) {
    this.#secrets = secrets.filter((secret) => secret !== '').toSorted((a, b) => b.length - a.length);
    this.#spareBytes = Math.max(0, ...this.#secrets.map((secret) => Buffer.byteLength(secret)));
  }

  add(chunk: Buffer): void {
    const all = Buffer.concat([this.#bytes, chunk]);
    this.#bytes = all.subarray(-(tailBytes + this.#spareBytes));
    this.#isCut ||= this.#bytes.length < all.length;
  }

  text(): string {
    let text = this.#bytes.toString('utf8');
    for (const secret of this.#secrets) text = text.replaceAll(secret, '[redacted]');
    // What is left of a secret at the very beginning is shorter than the spare bytes.
    if (this.#isCut) text = text.slice(this.#spareBytes);
    return text.trim();
  }
}

/** Whether the program took it all. With `holdBack` it gets the last chunk only once the body has ended. */
async function feed(
  stdin: Writable,
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  holdBack: boolean,
): Promise<boolean> {
  const write = (chunk: Uint8Array) =>
    new Promise<boolean>((resolve) => stdin.write(chunk, (error) => resolve(!error)));
  let held: Uint8Array | undefined;
  for await (const chunk of body) {
    if (chunk.length === 0) continue;
    if (held !== undefined && !(await write(held))) return false;
    held = chunk;
    if (holdBack) continue;
    if (!(await write(held))) return false;
    held = undefined;
  }
  if (held !== undefined && !(await write(held))) return false;
  stdin.end();
  return true;
}

async function collect(child: Child): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of child.output()) {
    sizeBytes += chunk.length;
    if (sizeBytes > outputLimitBytes)
      throw new SealiftError('tool-failed', `${child.program} wrote more than ${outputLimitBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** On one line and without control characters, which could play tricks on a terminal. */
function printable(text: string): string {
  return text
    .split(/\s*\n\s*/)
    .join('; ')
    .replace(/\p{Cc}/gu, '?');
}
