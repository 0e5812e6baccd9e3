import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { formatSize } from '../src/output.ts';
import type { ChatDatabase } from './chat-database.ts';
import { ask, run } from './program.ts';
import type { Stage } from './stage.ts';

export async function backUpFirst(stage: Stage): Promise<void> {
  stage.tell.heading('The first backup');
  stage.tell
    .say(`Each job reads its sources, cuts them into pieces, seals every piece to Ada's key and signs the list of
    them. Afterwards nobody can open them without her private key, not even jabber1.`);
  await run(stage, stage.server, ['backup']);
}

export const newMessages = 300;
export const edited = 'etc/ejabberd/ejabberd.yml';

export async function liveOn({ server, signal, tell }: Stage, chat: ChatDatabase): Promise<void> {
  // Times of snapshots are whole seconds, and the first two are going to be asked for by theirs.
  const nextSecond = pause(1050 - (Date.now() % 1000), undefined, { signal });
  chat.chat(newMessages);
  appendFileSync(join(server.folder, edited), 'language: de\n');
  tell.heading('Life goes on');
  tell.say(`${newMessages} messages are written, and somebody adds a line to ${edited}. Then the next backup is
    due:`);
  await nextSecond;
}

/** A row of `sealift list --json`, as far as it is told here. */
interface Row {
  readonly job: string;
  readonly snapshot: string;
  readonly startedAt: string;
  readonly status: string;
  readonly bytes: number;
  readonly newBytes: number;
}

interface Run {
  readonly databases: Row;
  readonly system: Row;
}

export async function backUpAgain(stage: Stage): Promise<{ first: Run; second: Run }> {
  const { tell, server } = stage;
  await run(stage, server, ['backup']);
  const { snapshots } = (await ask(stage, server, ['list'])) as { snapshots: Row[] };
  const [second, first] = [runAt(snapshots, 0), runAt(snapshots, 1)];
  const { databases, system } = second;
  const share = Math.round((100 * databases.newBytes) / databases.bytes);
  tell.say(`All ${formatSize(databases.bytes)} of the database were read again, but only the pieces that had changed were
    stored: ${formatSize(databases.newBytes)}, or ${share} %. (etc/ fits into one piece, which is new:
    ${formatSize(system.newBytes)}.) Every snapshot is whole all the same:`);
  await run(stage, server, ['list']);
  return { first, second };
}

/** The snapshots of one run, counted from the newest. */
function runAt(rows: readonly Row[], index: number): Run {
  const snapshotOf = (name: string): Row => {
    const row = rows.filter(({ job, status }) => job === name && status === 'complete')[index];
    if (row === undefined) throw new Error(`sealift lists too few complete snapshots of job ${name}`);
    return row;
  };
  return { databases: snapshotOf('databases'), system: snapshotOf('system') };
}
