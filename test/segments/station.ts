import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { findWithPrivateKeys } from '../../src/seal/session-key.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { Budget } from '../../src/budget.ts';
import { gearTable } from '../../src/segments/chunker.ts';
import { WorkerPool } from '../../src/segments/pool.ts';
import { createSegmentReader, type FetchSegment } from '../../src/segments/reader.ts';
import { segmentIdKey } from '../../src/segments/segment-id.ts';
import { SlabShelf } from '../../src/segments/slabs.ts';
import { createSegmentWriter, type SegmentWriterOptions } from '../../src/segments/writer.ts';
import { openDirectoryStore } from '../../src/store/directory.ts';
import { makeKey } from '../support/keys.ts';
import { temporary } from '../support/temporary.ts';

const recipient = await makeKey();
const secret = Uint8Array.from({ length: 32 }, (_, i) => i);

export const folder = '20261122T120000Z-job-aaaaaa';

/** A pool with threads of its own, which end with the test. */
export function freshPool(t: TestContext, size = 2, patienceMs?: number): WorkerPool {
  const pool = new WorkerPool(size, patienceMs);
  t.after(() => pool[Symbol.asyncDispose]());
  return pool;
}

/** Writer, store and reader as a backup and a restore put them together, around a directory store. */
export async function freshStation(t: TestContext, changes: Partial<SegmentWriterOptions> = {}) {
  const root = join(temporary(t), 'store');
  mkdirSync(root);
  const store = await openDirectoryStore(root);
  const pool = changes.pool ?? freshPool(t);
  const keyOf = (id: string): string => `${folder}/${id}`;
  const puts: string[] = [];
  const writer = createSegmentWriter({
    pool,
    budget: new Budget(48 * 2 ** 20),
    shelf: new SlabShelf(),
    idKey: segmentIdKey(secret),
    gear: gearTable(secret),
    seal: await createSeal([recipient.publicKey], new Date()),
    folder,
    reusable: new Map(),
    put: async ({ id }, object) => {
      puts.push(id);
      await store.put(keyOf(id), object);
    },
    ...changes,
  });
  let keysAsked = 0;
  const find = findWithPrivateKeys([recipient.privateKey]);
  const reader = (fetch: FetchSegment = ({ id }) => store.versions(keyOf(id))) =>
    createSegmentReader({ pool, fetch, findSessionKey: (packets) => (keysAsked++, find(packets)) });
  return {
    writer,
    reader,
    pool,
    store,
    root,
    puts,
    pathOf: (id: string) => join(root, keyOf(id)),
    keysAsked: () => keysAsked,
  };
}
