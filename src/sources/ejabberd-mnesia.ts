import { readdir, stat, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { EjabberdConfig } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { formatSize } from '../output.ts';
import {
  findProgram,
  output,
  readProcess,
  searchPath,
  type SystemUser,
  systemUser,
  ToolFailure,
} from '../process.ts';
import { type Place, removePlaced } from '../temporary.ts';
import { type Evidence, withEvidence } from './evidence.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';

/**
 * What ejabberd keeps in Mnesia, saved by the running server in both of its forms.
 *
 * - `mnesia.backup` is binary: all tables at one instant (a Mnesia checkpoint), bound to the name of the node.
 * - `mnesia.txt` is Erlang terms: each table in itself, one after the other; it outlives the node's name and upgrades.
 *
 * The server itself writes them, to a folder of mode 0700 in `data`: the one place where it may surely write, as it
 * may run without a sight of /tmp. Both are plaintext there, one at a time, and gone before their stream ends. All of
 * that is done as the server's user: its folder is in its hands, and root shall not be led elsewhere by it.
 */
export function mnesiaSource(config: EjabberdConfig): Source {
  return { name: config.name, kind: 'ejabberd', streams: (context) => streams(config, context) };
}

interface Server {
  readonly ejabberdctl: string;
  readonly options: readonly string[];
  readonly place: Place;
}

interface Form {
  readonly file: string;
  /** Of ejabberdctl. */
  readonly command: string;
  readonly evidence: Evidence;
}

const forms: readonly Form[] = [
  {
    file: 'mnesia.backup',
    command: 'backup',
    // Erlang's mark of a log that was closed (cXM), and Mnesia's header in it.
    evidence: { begins: /^.{4}cXM.*log_header.*backup_log/s },
  },
  { file: 'mnesia.txt', command: 'dump', evidence: { begins: /^\{tables,\s*\[/, ends: /\}\.\n$/ } },
];

async function streams(config: EjabberdConfig, context: SourceContext): Promise<SourceStream[]> {
  const server = await reach(config, context.signal);
  const { stdout } = await ask(server, ['status'], context.signal);
  const [, node = '', status = ''] = /^The node '?(.+?)'? is started with status: (\S+)$/m.exec(stdout) ?? [];
  const [, version = ''] = /^ejabberd (\S+) is running in that node$/m.exec(stdout) ?? [];
  if (status !== 'started' || version === '')
    throw new SealiftError('source-unavailable', `ejabberd is not running: ${printable(stdout)}`, {
      hint: down,
    });
  await context.detail({ type: 'server', source: config.name, software: 'ejabberd', version, node });
  return forms.map((form) => ({ file: form.file, open: (context) => save(server, form, context) }));
}

const down = 'a running server has to write its backup: start ejabberd; see `ejabberdctl status`';

async function reach(config: EjabberdConfig, signal: AbortSignal): Promise<Server> {
  const runAs = await serverUser(config, signal);
  const ejabberdctl =
    config.ejabberdctl ??
    (await findProgram('ejabberdctl', [...searchPath(), '/usr/sbin', '/usr/local/sbin']));
  if (ejabberdctl === undefined)
    throw new SealiftError('tool-missing', 'ejabberdctl is not on the PATH', {
      hint: 'name it under `ejabberdctl`',
    });
  // Without --no-timeout it gives up on the server after a minute.
  const options = ['--no-timeout', ...(config.node === undefined ? [] : ['--node', config.node])];
  return { ejabberdctl, options, place: { within: config.data, runAs } };
}

/** Whoever the database belongs to. Only root can become somebody else. */
async function serverUser(
  { data, runAs }: EjabberdConfig,
  signal: AbortSignal,
): Promise<SystemUser | undefined> {
  if (runAs !== undefined) return systemUser(runAs, signal);
  const { uid } = await stat(data).catch((cause: unknown) => {
    throw new SealiftError('source-unavailable', `the database folder of ejabberd, ${data}, is not there`, {
      hint: 'name it under `data`',
      cause,
    });
  });
  return process.geteuid?.() === 0 ? systemUser(String(uid), signal) : undefined;
}

async function* save(
  server: Server,
  form: Form,
  context: SourceContext,
): AsyncGenerator<Uint8Array, void, void> {
  const { signal } = context;
  const { place } = server;
  await refuseWithoutRoom(place.within);
  const folder = await context.temporary(place).catch((cause: unknown) => {
    throw new SealiftError('source-denied', `ejabberd's user cannot make a folder in ${place.within}`, {
      cause,
    });
  });
  try {
    const path = join(folder, form.file);
    const { stdout, stderr } = await ask(server, [form.command, path], signal);
    // Its status is not to be relied upon: some versions print what went wrong and report success.
    if (/^(Error|Can't|Failed)\b/m.test(stdout + stderr)) throw failed(form.command, stdout + stderr);
    const bytes = readProcess({ argv: ['cat', '--', path], runAs: place.runAs }, signal);
    yield* withEvidence(bytes, form.file, form.evidence);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) throw error;
    if (!error.message.startsWith('cat ')) throw error;
    throw new SealiftError('source-empty', `ejabberdctl ${form.command} reported success and wrote nothing`, {
      hint: `ejabberd has to see the same ${place.within} as sealift, and room for its database in it`,
      cause: error,
    });
  } finally {
    // Early, to give the room back. The run removes it too, so a failure here shall not hide another error.
    await removePlaced(folder, place).catch(() => {});
  }
}

/** For what the server itself has to write meanwhile. */
const reserveBytes = 16 * 1024 * 1024;

const pathsIn = (folder: string): Promise<string[]> =>
  readdir(folder).then(
    (names) => names.map((name) => join(folder, name)),
    () => [],
  );

/** A disk that is full ends a server that keeps its log there, so it is not the backup that fills it. */
async function refuseWithoutRoom(data: string): Promise<void> {
  // They may be in a folder that is called as the node is.
  const top = await pathsIn(data);
  const below = await Promise.all(top.filter((path) => basename(path).includes('@')).map(pathsIn));
  const files = [...top, ...below.flat()].filter((path) => /\.(DCD|DCL|DAT|LOG)$/.test(path));
  const sizes = files.map((path) =>
    stat(path).then(
      ({ size }) => size,
      () => 0,
    ),
  );
  const neededBytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, reserveBytes);
  const { bavail, bsize } = await statfs(data);
  if (bavail * bsize >= neededBytes) return;
  throw new SealiftError(
    'failed',
    `${data} has ${formatSize(bavail * bsize)} free, and a copy of the database may take ${formatSize(neededBytes)}`,
    { hint: 'make room there: ejabberd, which writes the copy itself, ends when its disk is full' },
  );
}

/** Runs ejabberdctl and tells what its messages mean. It says on standard output what went wrong. */
async function ask(
  { ejabberdctl, options, place }: Server,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<{ stdout: string; stderr: string }> {
  try {
    return await output({ argv: [ejabberdctl, ...options, ...argv], runAs: place.runAs }, signal);
  } catch (error) {
    if (!(error instanceof SealiftError && error.cause instanceof ToolFailure)) throw error;
    throw failed(argv[0] ?? '', error.cause.stdout + error.cause.stderr, error);
  }
}

function failed(command: string, said: string, cause?: SealiftError): SealiftError {
  // What follows is its list of commands.
  const words = printable(said.split('\n\n')[0] ?? '') || (cause?.message ?? '');
  const [code, hint] = /nodedown|timeout/.test(words)
    ? (['source-unavailable', down] as const)
    : /can only be run by/.test(words)
      ? (['source-denied', 'run sealift as root, or as the user of ejabberd'] as const)
      : /enospc/.test(words)
        ? (['failed', 'the folder of its database needs room for a copy of it'] as const)
        : (['tool-failed', undefined] as const);
  return new SealiftError(code, `ejabberdctl ${command} failed: ${words}`, { hint, cause });
}

/** On one line, short, and without control characters. */
function printable(text: string): string {
  const line = text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/\p{Cc}/gu, '?');
  return line.length > 500 ? `${line.slice(0, 250)} ... ${line.slice(-250)}` : line;
}
