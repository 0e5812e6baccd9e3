import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ejabberdNeeds, installEjabberd, type EjabberdService } from '../services/ejabberd.ts';
import { needs } from '../services/services.ts';
import { temporary } from '../support/temporary.ts';
import type { Listing } from '../support/world.ts';
import { XmppClient } from '../support/xmpp.ts';
import { databaseServer, exampleMachine } from './example-world.ts';

const greeting = 'hello from alice – ünï "q" 😀';

/** What the server's own tools tell. */
async function contentsOf({ ctl, host }: EjabberdService): Promise<unknown> {
  const [accounts, roster, kept] = await Promise.all([
    ctl('registered_users', host),
    ctl('get_roster', 'ünï', host),
    ctl('get_offline_count', 'ünï', host),
  ]);
  return { accounts, roster: roster.split('\n').toSorted(), kept };
}

const dbPassword = randomBytes(9).toString('hex');

/** Accounts, rosters and messages in PostgreSQL, in the schema that comes with ejabberd. */
const inSql = (port: number): string => `
default_db: sql
auth_method: sql
sql_type: pgsql
sql_server: "127.0.0.1"
sql_port: ${port}
sql_database: ejabberd
sql_username: ejabberd
sql_password: "${dbPassword}"
`;

for (const kept of ['Mnesia', 'PostgreSQL'] as const)
  test(
    `an ejabberd server with ${kept} comes back by the shipped example and the documented steps`,
    ejabberdNeeds.skip ? ejabberdNeeds : needs('s3'),
    async (t) => {
      const root = temporary(t);
      await using machines = new AsyncDisposableStack();
      const database = kept === 'PostgreSQL' ? await databaseServer(machines, root) : undefined;
      if (database) {
        await database.psql(`CREATE ROLE ejabberd LOGIN PASSWORD '${dbPassword}'`);
        await database.psql('CREATE DATABASE ejabberd OWNER ejabberd');
        const schema = ['--file', '/usr/share/ejabberd/sql/pg.sql'];
        await database.psql('SELECT 1', '--username', 'ejabberd', '--dbname', 'ejabberd', ...schema);
      }
      await using server = await installEjabberd(root, database ? inSql(database.port) : '');
      await server.start();
      const password = randomBytes(9).toString('hex');
      await server.ctl('register', 'ünï', server.host, password);
      await server.ctl('register', 'alice', server.host, randomBytes(9).toString('hex'));
      const contact = ['alice', server.host, 'Älice W.', 'Friends', 'both'];
      await server.ctl('add_rosteritem', 'ünï', server.host, ...contact);
      await server.ctl('send_message', 'chat', 'alice@localhost', 'ünï@localhost', '', greeting);
      const upload = join(server.data, 'upload/4f/cat.jpg');
      mkdirSync(dirname(upload), { recursive: true });
      writeFileSync(upload, 'a picture');
      const before = await contentsOf(server);
      const roster = ['alice@localhost\tÄlice W.\tboth\tundefined\tFriends'];
      assert.deepEqual(before, { accounts: 'alice\nünï', roster, kept: '1' });

      const machine = await exampleMachine(root, 'ejabberd.yaml', {
        binDir: server.binDir,
        edit: (text) => (database ? text.replace('# database:', 'database:') : text),
      });
      const backup = await machine.run('backup');
      assert.equal(backup.status, 0, backup.stdout + backup.stderr);
      const listing = JSON.parse((await machine.run('list', '--job', 'chat', '--json')).stdout) as Listing;
      const streams = listing.snapshots[0]!.streams.map((stream) => stream.name);
      assert.deepEqual(streams.filter((stream) => !stream.startsWith('_/')).toSorted(), [
        ...(database ? ['ejabberd/ejabberd.dump'] : []),
        'ejabberd/ejabberd.tar',
        ...(database ? ['ejabberd/globals.sql'] : []),
        'ejabberd/mnesia.backup',
        'ejabberd/mnesia.txt',
      ]);

      const lookedAt = join(root, 'looked-at');
      const to = await machine.run('restore', '--job', 'chat', '--to', lookedAt, '--key', machine.key);
      assert.equal(to.status, 0, to.stderr);
      assert.match(to.stdout, /^ {2}ejabberdctl --no-timeout restore /m);
      const terms = readFileSync(join(lookedAt, 'ejabberd/mnesia.txt'), 'utf8');
      assert.equal(/<<"ünï">>/.test(terms), kept === 'Mnesia', 'the account is where it is kept');

      await server.stop();
      for (const folder of [server.config, server.data]) rmSync(folder, { recursive: true });
      rmSync(join(root, 'etc/default/ejabberd'));
      await machines.disposeAsync();
      // A new machine: the packages are installed, and their servers run with nothing in them.
      await using newMachines = new AsyncDisposableStack();
      if (database) await databaseServer(newMachines, root, database.port);
      await server.install();
      const itsOwn = join(server.config, 'of-the-package.yml');
      writeFileSync(itsOwn, '');
      if (!database) await server.start();
      await machine.follow('A new machine gets its ejabberd back');
      if (database) await machine.follow('then, if it has a SQL database');
      await machine.follow('and then its start');

      assert.deepEqual(await contentsOf(server), before);
      assert.equal(readFileSync(upload, 'utf8'), 'a picture');
      assert.ok(!existsSync(join(server.data, 'mnesia.backup')));
      assert.ok(!existsSync(itsOwn), 'a file of the configuration that the old machine had not');
      // Also after the next start, that is: on the disk.
      await server.stop();
      await server.start();
      await using client = await XmppClient.login(server, 'ünï', password);
      assert.deepEqual(await client.roster(), ['alice@localhost|Älice W.|both|Friends']);
      const [message = ''] = await client.messages(1);
      assert.equal(message.replaceAll('&quot;', '"'), greeting);
      assert.equal(execFileSync('find', [server.data, '-name', 'sealift-*'], { encoding: 'utf8' }), '');
    },
  );
