import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInProcess } from '../support/in-process.ts';
import { put, temporary } from '../support/temporary.ts';

test('check says that a good file has no problems', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), 'host: web\nstore: { kind: directory, path: /b }\n');
  const { status, stdout } = await runInProcess(['config', 'check'], { cwd });
  assert.equal(status, 0);
  assert.match(stdout, /sealift\.yaml: no problems\n {2}host web, store directory \/b\n/);
});

test('check lists every problem with its line and ends with 2', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), 'hsot: web\nstore: { kind: directory }\n');
  const { status, stdout, stderr } = await runInProcess(['config', 'check'], { cwd });
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /^sealift\.yaml:1:1: hsot: is not a setting; did you mean "host"\?$/m);
  assert.match(stderr, /sealift\.yaml:2:1: store\.path: is missing/);
});

test('with --json the problems are an error document on stdout', async (t) => {
  const cwd = temporary(t);
  put(join(cwd, 'sealift.yaml'), 'hots: web\n');
  const { status, stdout, stderr } = await runInProcess(['config', 'check', '--json'], { cwd });
  assert.equal(status, 2);
  assert.equal(stderr, '');
  const error = JSON.parse(stdout) as { type: string; code: string; message: string };
  assert.equal(error.type, 'error');
  assert.equal(error.code, 'config-invalid');
  assert.match(error.message, /1:1: hots/);
});

test('schema prints a JSON Schema, and needs no configuration', async (t) => {
  const { status, stdout } = await runInProcess(['config', 'schema'], { cwd: temporary(t) });
  assert.equal(status, 0);
  const schema = JSON.parse(stdout) as { $schema: string; required: string[] };
  assert.match(schema.$schema, /json-schema\.org/);
  assert.deepEqual(schema.required, ['store']);
});
