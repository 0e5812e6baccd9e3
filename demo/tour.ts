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
  const before = lookAt(stage);
  describeServer(stage, before);
  await makeKeys(stage);
  await backUpFirst(stage);
  await liveOn(stage, chat);
  const after = lookAt(stage);
  const { first, second } = await backUpAgain(stage);
  await audit(stage);
  await restoreLatest(stage, after);
  await restoreEarlier(stage, first.system.startedAt, before);
  await openByHand(stage, second.databases.snapshot, join('restored/databases/chat', databaseFile));
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

function openServer({ server }: Stage): ChatDatabase {
  writeConfigTree(join(server.folder, 'etc'));
  return createChatDatabase(join(server.folder, databaseFile), 34_000);
}

function describeServer({ folder, server, tell }: Stage, { content, tree }: State): void {
  const { size } = statSync(join(server.folder, databaseFile));
  tell.heading('The server');
  tell.say(`jabber1 keeps ${count(content.accounts)} accounts and ${count(content.messages)} messages in
    ${databaseFile} (${formatSize(size)}), which stays open all the time, and ${tree.size} files,
    folders and links in etc/.`);
  tell.say(`Folders play the machines here: jabber1, the laptop of Ada, who operates it, and an auditor's. Another one is
    the store; it could as well be a bucket. All of them are in ${folder}, and nothing outside of it is touched.`);
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
  stage.tell
    .say(`Each job reads its sources, cuts them into pieces, seals every piece to Ada's key and signs the list of
    them. Afterwards nobody can open them without her private key, not even jabber1.`);
  await run(stage, stage.server, ['backup']);
}

const newMessages = 300;
const edited = 'etc/ejabberd/ejabberd.yml';

async function liveOn({ server, signal, tell }: Stage, chat: ChatDatabase): Promise<void> {
  chat.chat(newMessages);
  appendFileSync(join(server.folder, edited), 'language: de\n');
  tell.heading('Life goes on');
  tell.say(`${newMessages} messages are written, and somebody adds a line to ${edited}. Then the next backup is
    due:`);
  // Times of snapshots are whole seconds, and the first two are going to be asked for by theirs.
  await pause(1050 - (Date.now() % 1000), undefined, { signal });
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

async function backUpAgain(stage: Stage): Promise<{ first: Run; second: Run }> {
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

async function audit(stage: Stage): Promise<void> {
  const { auditor, laptop, tell } = stage;
  tell.heading('Somebody else checks');
  tell.say(
    `The auditor has no private key, and nothing of jabber1 but the fingerprint that init printed there:`,
  );
  const [fingerprint = ''] = fingerprintOf(laptop);
  await run(stage, auditor, ['keys', 'trust', fingerprint]);
  tell.say('With that, every byte can be checked: that it is there, and that it is what jabber1 signed.');
  await run(stage, auditor, ['verify', '--all', '--read-data']);
}

const fingerprintOf = ({ folder }: Machine): string[] =>
  /\b[0-9A-F]{40}\b/.exec(readFileSync(join(folder, 'restore-kit/RESTORE.md'), 'utf8')) ?? [];

const unlocked = [
  ['--key', 'keys/ada-lovelace.key.asc'],
  ['--passphrase-file', 'passphrase'],
] as const;

async function restoreLatest(stage: Stage, wanted: State): Promise<void> {
  stage.tell.heading('Bringing it back');
  stage.tell.say('Suppose that jabber1 is lost. On her laptop, Ada has the private key:');
  await run(stage, stage.laptop, ['restore', ['--to', 'restored'], ...unlocked]);
  const { content, tree } = restored(stage, 'restored');
  demandSame(wanted.content, content, 'the restored database');
  demandSameTree(wanted.tree, tree);
  stage.tell.verbatim('The demo compares for itself:');
  stage.tell
    .proved(`all ${count(content.accounts)} accounts and ${count(content.messages)} messages are the same,
    row by row`);
  stage.tell.proved(`all ${tree.size} files, folders and links are the same: content, mode, time, target`);
}

async function restoreEarlier(stage: Stage, at: string, wanted: State): Promise<void> {
  stage.tell.say('And as it was at the time of the first backup:');
  await run(stage, stage.laptop, ['restore', ['--at', at], ['--to', 'earlier'], ...unlocked]);
  const { content, tree } = restored(stage, 'earlier');
  demandSame(wanted.content, content, 'the database of the first backup');
  demandSameTree(wanted.tree, tree);
  stage.tell.verbatim('Compared again:');
  stage.tell
    .proved(`${count(content.messages)} messages, those of the first backup, without the ${newMessages} later
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
  tell.say(
    `That took ${seconds.toFixed(1)} seconds. Everything is still there, to try more (show, verify, backup, --help):`,
  );
  tell.verbatim(`  cd ${shellWord(server.folder)}\n  ${shellWord(program)} list`);
  tell.say('and when you have seen enough:');
  tell.verbatim(`  cd; rm -r ${shellWord(folder)}`);
}

const count = (number: number): string => number.toLocaleString('en');
