import { createHash } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { type Chance, createChance } from './chance.ts';

/** The database of a chat server: accounts, and the archive of their messages. */
export interface ChatDatabase extends Disposable {
  /** People go on talking. */
  chat(messages: number): void;
}

export const accounts = 3000;
const firstMessage = Date.UTC(2026, 8, 1, 6) / 1000;

/** Makes it and keeps it open, as the server would. */
export function createChatDatabase(path: string, messages: number): ChatDatabase {
  const db = new DatabaseSync(path);
  db.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE users (
      username TEXT PRIMARY KEY, server_key TEXT NOT NULL, salt TEXT NOT NULL, created_at INTEGER NOT NULL);
    CREATE TABLE archive (
      id INTEGER PRIMARY KEY, username TEXT NOT NULL, peer TEXT NOT NULL, sent_at INTEGER NOT NULL,
      xml TEXT NOT NULL);
    CREATE INDEX archive_username_sent_at ON archive (username, sent_at);`);
  const chance = createChance(5222);
  const insert = db.prepare('INSERT INTO archive (username, peer, sent_at, xml) VALUES (?, ?, ?, ?)');
  const names = inOneTransaction(db, () => addUsers(db, chance));
  let sentAt = firstMessage;
  const chat = (count: number): void =>
    inOneTransaction(db, () => {
      for (let n = 0; n < count; n++) {
        sentAt += chance.below(90);
        const [from, to] = [chance.pick(names), chance.pick(names)];
        insert.run(from, to, sentAt, stanza(chance, from, to));
      }
    });
  chat(messages);
  return { chat, [Symbol.dispose]: () => db.close() };
}

function inOneTransaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN');
  const result = work();
  db.exec('COMMIT');
  return result;
}

function addUsers(db: DatabaseSync, chance: Chance): [string, ...string[]] {
  const insert = db.prepare('INSERT INTO users VALUES (?, ?, ?, ?)');
  const names = Array.from({ length: accounts }, (_, n) => `${chance.pick(firstNames)}${n}`);
  for (const name of names)
    insert.run(name, chance.base64(32), chance.base64(16), firstMessage - chance.below(9e7));
  return names as [string, ...string[]];
}

function stanza(chance: Chance, from: string, to: string): string {
  const words = Array.from({ length: 4 + chance.below(28) }, () => chance.pick(vocabulary));
  const id = chance.base64(12);
  return (
    `<message from='${from}@chat.example.org/phone' to='${to}@chat.example.org' type='chat' id='${id}'>` +
    `<body>${words.join(' ')}</body><origin-id xmlns='urn:xmpp:sid:0' id='${id}'/></message>`
  );
}

const firstNames = 'ada grace alan edsger barbara donald hedy ken radia dennis margaret linus'.split(' ') as [
  string,
  ...string[],
];

const vocabulary = (
  'the a I you we they it is was will can and but or so because if when then here there today tomorrow later now ' +
  'never always maybe yes no thanks please sorry hello good morning night see call write read send bring buy take ' +
  'forget remember meet leave stay arrive train bus bike street house garden kitchen coffee tea bread cheese soup ' +
  'dinner lunch music film book letter photo phone battery server backup update invoice meeting doctor school ' +
  'friend mother father sister brother child cat dog rain snow sun wind cold warm late early long short blue green'
).split(' ') as [string, ...string[]];

export interface Content {
  readonly accounts: number;
  readonly messages: number;
  /** Over every column of every row of every table, and over the schema. */
  readonly sha256: string;
}

/** What is in a database, whatever its pages look like. */
export function readContent(path: string): Content {
  using db = new DatabaseSync(path, { readOnly: true });
  const hash = createHash('sha256');
  const read = (query: string): number => {
    let rows = 0;
    for (const row of db.prepare(query).iterate()) {
      hash.update(`${JSON.stringify(Object.values(row))}\n`);
      rows += 1;
    }
    return rows;
  };
  read('SELECT name, sql FROM sqlite_schema ORDER BY name');
  const users = read('SELECT * FROM users ORDER BY username');
  const messages = read('SELECT * FROM archive ORDER BY id');
  return { accounts: users, messages, sha256: hash.digest('hex') };
}
