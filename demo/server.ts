import { statSync } from 'node:fs';
import { join } from 'node:path';
import { formatSize } from '../src/output.ts';
import { type ChatDatabase, type Content, createChatDatabase, readContent } from './chat-database.ts';
import { readTree, type Tree } from './compare.ts';
import { writeConfigTree } from './config-tree.ts';
import type { Stage } from './stage.ts';

export const databaseFile = 'ejabberd.sqlite';

/** What the server has at one moment. */
export interface State {
  readonly content: Content;
  readonly tree: Tree;
}

export const lookAt = ({ server }: Stage): State => ({
  content: readContent(join(server.folder, databaseFile)),
  tree: readTree(join(server.folder, 'etc')),
});

/** Makes what there is to back up. The database stays open, as it would. */
export function openServer({ server }: Stage): ChatDatabase {
  writeConfigTree(join(server.folder, 'etc'));
  return createChatDatabase(join(server.folder, databaseFile), 30_000);
}

export function describeServer({ folder, server, tell }: Stage, { content, tree }: State): void {
  const { size } = statSync(join(server.folder, databaseFile));
  tell.heading('The server');
  tell.say(`jabber1 keeps ${count(content.accounts)} accounts and ${count(content.messages)} messages in
    ${databaseFile} (${formatSize(size)}), which stays open all the time, and ${tree.size} files,
    folders and links in etc/.`);
  tell.say(`Folders play the machines here: jabber1, the laptop of Ada, who operates it, and an auditor's. Another one is
    the store; it could as well be a bucket. All of them
    are in one folder, and nothing outside of it is touched:`);
  tell.verbatim(`  ${folder}`);
}

export const count = (number: number): string => number.toLocaleString('en');
