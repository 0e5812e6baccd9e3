import { hash } from 'node:crypto';
import { mapConcurrent } from '../concurrency.ts';
import { SealiftError } from '../errors.ts';
import type { SampledObject } from '../policy/audit-rules.ts';
import { keyIdOf, sealedFor } from '../seal/packets.ts';
import { askedTwice, DamagedSegment } from '../segments/reader.ts';
import type { Snapshot } from '../snapshot/catalog.ts';
import { objectsOf, type NamedSegment } from '../snapshot/index.ts';
import { segmentKey } from '../snapshot/object-key.ts';
import type { Store } from '../store/store.ts';
import { segmentsIn } from './read-streams.ts';

/** An object to look into, and whom the host says that it is sealed to. */
interface Chosen {
  readonly segment: NamedSegment;
  readonly keyIds: readonly string[];
}

const sampleSize = 10;
const readsAtOnce = 4;

/**
 * A random sample of what these snapshots (oldest first) name: one object that each of the newest of them added, and
 * others until there are ten. `random` gives a whole number from 0 up to, but without, its argument.
 */
export function chooseSample(snapshots: readonly Snapshot[], random: (below: number) => number): Chosen[] {
  const sample = new Map<string, Chosen>();
  const all = new Map<string, Chosen>();
  for (const { index } of snapshots) {
    const idsOf = new Map(
      index.folders.map(({ snapshot, recipients }) => [
        snapshot,
        recipients.map(({ subkey }) => keyIdOf(subkey)).toSorted(),
      ]),
    );
    for (const segment of objectsOf(index))
      all.set(nameOf(segment), { segment, keyIds: idsOf.get(segment.folder)! });
  }
  const add = (names: readonly string[]): void => {
    const name = names[random(names.length)]!;
    sample.set(name, all.get(name)!);
  };
  for (const { index } of snapshots.slice(-sampleSize)) {
    const named = objectsOf(index);
    const added = named.filter(({ folder }) => folder === index.snapshot);
    add((added.length > 0 ? added : named).map(nameOf));
  }
  const rest = [...all.keys()].filter((name) => !sample.has(name));
  while (sample.size < sampleSize && rest.length > 0) {
    const [name] = rest.splice(random(rest.length), 1);
    sample.set(name!, all.get(name!)!);
  }
  return [...sample.values()];
}

const nameOf = ({ folder, id }: NamedSegment): string => `${folder}/${id}`;

/** Reads the sample: is each object what the host signed, and sealed as it says? What is missing is left out. */
export async function readSample(
  store: Store,
  host: string,
  sample: readonly Chosen[],
  signal: AbortSignal,
): Promise<SampledObject[]> {
  const fetch = segmentsIn(store, host, signal);
  const read = await mapConcurrent(sample, readsAtOnce, async ({ segment, keyIds }) => {
    const key = segmentKey(host, segment);
    let newest: SampledObject | undefined;
    try {
      for await (const bytes of askedTwice(fetch, segment)) {
        const signed = hash('sha256', bytes) === segment.sha256;
        const found = { key, signed, problem: sealProblem(bytes, keyIds) };
        if (signed) return [found];
        newest ??= found;
      }
    } catch (error) {
      if (!(error instanceof DamagedSegment)) throw error;
      return [{ key, signed: false, unread: error.message, problem: newest?.problem }];
    }
    return newest ? [newest] : [];
  });
  return read.flat();
}

function sealProblem(bytes: Uint8Array, expected: readonly string[]): string | undefined {
  try {
    const ids = sealedFor(bytes).toSorted();
    return ids.join() === expected.join()
      ? undefined
      : `the object is sealed to the key ids ${ids.join(', ')}, not to ${expected.join(', ')}`;
  } catch (error) {
    if (error instanceof SealiftError && error.code === 'verify-failed') return error.message;
    throw error;
  }
}
