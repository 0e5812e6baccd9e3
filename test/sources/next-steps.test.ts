import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextSteps } from '../../src/sources/next-steps.ts';

const stream = (name: string, kind: string, path: string) => ({
  snapshot: '20261122T120000Z-chat-k3f7qz',
  file: name.replace(/.*\//, ''),
  name,
  kind,
  path,
});

test('after a restore to disk, what is left to do for ejabberd and Prosody is said with its commands', () => {
  const streams = [
    stream('chat/mnesia.backup', 'ejabberd', "/srv/it's back/chat/mnesia.backup"),
    stream('chat/mnesia.txt', 'ejabberd', '/srv/back/chat/mnesia.txt'),
    stream('chat/ejabberd.tar', 'files', '/srv/back/chat'),
    stream('talk/prosody.tar', 'files', '/srv/back/talk'),
    stream('talk/prosody.dump', 'postgres', '/srv/back/talk/prosody.dump'),
    stream('etc/files.tar', 'files', '/srv/back/etc'),
  ];
  const lines = nextSteps(streams, ['--key', 'my key.asc']);
  assert.deepEqual(
    lines.filter((line) => line.startsWith('  ')),
    [
      String.raw`  install -o ejabberd -m 600 '/srv/it'\''s back/chat/mnesia.backup' /var/lib/ejabberd/mnesia.backup`,
      '  ejabberdctl --no-timeout restore /var/lib/ejabberd/mnesia.backup',
      '  rm /var/lib/ejabberd/mnesia.backup',
      "  sealift restore 20261122T120000Z-chat-k3f7qz --source chat/ejabberd.tar --key 'my key.asc' --stdout | tar -xC /",
      "  sealift restore 20261122T120000Z-chat-k3f7qz --source talk/prosody.tar --key 'my key.asc' --stdout | tar -xC /",
    ],
  );
});

test('what can be loaded by sealift, or is only files, leaves nothing to say', () => {
  assert.deepEqual(nextSteps([stream('db/app.dump', 'postgres', '/srv/back/db/app.dump')], []), []);
});
