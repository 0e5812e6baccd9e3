import { planPrune, type PlannedSnapshot } from '../src/policy/prune-plan.ts';
import { parseKey } from '../src/snapshot/object-key.ts';
import { copied, type SurveyedObject } from '../src/snapshot/survey.ts';

/** Plans a prune of a million objects in 84 snapshots, and prints the seconds. A process of its own, for its memory. */
const hour = 3600_000;
const now = Date.parse('2026-11-22T12:00:00Z');
const limits = { maxAge: 7 * 86_400, reuseWindow: 26 * 3600 };
const perSnapshot = 11_905;

const text = (...parts: string[]): string => Buffer.from(parts.join('')).toString('latin1');

const snapshots: PlannedSnapshot[] = [];
const objects: SurveyedObject[] = [];
for (let i = 0; i < 84; i++) {
  const folder = text('20261122T12', String(i % 60).padStart(2, '0'), '00Z-databases-aaaaa', 'abcd'[i % 4]!);
  const modifiedMs = now - (i + 1) * 2 * hour;
  for (let j = 0; j < perSnapshot; j++) {
    const id = (i * perSnapshot + j).toString(16).padStart(32, '0');
    const key = text('jabber/snap/', folder, '/s/', id, '.zst.gpg');
    const parsed = parseKey(key);
    if (parsed?.type !== 'segment') throw new Error(`${key} is no key`);
    const segment = copied(parsed.id);
    objects.push({ version: undefined, sizeBytes: 1, marker: false, folder, segment, modifiedMs });
  }
  // As an index has them: strings of its own.
  const names = function* () {
    for (let j = 0; j < perSnapshot; j++)
      yield { folder, id: text((i * perSnapshot + j).toString(16).padStart(32, '0')) };
  };
  const common = { sequence: 84 - i, previous: undefined, ...limits };
  snapshots.push({ snapshot: folder, startedMs: modifiedMs, modifiedMs, names: names(), ...common });
}
const started = performance.now();
const plan = planPrune({
  nowMs: now,
  surveyedMs: now,
  configured: limits,
  own: true,
  snapshots,
  unreadable: [],
  objects,
});
const seconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ objects: objects.length, deleted: plan.objects.length, seconds }));
