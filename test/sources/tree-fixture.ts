import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { FilesConfig } from '../../src/config/config.ts';
import { filesSource } from '../../src/sources/files.ts';
import type { SourceContext } from '../../src/sources/source.ts';
import { type Unpacked, unpackTree } from '../../src/sources/unpack.ts';
import { inPieces } from '../support/bytes.ts';

export const isRoot = process.geteuid?.() === 0;

export interface Entry {
  path: string;
  rawPath?: string;
  kind: string;
  size: number;
  offset: number;
  data: number;
  mode: number;
  uid: number;
  gid: number;
  mtime: string;
  target?: string;
}

/** An empty directory for the time of the test. */
export function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'sealift-test-'));
  t.after(() => {
    if (existsSync(path)) run('chmod', '-R', 'u+rwX', path);
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

export class Backup {
  readonly entries: Entry[] = [];
  readonly problems: { code: string; text: string }[] = [];
  readonly chunks: AsyncIterator<Uint8Array>;
  readonly abort = new AbortController();
  readonly #taken: Uint8Array[] = [];

  private constructor(open: (context: SourceContext) => AsyncIterable<Uint8Array>) {
    this.chunks = open(contextOf(this))[Symbol.asyncIterator]();
  }

  static async start(paths: string | string[], more: Partial<FilesConfig> = {}): Promise<Backup> {
    const config = {
      name: 'tree',
      kind: 'files',
      paths: [paths].flat(),
      exclude: [],
      oneFileSystem: true,
      ...more,
    };
    const source = filesSource(config as FilesConfig);
    const nothing = {
      signal: new AbortController().signal,
      problem: () => {},
      detail: async () => {},
      temporary: async () => '',
    };
    const [stream] = await source.streams(nothing);
    return new Backup((context) => stream!.open(context));
  }

  static async of(paths: string | string[], more: Partial<FilesConfig> = {}): Promise<Backup> {
    const backup = await Backup.start(paths, more);
    await backup.rest();
    return backup;
  }

  /** One more block. */
  async take(): Promise<void> {
    const { value, done } = await this.chunks.next();
    if (done !== true) this.#taken.push(new Uint8Array(value));
  }

  async rest(): Promise<Buffer> {
    for (let next = await this.chunks.next(); next.done !== true; next = await this.chunks.next())
      this.#taken.push(new Uint8Array(next.value));
    return this.tar;
  }

  get tar(): Buffer {
    return Buffer.concat(this.#taken);
  }

  entry(path: string): Entry {
    const found = this.entries.find((entry) => entry.path === path);
    if (found === undefined)
      throw new Error(`no entry ${path} among ${this.entries.map((entry) => entry.path).join(' ')}`);
    return found;
  }

  codes(): string[] {
    return this.problems.map((problem) => problem.code);
  }
}

const contextOf = (backup: Backup): SourceContext => ({
  signal: backup.abort.signal,
  problem: (code, text) => backup.problems.push({ code, text }),
  detail: async (record) => {
    backup.entries.push(record as unknown as Entry);
  },
  temporary: async () => {
    throw new Error('a tree needs no temporary directory');
  },
});

export function unpack(
  tar: Uint8Array,
  target: string,
  more: { overwrite?: boolean; sameOwner?: boolean; setuid?: boolean } = {},
): Promise<Unpacked> {
  const options = {
    signal: new AbortController().signal,
    sameOwner: isRoot,
    setuid: isRoot,
    overwrite: false,
    ...more,
  };
  return unpackTree(inPieces(tar, 100_000), target, options);
}

/** Everything that a restore must bring back, by name; hard links as the first name of the file. Times in `timeUnitNs`. */
export function describe(folder: string, timeUnitNs = 1000n): Map<string, string> {
  const lines = new Map<string, string>();
  const inodes = new Map<string, string>();
  look(Buffer.from(folder), '.');
  return lines;

  function look(at: Buffer, name: string): void {
    const stats = lstatSync(at, { bigint: true });
    const common = `${stats.mode.toString(8)} ${stats.uid}:${stats.gid} ${stats.mtimeNs / timeUnitNs}`;
    if (stats.isDirectory()) {
      lines.set(name, `${common} folder`);
      for (const child of readdirSync(at, { encoding: 'buffer' })) {
        look(Buffer.concat([at, Buffer.from('/'), child]), `${name}/${child.toString('latin1')}`);
      }
    } else if (stats.isSymbolicLink())
      lines.set(name, `${common} -> ${readlinkSync(at, { encoding: 'latin1' })}`);
    else if (stats.isFile()) {
      const first = inodes.get(`${stats.ino}`) ?? name;
      inodes.set(`${stats.ino}`, first);
      const hash = createHash('sha256').update(readFileSync(at)).digest('hex');
      lines.set(name, `${common} ${stats.size} ${hash} ${first}`);
    } else lines.set(name, `${common} special`);
  }
}

export const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: 'latin1', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'pipe'] });
