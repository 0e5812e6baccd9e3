import assert from 'node:assert/strict';
import { test } from 'node:test';
import { includer } from '../../src/sources/files-include.ts';

const cases: [pattern: string, covered: string[], others: string[]][] = [
  ['/etc/hosts', ['/etc/hosts'], ['/etc/hosts.allow', '/etc', '/x/etc/hosts']],
  ['/etc', ['/etc', '/etc/hosts', '/etc/a/b/.c'], ['/', '/etcetera', '/x/etc']],
  ['/etc/', ['/etc', '/etc/hosts'], ['/etcetera']],
  ['etc', ['/etc/hosts', '/srv/etc/x'], ['/etcetera']],
  ['*.conf', ['/a.conf', '/x/y/.conf', '/x/nginx.conf/inside'], ['/a.conf2']],
  ['/home/*/.ssh', ['/home/ann/.ssh', '/home/ann/.ssh/id'], ['/home/.ssh', '/home/a/b/.ssh']],
  ['/a/**', ['/a/b', '/a/b/c'], ['/a']],
  ['/', ['/', '/a', '/a/b\n'], []],
  ['**', ['/a', '/a/b'], []],
  ['{a,b}/c', ['/a/c/d', '/x/b/c'], ['/c/a']],
];

for (const [pattern, covered, others] of cases)
  test(`--include ${pattern} covers what it should`, () => {
    const { covers } = includer(['/none', pattern]);
    for (const path of covered) assert.ok(covers(path), path);
    for (const path of others) assert.ok(!covers(path), path);
  });

test('patterns that have covered nothing are told', () => {
  const { covers, unmatched } = includer(['/a', '*.b', '/c']);
  covers('/a/x.b');
  covers('/d');
  assert.deepEqual(unmatched(), ['/c']);
});

test('what is no pattern is a usage error that names it', () => {
  assert.throws(() => includer(['ok', '[z-a]']), { code: 'usage', message: /"\[z-a\]"/ });
  assert.throws(() => includer(['']), { code: 'usage' });
});
