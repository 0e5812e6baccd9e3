import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';

/**
 * A program of its own (see `sqlite.ts`): SQLite's calls block the thread they run on, and only the end of a process
 * interrupts them in the middle of a large database. Takes a `Task` as its argument and prints an `Outcome`, both JSON.
 */
export type Task =
  | { readonly do: 'copy'; readonly from: string; readonly to: string; readonly immutable: boolean }
  | { readonly do: 'check'; readonly path: string }
  | { readonly do: 'release'; readonly path: string };

/** What the database is like, or what is wrong. */
export type Outcome = { readonly facts: Facts } | Failure;

export interface Failure {
  /** SQLite's result code (https://www.sqlite.org/rescode.html), or that `integrity_check` found something. */
  readonly code: number | 'not-intact';
  readonly message: string;
}

export interface Facts {
  readonly sqlite: string;
  readonly journalMode: string;
  readonly pageCount: number;
  readonly pageSize: number;
  readonly userVersion: number;
}

/** A writer may hold the whole database for that long (rollback journals only; WAL readers never wait). */
const busyTimeoutMs = 60_000;

function perform(task: Task): Outcome {
  switch (task.do) {
    case 'copy':
      return copy(task);
    case 'check': {
      const db = open(task.path, true, 0);
      const facts = factsOf(db);
      const found = db.prepare('PRAGMA integrity_check(3)').all().flatMap(Object.values).map(String);
      db.close();
      return found.join() === 'ok' ? { facts } : { code: 'not-intact', message: found.join('; ') };
    }
    case 'release': {
      // Neither statement succeeds while another connection is at work; the first also empties the write-ahead log.
      const db = open(task.path, false, 1000);
      db.exec('PRAGMA journal_mode = DELETE');
      db.exec('BEGIN EXCLUSIVE');
      db.exec('ROLLBACK');
      const facts = factsOf(db);
      db.close();
      return { facts };
    }
  }
}

/** Compact, consistent, without what was deleted; the same bytes as long as the content is the same. */
function copy({ from, to, immutable }: Extract<Task, { do: 'copy' }>): Outcome {
  const url = pathToFileURL(from);
  if (immutable) url.search = '?immutable=1';
  const db = open(url, true, busyTimeoutMs);
  const facts = factsOf(db);
  db.prepare('VACUUM INTO ?').run(to);
  db.close();
  return { facts };
}

function open(path: string | URL, readOnly: boolean, timeout: number): DatabaseSync {
  // Without it a copy cannot be made of a schema that has such strings, which SQLite otherwise takes (`kind IN ("a")`).
  const db = new DatabaseSync(path, { readOnly, timeout, enableDoubleQuotedStringLiterals: true });
  // The schema of a stranger's file shall not call functions with side effects.
  db.exec('PRAGMA trusted_schema = OFF');
  return db;
}

function factsOf(db: DatabaseSync): Facts {
  const value = (query: string) => Object.values(db.prepare(query).get() ?? {})[0];
  return {
    sqlite: String(value('SELECT sqlite_version()')),
    journalMode: String(value('PRAGMA journal_mode')),
    pageCount: Number(value('PRAGMA page_count')),
    pageSize: Number(value('PRAGMA page_size')),
    userVersion: Number(value('PRAGMA user_version')),
  };
}

function outcome(task: Task): Outcome {
  try {
    return perform(task);
  } catch (error) {
    if (!(error instanceof Error && 'errcode' in error)) throw error;
    // The low byte is the code; the rest only refines it.
    return { code: Number(error.errcode) & 0xff, message: error.message };
  }
}

if (import.meta.main)
  process.stdout.write(JSON.stringify(outcome(JSON.parse(process.argv[2] ?? '') as Task)));
