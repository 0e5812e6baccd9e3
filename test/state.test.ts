import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createState, lastSequence, openState } from '../src/state.ts';
import { put, temporary } from './support/temporary.ts';

test('a state comes back as it was made, and is for its owner alone', async (t) => {
  const dir = join(temporary(t), 'a/b');
  const made = await createState(dir);
  assert.deepEqual((await openState(dir)).hostSecret, made.hostSecret);
  assert.equal(made.hostSecret.length, 32);
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  assert.equal(statSync(join(dir, 'host-secret')).mode & 0o777, 0o600);
});

test('making a state again keeps its secret', async (t) => {
  const dir = join(temporary(t), 's');
  const before = (await createState(dir)).hostSecret;
  assert.deepEqual((await createState(dir)).hostSecret, before);
});

test('a sequence number is 0 until it is written, and each job has its own', async (t) => {
  const dir = join(temporary(t), 's');
  const state = await createState(dir);
  await state.writeSequence('databases', 41);
  await state.writeSequence('databases', 42);
  assert.equal(lastSequence(dir, 'databases'), 42);
  assert.equal(lastSequence(dir, 'system'), 0);
});

test('a damaged sequence number is refused, not taken for 0', async (t) => {
  const state = await createState(join(temporary(t), 's'));
  put(join(state.dir, 'sequence/a'), '-1', 0o600);
  assert.throws(() => lastSequence(state.dir, 'a'), { code: 'config-invalid', message: /holds "-1"/ });
  put(join(state.dir, 'sequence/b'), '', 0o600);
  assert.throws(() => lastSequence(state.dir, 'b'), { code: 'config-invalid' });
});

test('where no state was made, the way to make one is told', async (t) => {
  const dir = join(temporary(t), 's');
  await assert.rejects(openState(dir), { code: 'config-not-found', hint: /sealift init/ });
  await createState(dir);
  rmSync(join(dir, 'host-secret'));
  await assert.rejects(openState(dir), { code: 'config-not-found', message: /host secret/ });
});

test('a state that others can read is refused', async (t) => {
  const dir = join(temporary(t), 's');
  await createState(dir);
  chmodSync(dir, 0o750);
  await assert.rejects(openState(dir), { code: 'config-invalid', message: /can be read by its group/ });
  chmodSync(dir, 0o700);
  chmodSync(join(dir, 'host-secret'), 0o644);
  await assert.rejects(openState(dir), { code: 'config-invalid', message: /can be read by everybody/ });
});

test('a damaged host secret is refused', async (t) => {
  const dir = join(temporary(t), 's');
  await createState(dir);
  const text = readFileSync(join(dir, 'host-secret'), 'utf8');
  put(join(dir, 'host-secret'), text.slice(0, 60), 0o600);
  await assert.rejects(openState(dir), { code: 'config-invalid', message: /64 hexadecimal digits/ });
});
