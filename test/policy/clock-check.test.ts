import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeClocks } from '../../src/policy/clock-check.ts';

const local = new Date('2026-11-22T12:00:00Z');

test('clocks may differ by five minutes, are warned of up to an hour, and are refused from there, in both directions', () => {
  const verdicts = {
    0: 'fine',
    300: 'fine',
    300.001: 'warn',
    3600: 'warn',
    3600.001: 'refuse',
    1e9: 'refuse',
  };
  for (const [seconds, verdict] of Object.entries(verdicts))
    for (const sign of [1, -1]) {
      const store = new Date(local.getTime() + sign * Number(seconds) * 1000);
      assert.equal(judgeClocks(store, local), verdict, `${sign * Number(seconds)} seconds`);
    }
});
