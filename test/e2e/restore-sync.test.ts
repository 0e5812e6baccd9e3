import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sealift } from '../support/cli.ts';
import { put } from '../support/temporary.ts';
import { hostWithSnapshot, assertRefusal } from './bad-input.ts';

test('what is said to be restored was synced, and a disk that loses it then makes the restore fail', async (t) => {
  const { world } = await hostWithSnapshot(t);
  const bin = join(world.dir, 'bin');
  mkdirSync(bin);
  const sync = join(bin, 'sync');
  const restore = async (name: string) => {
    const out = join(world.dir, name);
    const args = ['-c', world.configFile, 'restore', '--to', out, '--key', world.key, '--json'];
    return {
      out,
      ...(await sealift(args, { cwd: world.dir, env: { PATH: `${bin}:${process.env['PATH']}` } })),
    };
  };

  const seen = join(world.dir, 'seen');
  put(sync, `#!/bin/sh\n{ echo "$@"; find "$2" -type f | wc -l; } >${seen}\n`, 0o755);
  const good = await restore('good');
  assert.equal(good.status, 0, good.stderr);
  const [asked, files] = readFileSync(seen, 'utf8').split('\n');
  assert.equal(asked, `-f ${good.out}`);
  assert.equal(
    Number(files),
    (JSON.parse(good.stdout.trimEnd().split('\n').at(-1)!) as { files: number }).files,
  );

  put(sync, '#!/bin/sh\necho "sync: error syncing \'$2\': Input/output error" >&2\nexit 1\n', 0o755);
  assertRefusal(await restore('lost'), {
    exit: 1,
    code: 'restore-failed',
    says: /the file system of \S+\/lost lost what was written: .*Input\/output error/,
    hint: /disk/,
  });

  put(sync, '#!/bin/sh\necho "sync: invalid option" >&2\nexit 1\n', 0o755);
  assert.equal((await restore('older')).status, 0);
  put(sync, '#!/bin/sh\nmv "$2" "$2-away"\nPATH=/usr/bin:/bin exec sync "$@"\n', 0o755);
  assertRefusal(await restore('away'), {
    exit: 1,
    code: 'restore-failed',
    says: /the file system of \S+\/away lost what was written: .*No such file or directory/,
  });
});
