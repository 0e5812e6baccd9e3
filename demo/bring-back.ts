import { join } from 'node:path';
import { edited, newMessages } from './back-up.ts';
import { readContent } from './chat-database.ts';
import { demandSame, demandSameTree, readTree } from './compare.ts';
import { run } from './program.ts';
import { count, databaseFile, type State } from './server.ts';
import type { Stage } from './stage.ts';

const unlocked = [
  ['--key', 'keys/ada-lovelace.key.asc'],
  ['--passphrase-file', 'passphrase'],
] as const;

export async function restoreLatest(stage: Stage, wanted: State): Promise<void> {
  stage.tell.heading('Bringing it back');
  stage.tell.say('Suppose that jabber1 is lost. On her laptop, Ada has the private key:');
  await run(stage, stage.laptop, ['restore', ['--to', 'restored'], ...unlocked]);
  const { content, tree } = restored(stage, 'restored');
  demandSame(wanted.content, content, 'the restored database');
  demandSameTree(wanted.tree, tree);
  stage.tell.say('The demo compares for itself:');
  stage.tell
    .proved(`all ${count(content.accounts)} accounts and ${count(content.messages)} messages are the same,
    row by row`);
  stage.tell.proved(`all ${tree.size} files, folders and links are the same: content, mode, time, target`);
}

export async function restoreEarlier(stage: Stage, at: string, wanted: State): Promise<void> {
  stage.tell.say('And as it was at the time of the first backup:');
  await run(stage, stage.laptop, ['restore', ['--at', at], ['--to', 'earlier'], ...unlocked]);
  const { content, tree } = restored(stage, 'earlier');
  demandSame(wanted.content, content, 'the database of the first backup');
  demandSameTree(wanted.tree, tree);
  stage.tell.say('Compared again:');
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
