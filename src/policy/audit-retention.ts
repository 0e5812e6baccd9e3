import { rfc3339 } from '../clock.ts';
import { countOf } from '../count-of.ts';
import {
  endOf,
  lateToleranceMs,
  unreadableEnd,
  type AuditedObject,
  type Finding,
  type HostFacts,
  type Standing,
} from './audit-facts.ts';

/** Both sides of the promise: nothing is there after its time (R2, R4, R5, R8), and all is there until then (R3). */
export function judgeRetention(facts: HostFacts, standing: Standing, failsClosed: boolean): Finding[] {
  return [
    ...expiredSnapshots(facts, standing),
    ...expiredObjects(facts, standing, failsClosed),
    ...leftovers(facts),
    ...missingObjects(facts, standing),
    ...coveredObjects(facts, standing),
  ];
}

const pruneAdvice =
  'Run `sealift prune`; if it does not help, see what it says, and whether a lock of the bucket holds them.';

/** Rule R2. */
function expiredSnapshots(
  { host, nowMs, snapshots, unreadable, objects }: HostFacts,
  { maxAgeMs }: Standing,
): Finding[] {
  const ends = new Map([
    ...snapshots.map((snapshot) => [snapshot.snapshot, endOf(snapshot)] as const),
    ...unreadable.map((snapshot) => [snapshot.snapshot, unreadableEnd(snapshot, maxAgeMs)] as const),
  ]);
  const indexes = objects.filter(({ segment, marker }) => segment === undefined && !marker);
  return [...Map.groupBy(indexes, ({ folder }) => folder)].flatMap(([folder, versions]) => {
    // One that went away while it was to be read counts by its name.
    const endMs = ends.get(folder) ?? versions[0]!.folderMs + maxAgeMs;
    if (endMs + lateToleranceMs >= nowMs) return [];
    const copies = versions.length === 1 ? '' : ` (${versions.length} versions)`;
    return {
      rule: 'expired-snapshot',
      severity: 'broken',
      subject: `${host}/snap/${folder}/index.json.gpg`,
      message: `this snapshot ended on ${rfc3339(endMs)} and is still there${copies}. ${pruneAdvice}`,
    };
  });
}

/** Rules R4 and R5, for every version of every segment. */
function expiredObjects(
  { host, nowMs, objects }: HostFacts,
  { kept, graceMs, ceilingMs }: Standing,
  failsClosed: boolean,
): Finding[] {
  const named = new Set(kept.flatMap(({ objects }) => objects.map(({ folder, id }) => `${folder}/${id}`)));
  const segments = objects.filter(({ segment, marker }) => segment !== undefined && !marker);
  const olderThan = (limitMs: number) => (object: AuditedObject) =>
    nowMs - object.modifiedMs > limitMs + lateToleranceMs;
  const isTooOld = olderThan(ceilingMs);
  const unnamed = segments.filter(
    (object) =>
      !isTooOld(object) && !named.has(`${object.folder}/${object.segment}`) && olderThan(graceMs)(object),
  );
  return [
    ...byFolder(host, segments.filter(isTooOld), (what) => ({
      rule: 'expired-object',
      severity: 'broken',
      message: `${what}, older than anything may be. ${pruneAdvice}`,
    })),
    ...byFolder(host, unnamed, (what) =>
      failsClosed
        ? {
            rule: 'expired-object',
            severity: 'warning',
            message:
              `${what}; no snapshot that can be read names it. Prune keeps it for ${hours(ceilingMs)}, because an index is ` +
              'missing or cannot be read: see there.',
          }
        : {
            rule: 'expired-object',
            severity: 'broken',
            message: `${what}; no live snapshot names it, and the ${hours(graceMs)} of grace are over. ${pruneAdvice}`,
          },
    ),
  ];
}

/** Rule R8: a marker with nothing below it keeps the name of what was deleted. */
function leftovers({ host, nowMs, objects }: HostFacts): Finding[] {
  const present = new Set(objects.filter(({ marker }) => !marker).map(({ key }) => key));
  const late = objects.filter(
    ({ key, marker, modifiedMs }) => marker && !present.has(key) && nowMs - modifiedMs > lateToleranceMs,
  );
  return byFolder(host, late, (what) => ({
    rule: 'leftover',
    severity: 'broken',
    message: `deletion markers without an object: ${what}. ${pruneAdvice}`,
  }));
}

/** Rule R3: every object that a live snapshot names, in any version. */
function missingObjects({ host, objects }: HostFacts, { live }: Standing): Finding[] {
  const sizes = new Map<string, number[]>();
  for (const { folder, segment, sizeBytes, marker } of objects) {
    if (segment === undefined || marker) continue;
    const name = `${folder}/${segment}`;
    sizes.set(name, [...(sizes.get(name) ?? []), sizeBytes]);
  }
  const lost = new Map<string, { folder: string; id: string; reason: string; needed: string[] }>();
  for (const { snapshot, objects: wanted } of live) {
    for (const { folder, id, storedBytes } of wanted) {
      const name = `${folder}/${id}`;
      const found = sizes.get(name);
      if (found?.includes(storedBytes)) continue;
      const reason = found ? `has ${found.join(' and ')} bytes instead of ${storedBytes}` : 'is missing';
      const entry = lost.get(name) ?? { folder, id, reason, needed: [] };
      entry.needed.push(snapshot);
      lost.set(name, entry);
    }
  }
  return [...Map.groupBy(lost.values(), ({ folder }) => folder)].map(([folder, entries]) => {
    const [first] = entries;
    const needed = new Set(entries.flatMap(({ needed }) => needed));
    const key = `${host}/snap/${folder}/s/${first!.id}.zst.gpg`;
    const what =
      entries.length === 1
        ? first!.reason
        : `${entries.length} objects are lost; the first, ${key}, ${first!.reason}`;
    return {
      rule: 'presence',
      severity: 'broken',
      subject: entries.length === 1 ? key : `${host}/snap/${folder}/`,
      message:
        `${what}: ${countOf(needed.size, 'live snapshot needs it', 'live snapshots need it')}, the newest ` +
        `${[...needed].toSorted().at(-1)}. Make a backup now, which stores it anew, and find out what removed it.`,
    };
  });
}

/**
 * Of names with several versions, what the newest keeps from sight. What lies under a marker is there, but readers do not see
 * the snapshot, and other tools not the object. Objects are written once: where something else was laid over one, sealift
 * reads the version that was signed (rule R8), and other tools, and whoever restores by hand, get the newer one; only what
 * has another size shows here.
 */
function coveredObjects({ host, objects }: HostFacts, { live }: Standing): Finding[] {
  const several = [...Map.groupBy(objects, ({ key }) => key).values()].filter(({ length }) => length > 1);
  if (several.length === 0) return [];
  const liveIds = new Set(live.map(({ snapshot }) => snapshot));
  const signed = new Map(
    live.flatMap(({ objects }) =>
      objects.map(({ folder, id, storedBytes }) => [`${folder}/${id}`, storedBytes] as const),
    ),
  );
  const signedBytes = ({ folder, segment }: AuditedObject): number | undefined =>
    signed.get(`${folder}/${segment}`);
  const hiding = several.flatMap(([newest, ...older]) =>
    newest!.marker && older.some(({ marker }) => !marker) ? [newest!] : [],
  );
  const overwriting = several.flatMap(([newest, ...older]) => {
    const { folder, segment, sizeBytes, marker } = newest!;
    const isOlder = (hasSize: (bytes: number) => boolean): boolean =>
      older.some((one) => !one.marker && hasSize(one.sizeBytes));
    const storedBytes = signedBytes(newest!);
    const isCovering =
      segment === undefined
        ? liveIds.has(folder) && isOlder((bytes) => bytes !== sizeBytes)
        : sizeBytes !== storedBytes && isOlder((bytes) => bytes === storedBytes);
    return !marker && isCovering ? [newest!] : [];
  });
  const advice = 'Remove the marker with the tools of the store, and find out who deleted it.';
  return [
    ...hiding
      .filter(({ segment, folder }) => segment === undefined && liveIds.has(folder))
      .map(({ key }): Finding => ({
        rule: 'presence',
        severity: 'broken',
        subject: key,
        message: `this snapshot is live, and lies under a deletion marker: nobody sees it. ${advice}`,
      })),
    ...byFolder(
      host,
      hiding.filter((one) => one.segment !== undefined && signedBytes(one) !== undefined),
      (what) => ({
        rule: 'presence',
        severity: 'warning',
        message: `under a deletion marker, though live snapshots need it: ${what}. Restore finds it. ${advice}`,
      }),
    ),
    ...byFolder(host, overwriting, (what) => ({
      rule: 'presence',
      severity: 'warning',
      message:
        `something else was laid over what live snapshots need: ${what}. Restore finds the older version, other tools do ` +
        'not. Remove the newer one with the tools of the store, and find out who wrote it.',
    })),
  ];
}

/** One finding for each folder, since what is wrong with one object of a run is mostly wrong with all. */
function byFolder(
  host: string,
  objects: readonly AuditedObject[],
  finding: (what: string) => Omit<Finding, 'subject'>,
): Finding[] {
  return [...Map.groupBy(objects, ({ folder }) => folder)].map(([folder, found]) => {
    const oldest = found.reduce((a, b) => (a.modifiedMs <= b.modifiedMs ? a : b));
    const what =
      found.length === 1
        ? `written on ${rfc3339(oldest.modifiedMs)}`
        : `${found.length} objects, the oldest written on ${rfc3339(oldest.modifiedMs)}`;
    return { ...finding(what), subject: found.length === 1 ? oldest.key : `${host}/snap/${folder}/` };
  });
}

const hours = (ms: number): string => `${Math.round(ms / 360_000) / 10} hours`;
