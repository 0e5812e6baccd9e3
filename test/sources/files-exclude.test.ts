import assert from 'node:assert/strict';
import { test } from 'node:test';
import { excluder } from '../../src/sources/files-exclude.ts';

const cases: [pattern: string, matches: string[], others: string[]][] = [
  ['*.bak', ['/a.bak', '/x/y/a.bak', '/x/.bak'], ['/a.bak/b', '/a.bakx', '/abak']],
  ['**/*.bak', ['/a.bak', '/x/.hidden/y/a.bak'], ['/a.bak/b']],
  ['/var/cache', ['/var/cache'], ['/var/cache/x', '/x/var/cache', '/var/cachex']],
  ['/var/cache/', ['/var/cache'], ['/var/cache/x']],
  ['/var/cache/**', ['/var/cache/x', '/var/cache/.x/y'], ['/var/cache', '/var/cached/x']],
  ['/a/**/z', ['/a/z', '/a/b/z', '/a/.b/c/z'], ['/az', '/a/bz', '/a/z/b']],
  ['cache/tmp', ['/cache/tmp', '/x/cache/tmp'], ['/cache/x/tmp', '/mycache/tmp']],
  ['/home/*/.cache', ['/home/ann/.cache', '/home/.x/.cache'], ['/home/.cache', '/home/a/b/.cache']],
  ['file?', ['/file1', '/file✓', '/file🦭'], ['/file', '/file12', '/file/']],
  ['[a-c]x', ['/ax', '/cx'], ['/dx', '/-x']],
  ['[!a-c]x', ['/dx', '/🦭x'], ['/ax', '/a/x']],
  ['[^a]', ['/b'], ['/a']],
  ['[]]', ['/]'], ['/[]]']],
  ['[', ['/['], ['/a']],
  ['*.{log,tmp}', ['/a.log', '/b/a.tmp'], ['/a.lo', '/a.{log,tmp}']],
  ['{a', ['/{a'], ['/a']],
  ['\\*', ['/*'], ['/a']],
  ['a+b(c)|$^.d', ['/a+b(c)|$^.d'], ['/aab(c)', '/a+b(c)|$^xd']],
  ['new\nline*', ['/new\nline\n'], ['/newline']],
  ['a**b', ['/ab', '/axxb'], ['/a/b']],
  ['**', ['/a', '/a/b'], []],
  ['/a/**/**/z', ['/a/z', '/a/b/z', '/a/b/c/z'], ['/az', '/a/z/b']],
  ['/a/**/**', ['/a/b', '/a/b/c'], ['/a']],
];

for (const [pattern, matches, others] of cases) {
  test(`the pattern ${JSON.stringify(pattern)} matches what it should`, () => {
    const excluded = excluder(['/none', pattern]);
    for (const path of matches) assert.ok(excluded(path), path);
    for (const path of others) assert.ok(!excluded(path), path);
  });
}

test('a path as deep as can be is soon looked at', () => {
  const excluded = excluder(['**/*.bak']);
  const path = '/a'.repeat(8000);
  const begin = performance.now();
  for (let time = 0; time < 50; time += 1) assert.ok(!excluded(path));
  const tookMs = performance.now() - begin;
  assert.ok(tookMs < 2000, `${tookMs} ms`);
});

test('without patterns nothing is excluded', () => assert.ok(!excluder([])('/a')));

test('a pattern that makes no sense is a configuration error that names it', () => {
  assert.throws(() => excluder(['[z-a]']), { code: 'config-invalid', message: /\[z-a\]/ });
});
