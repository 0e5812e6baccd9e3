import { appendFileSync, cpSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { formatSize } from '../src/output.ts';
import { openByHand } from './by-hand.ts';
import { type ChatDatabase, type Content, createChatDatabase, readContent } from './chat-database.ts';
import { demandSame, demandSameTree, readTree, type Tree } from './compare.ts';
import { writeConfigTree } from './config-tree.ts';
import { ask, program, run, runToQuote, shellWord } from './program.ts';
import type { Machine, Stage } from './stage.ts';

const databaseFile = 'ejabberd.sqlite';
const jobs = `jobs:
  databases:
    schedule: "0 */2 * * *"
    sources:
      - { name: chat, kind: sqlite, path: ${databaseFile} }
  system:
    schedule: "15 */2 * * *"
    sources:
      - { name: etc, kind: files, paths: [etc] }
`;

/** The story, one chapter after the other. Throws at the first thing that is not as it should be. */
export async function tour(stage: Stage): Promise<void> {
  const startedMs = performance.now();
  stage.tell.title('sealift: a chat server is backed up, checked, and brought back');
  using chat = openServer(stage);
  await makeKeys(stage);
  await backUpFirst(stage);
  const before = lookAt(stage);
  const { databases, system } = await snapshots(stage);
  await liveOn(stage, chat, system);
  const after = lookAt(stage);
  await backUpAgain(stage);
  await audit(stage);
  await restoreLatest(stage, after);
  await restoreEarlier(stage, system, before, after);
  const newest = await snapshots(stage);
  demandSame(false, newest.databases.snapshot === databases.snapshot, 'the second run made no snapshot');
  await openByHand(stage, newest.databases.snapshot, join('restored/databases/chat', databaseFile));
  farewell(stage, (performance.now() - startedMs) / 1000);
}

/** What the server has at one moment. */
interface State {
  readonly content: Content;
  readonly tree: Tree;
}

const lookAt = ({ server }: Stage): State => ({
  content: readContent(join(server.folder, databaseFile)),
  tree: readTree(join(server.folder, 'etc')),
});

function openServer({ server, tell }: Stage): ChatDatabase {
  const database = join(server.folder, databaseFile);
  const chat = createChatDatabase(database, 45_000);
  writeConfigTree(join(server.folder, 'etc'));
  const { content, tree } = { content: readContent(database), tree: readTree(join(server.folder, 'etc')) };
  tell.heading('The server');
  tell.say(`jabber1 keeps ${count(content.accounts)} accounts and ${count(content.messages)} messages in
    ${databaseFile} (${formatSize(statSync(database).size)}), which stays open all the time, and ${tree.size} files,
    folders and links in etc/. Three folders play three machines: jabber1, the laptop of its operator, and an
    auditor. A fourth is the store, which could as well be a bucket.`);
  return chat;
}

async function makeKeys(stage: Stage): Promise<void> {
  const { server, laptop, store, tell } = stage;
  tell.heading('Keys and configuration');
  tell.say('Ada makes a key pair on her laptop. Only its public half goes to the server.');
  writeFileSync(join(laptop.folder, 'passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
  const made = await runToQuote(stage, laptop, [
    'keys',
    'generate',
    ['--user-id', 'Ada Lovelace <ada@example.org>'],
    ['--passphrase-file', 'passphrase'],
    ['--out', 'keys'],
  ]);
  tell.verbatim(quote(made, /^Key pair|^ {2}fingerprint/));
  const initialised = await runToQuote(stage, server, [
    'init',
    ['--host', 'jabber1'],
    ['--store', '../store'],
    ['--state-dir', 'state'],
    ['--recipient', '../laptop/keys/ada-lovelace.pub.asc'],
  ]);
  tell.verbatim(quote(initialised, /^Host key|^ {2}[0-9A-F]{4} /));
  tell.say('init wrote a commented sealift.yaml. What is to be backed up goes to its end:');
  tell.verbatim(jobs);
  const config = join(server.folder, 'sealift.yaml');
  writeFileSync(config, readFileSync(config, 'utf8').replace(/^jobs:[^]*/m, jobs));
  for (const reader of [laptop, stage.auditor])
    writeFileSync(
      join(reader.folder, 'sealift.yaml'),
      `store: { kind: directory, path: ${JSON.stringify(store)} }\nhosts: hosts\n`,
    );
  // As Ada is asked to: what a restore starts from belongs beside the private key.
  cpSync(join(server.folder, 'restore-kit'), join(laptop.folder, 'restore-kit'), { recursive: true });
  mkdirSync(join(laptop.folder, 'hosts'));
  cpSync(join(server.folder, 'restore-kit/host.asc'), join(laptop.folder, 'hosts/jabber1.asc'));
}

/** The lines that matter; dots stand for the others. */
const quote = (lines: readonly string[], wanted: RegExp): string =>
  [...lines.filter((line) => wanted.test(line)), '  ...'].join('\n');

async function backUpFirst(stage: Stage): Promise<void> {
  stage.tell.heading('The first backup');
  await run(stage, stage.server, ['backup']);
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

/** The newest snapshot of each job. */
async function snapshots(stage: Stage): Promise<{ databases: Row; system: Row }> {
  const { snapshots: rows } = (await ask(stage, stage.server, ['list'])) as { snapshots: Row[] };
  const newest = (job: string): Row => {
    const row = rows.find((row) => row.job === job && row.status === 'complete');
    if (row === undefined) throw new Error(`there is no complete snapshot of job ${job}`);
    return row;
  };
  return { databases: newest('databases'), system: newest('system') };
}

const newMessages = 300;
const edited = 'etc/ejabberd/ejabberd.yml';

async function liveOn({ server, signal, tell }: Stage, chat: ChatDatabase, { startedAt }: Row): Promise<void> {
  chat.chat(newMessages);
  appendFileSync(join(server.folder, edited), 'language: de\n');
  tell.heading('Life goes on');
  tell.say(`${newMessages} messages are written, and somebody adds a line to ${edited}. Two hours later the next
    backup is due:`);
  // Snapshots know whole seconds, and the first two are going to be asked for by their time.
  const nextSecond = Date.parse(startedAt) + 1100;
  await pause(Math.max(0, nextSecond - Date.now()), undefined, { signal });
}

async function backUpAgain(stage: Stage): Promise<void> {
  const { tell, server } = stage;
  await run(stage, server, ['backup']);
  const { databases, system } = await snapshots(stage);
  const told = [databases, system].map(
    ({ job, bytes, newBytes }) =>
      `${job} read ${formatSize(bytes)} and stored ${formatSize(newBytes)}${newBytes < bytes / 2 ? ` (1/${Math.round(bytes / newBytes)})` : ''}`,
  );
  tell.say(`Everything was read again, but only what had changed was stored: ${told.join('; ')}. Both runs can be
    restored whole:`);
  await run(stage, server, ['list']);
}

async function audit(stage: Stage): Promise<void> {
  const { auditor, laptop, tell } = stage;
  tell.heading('Somebody else checks');
  tell.say(`The auditor has no private key, and nothing of the server but its fingerprint, compared by telephone.
    That is enough to see that every byte is there and is what jabber1 signed:`);
  const [fingerprint = ''] = fingerprintOf(laptop);
  await runToQuote(stage, auditor, ['keys', 'trust', fingerprint]);
  await run(stage, auditor, ['verify', '--all', '--read-data']);
}

const fingerprintOf = ({ folder }: Machine): string[] =>
  /\b[0-9A-F]{40}\b/.exec(readFileSync(join(folder, 'restore-kit/RESTORE.md'), 'utf8')) ?? [];

const unlocked = [
  ['--key', 'keys/ada-lovelace.key.asc'],
  ['--passphrase-file', 'passphrase'],
] as const;

async function restoreLatest(stage: Stage, wanted: State): Promise<void> {
  stage.tell.heading('The disk is gone');
  stage.tell.say('Ada brings everything back, with her private key and its passphrase:');
  await run(stage, stage.laptop, ['restore', ['--to', 'restored'], ...unlocked]);
  const { content, tree } = restored(stage, 'restored');
  demandSame(wanted.content, content, 'the restored database');
  demandSameTree(wanted.tree, tree);
  stage.tell.verbatim('The demo compares for itself:');
  stage.tell.proved(`all ${count(content.accounts)} accounts and ${count(content.messages)} messages are the same,
    row by row`);
  stage.tell.proved(`all ${tree.size} files, folders and links are the same: content, mode, time, target`);
}

async function restoreEarlier(stage: Stage, { startedAt }: Row, wanted: State, after: State): Promise<void> {
  stage.tell.say('And as it was at the time of the first backup:');
  await run(stage, stage.laptop, ['restore', ['--at', startedAt], ['--to', 'earlier'], ...unlocked]);
  const { content, tree } = restored(stage, 'earlier');
  demandSame(wanted.content, content, 'the database of the first backup');
  demandSameTree(wanted.tree, tree);
  demandSame(newMessages, after.content.messages - content.messages, 'messages written after it');
  stage.tell.verbatim('Compared again:');
  stage.tell.proved(`${count(content.messages)} messages, those of the first backup, without the ${newMessages} later
    ones`);
  stage.tell.proved(`${edited} has its old content, mode and time again`);
}

/** A tree comes back below the path that it had. */
const restored = ({ laptop, server }: Stage, folder: string): State => ({
  content: readContent(join(laptop.folder, folder, 'databases/chat', databaseFile)),
  tree: readTree(join(laptop.folder, folder, 'system/etc', server.folder, 'etc')),
});

function farewell({ folder, server, tell }: Stage, seconds: number): void {
  tell.heading('Look around');
  tell.say(`That took ${seconds.toFixed(1)} seconds. Everything is still there:`);
  tell.verbatim(
    [
      `cd ${shellWord(server.folder)}`,
      `${shellWord(program)} list                 # or show, verify, backup, --help`,
      `rm -r ${shellWord(folder)}   # when you have seen enough`,
    ].join('\n'),
  );
}

const count = (number: number): string => number.toLocaleString('en');
