import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { installProsody, prosodyNeeds, type ProsodyService } from '../services/prosody.ts';
import { needs } from '../services/services.ts';
import { temporary } from '../support/temporary.ts';
import type { Listing } from '../support/world.ts';
import { XmppClient } from '../support/xmpp.ts';
import { databaseServer, exampleMachine } from './example-world.ts';

const greeting = 'hello from alice – ünï 😀';

const passwords = { alice: randomBytes(9).toString('hex'), bob: randomBytes(9).toString('hex') };

const contact = (jid: string, name: string) =>
  `<query xmlns='jabber:iq:roster'><item jid='${jid}' name='${name}'><group>Friends</group></item></query>`;

async function fill(server: ProsodyService): Promise<void> {
  for (const [name, password] of Object.entries(passwords))
    await server.ctl('register', name, server.host, password);
  await using bob = await XmppClient.login(server, 'bob', passwords.bob);
  await bob.ask('set', contact('alice@localhost', 'Älice W.'));
  await bob.ask('set', contact('carol@example.org', 'Carol'));
  await bob[Symbol.asyncDispose]();
  await using alice = await XmppClient.login(server, 'alice', passwords.alice);
  for (const text of ['first', greeting])
    alice.send(`<message to='bob@localhost' type='chat'><body>${text}</body></message>`);
  // Answered in order, so the messages are with the server.
  await alice.roster();
  const upload = join(server.data, 'http_file_share/cat.jpg');
  mkdirSync(dirname(upload), { recursive: true });
  writeFileSync(upload, 'a picture');
}

const usersOf = async (server: ProsodyService): Promise<string[]> =>
  (await server.ctl('shell', 'user:list("localhost")'))
    .split('\n')
    .filter((line) => line.includes('@'))
    .toSorted();

async function assertAllThere(server: ProsodyService): Promise<void> {
  assert.deepEqual(await usersOf(server), ['alice@localhost', 'bob@localhost']);
  await using alice = await XmppClient.login(server, 'alice', passwords.alice);
  assert.deepEqual(await alice.roster(), []);
  await using bob = await XmppClient.login(server, 'bob', passwords.bob);
  assert.deepEqual(await bob.roster(), [
    'alice@localhost|Älice W.|none|Friends',
    'carol@example.org|Carol|none|Friends',
  ]);
  assert.deepEqual(await bob.messages(2), ['first', greeting]);
  assert.equal(readFileSync(join(server.data, 'http_file_share/cat.jpg'), 'utf8'), 'a picture');
}

interface Store {
  /** In Prosody's configuration. */
  readonly storage: (root: string) => string;
  readonly edit?: (text: string) => string;
  readonly streams: readonly string[];
  /** The paragraph of the docs that brings this store back. */
  readonly paragraph?: string;
}

const stores: Record<string, Store> = {
  PostgreSQL: {
    storage: (root) =>
      `storage = "sql"
       sql = { driver = "PostgreSQL", database = "prosody", username = "prosody", host = "${root}/run/postgresql" }`,
    streams: ['prosody/globals.sql', 'prosody/prosody.dump', 'prosody/prosody.tar'],
    paragraph: 'with PostgreSQL (a new server',
  },
  SQLite: {
    storage: () => `storage = "sql"\nsql = { driver = "SQLite3", database = "prosody.sqlite" }`,
    edit: (text) => text.replace(/^ *database:.*\n/m, '').replace('# database:', 'database:'),
    streams: ['prosody/prosody.sqlite', 'prosody/prosody.tar'],
    paragraph: 'or with SQLite',
  },
  'internal storage': {
    storage: () => 'storage = "internal"',
    edit: (text) => text.replace(/^ *database:.*\n/m, ''),
    streams: ['prosody/prosody.tar'],
  },
};

for (const [name, store] of Object.entries(stores))
  test(
    `a Prosody server with ${name} comes back by the shipped example and the documented steps`,
    prosodyNeeds.skip ? prosodyNeeds : needs('s3'),
    async (t) => {
      const root = temporary(t);
      await using server = await installProsody(root, store.storage(root));
      const elsewhere = join(root, 'srv/chat');
      mkdirSync(join(root, 'srv'));
      renameSync(server.config, elsewhere);
      symlinkSync('../srv/chat', server.config);
      await using machines = new AsyncDisposableStack();
      if (name === 'PostgreSQL') {
        const { psql } = await databaseServer(machines, root);
        await psql('CREATE ROLE prosody LOGIN');
        await psql('CREATE DATABASE prosody OWNER prosody');
      }
      await server.start();
      await fill(server);

      const machine = await exampleMachine(root, 'prosody.yaml', { binDir: server.binDir, edit: store.edit });
      const backup = await machine.run('backup');
      assert.equal(backup.status, 0, backup.stdout + backup.stderr);
      const listing = JSON.parse((await machine.run('list', '--job', 'chat', '--json')).stdout) as Listing;
      const streams = listing.snapshots[0]!.streams.map((stream) => stream.name);
      assert.deepEqual(streams.filter((stream) => !stream.startsWith('_/')).toSorted(), store.streams);

      await server.stop();
      for (const folder of [server.config, elsewhere, server.data]) rmSync(folder, { recursive: true });
      // A new machine: the packages are installed, and their servers have nothing.
      await server.install();
      const itsHost = join(server.config, 'conf.d/example.com.cfg.lua');
      writeFileSync(itsHost, 'VirtualHost "example.com"\n');
      if (name === 'PostgreSQL') await databaseServer(machines, root);
      else await server.start();

      await machine.follow('A new machine gets its Prosody back');
      if (store.paragraph !== undefined) await machine.follow(store.paragraph);
      await machine.follow('and at last');

      await assertAllThere(server);
      assert.ok(lstatSync(server.config).isSymbolicLink());
      assert.ok(!existsSync(itsHost), 'a host that the old machine had not');
    },
  );
