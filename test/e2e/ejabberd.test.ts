import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ejabberdNeeds, installEjabberd, type EjabberdService } from '../services/ejabberd.ts';
import { needs } from '../services/services.ts';
import { temporary } from '../support/temporary.ts';
import { XmppClient } from '../support/xmpp.ts';
import { exampleMachine } from './example-world.ts';

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

test(
  'an ejabberd server comes back by the shipped example and the documented steps',
  ejabberdNeeds.skip ? ejabberdNeeds : needs('s3'),
  async (t) => {
    const root = temporary(t);
    await using server = await installEjabberd(root);
    await server.start();
    const password = randomBytes(9).toString('hex');
    await server.ctl('register', 'ünï', server.host, password);
    await server.ctl('register', 'alice', server.host, randomBytes(9).toString('hex'));
    await server.ctl(
      'add_rosteritem',
      'ünï',
      server.host,
      'alice',
      server.host,
      'Älice W.',
      'Friends',
      'both',
    );
    await server.ctl('send_message', 'chat', 'alice@localhost', 'ünï@localhost', '', greeting);
    const upload = join(server.data, 'upload/4f/cat.jpg');
    mkdirSync(dirname(upload), { recursive: true });
    writeFileSync(upload, 'a picture');
    const before = await contentsOf(server);
    const roster = ['alice@localhost\tÄlice W.\tboth\tundefined\tFriends'];
    assert.deepEqual(before, { accounts: 'alice\nünï', roster, kept: '1' });

    const machine = await exampleMachine(root, 'ejabberd.yaml', server);
    const backup = await machine.run('backup');
    assert.equal(backup.status, 0, backup.stdout + backup.stderr);

    const to = await machine.run(
      'restore',
      '--job',
      'chat',
      '--to',
      join(root, 'looked-at'),
      '--key',
      machine.key,
    );
    assert.equal(to.status, 0, to.stderr);
    assert.match(to.stdout, /^ {2}ejabberdctl --no-timeout restore /m);
    assert.match(readFileSync(join(root, 'looked-at/ejabberd/mnesia.txt'), 'utf8'), /<<"ünï">>/);

    await server.stop();
    for (const folder of [server.config, server.data]) rmSync(folder, { recursive: true });
    rmSync(join(root, 'etc/default/ejabberd'));
    // A new machine: the package is installed, and its server runs with an empty database.
    await server.install();
    await server.start();
    await machine.follow('A new machine gets its ejabberd back');

    assert.deepEqual(await contentsOf(server), before);
    assert.equal(readFileSync(upload, 'utf8'), 'a picture');
    assert.ok(!existsSync(join(server.data, 'mnesia.backup')));
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
