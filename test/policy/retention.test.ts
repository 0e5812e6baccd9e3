import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { graceSeconds, runLimitSeconds } from '../../src/policy/retention.ts';

const hour = 3600;
const day = 24 * hour;

test('the limits of the defaults are those that are documented: 70 h and 97 h', () => {
  assert.equal(runLimitSeconds({ maxAge: 7 * day, reuseWindow: 26 * hour }) / hour, 70);
  assert.equal(graceSeconds({ maxAge: 7 * day, reuseWindow: 26 * hour }) / hour, 97);
});

test('for every allowed pair of ages the limits keep what the rules of the format need', () => {
  const reuseWindow = fc.integer({ min: 0, max: 400 * day });
  const more = fc.integer({ min: day, max: 400 * day });
  fc.assert(
    fc.property(reuseWindow, more, (window, extra) => {
      const maxAge = window + extra;
      const limit = runLimitSeconds({ maxAge, reuseWindow: window });
      const grace = graceSeconds({ maxAge, reuseWindow: window });
      assert.ok(limit >= 11 * hour, 'a run has time');
      // An object named again is at most W old when the run starts; it must outlive the longest run unreferenced.
      assert.ok(window + limit < grace, 'nothing that a running backup names is taken for unreferenced');
      // What a run writes last is `limit` younger than its start; when the snapshot expires it must be past the grace.
      assert.ok(maxAge - limit > grace, 'the objects of an expired snapshot go in the same prune');
    }),
  );
});
