import { mkdir, open, readdir, readFile, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemCode } from '../errors.ts';
import type { NamedSegment, Recipient } from './index.ts';
import { parseSnapshotId } from './object-key.ts';

/**
 * The local memory of runs that did not finish: which segments the store has acknowledged, so that the next run can
 * adopt them. One file per run, named by its snapshot id: a line with the recipients that its folder is sealed to, then
 * a line per segment. Losing it, or its last lines, costs an upload and nothing else, so nothing waits for the disk.
 */
export interface Journal extends AsyncDisposable {
  add(segment: NamedSegment): void;
}

export async function openJournal(
  dir: string,
  snapshot: string,
  recipients: readonly Recipient[],
): Promise<Journal> {
  const file = await begin(join(dir, snapshot), recipients).catch((error: unknown) => {
    if (systemCode(error) === 'EEXIST') throw error;
    return undefined;
  });
  // A journal that cannot be written (disk full) must not end a backup: the next run uploads again.
  if (!file) return { add() {}, async [Symbol.asyncDispose]() {} };
  let lines: string[] = [];
  let writing: Promise<void> | undefined;
  const write = async (): Promise<void> => {
    while (lines.length > 0) {
      const batch = lines.join('');
      lines = [];
      await file.appendFile(batch);
    }
    writing = undefined;
  };
  return {
    add({ id, storedBytes, sha256 }) {
      lines.push(`${JSON.stringify([id, storedBytes, sha256])}\n`);
      writing ??= write().catch(() => undefined);
    },
    /** Waits until what was added is written. */
    async [Symbol.asyncDispose]() {
      await writing;
      await file.close();
    },
  };
}

async function begin(path: string, recipients: readonly Recipient[]): Promise<FileHandle> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(path, 'ax', 0o600);
  try {
    await file.appendFile(`${JSON.stringify({ recipients })}\n`);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

export interface JournalledRun {
  readonly snapshot: string;
  readonly recipients: readonly Recipient[];
  readonly segments: readonly NamedSegment[];
}

/** The runs that are remembered. The first line that is torn or makes no sense, and what follows it, is ignored. */
export async function readJournals(dir: string): Promise<JournalledRun[]> {
  const runs: JournalledRun[] = [];
  for (const snapshot of await namesIn(dir)) {
    if (!parseSnapshotId(snapshot)) continue;
    try {
      const lines = (await readFile(join(dir, snapshot), 'utf8')).split('\n').slice(0, -1);
      const { recipients } = JSON.parse(lines[0] ?? '') as { recipients: Recipient[] };
      if (!Array.isArray(recipients)) continue;
      const segments: NamedSegment[] = [];
      for (const line of lines.slice(1)) {
        const segment = segmentOf(line, snapshot);
        if (segment === undefined) break;
        segments.push(segment);
      }
      runs.push({ snapshot, recipients, segments });
    } catch {
      // Not written to its end, or gone with the commit of another job since it was listed.
    }
  }
  return runs;
}

/** None where the folder is gone. */
async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

function segmentOf(line: string, folder: string): NamedSegment | undefined {
  // As `add` writes it.
  if (!/^\["[0-9a-f]{32}",[1-9]\d{0,14},"[0-9a-f]{64}"\]$/.test(line)) return undefined;
  const [id, storedBytes, sha256] = JSON.parse(line) as [string, number, string];
  return { folder, id, storedBytes, sha256 };
}

/**
 * After a commit of this job nothing is left to adopt. Other jobs may be running: theirs stay, unless they began before that
 * time, as those of a job that is not configured any more.
 */
export async function forgetJournals(dir: string, job: string, endedMs: number): Promise<void> {
  for (const snapshot of await namesIn(dir)) {
    const id = parseSnapshotId(snapshot);
    if (id && (id.job === job || id.startedAt.getTime() < endedMs))
      await rm(join(dir, snapshot), { force: true });
  }
}
