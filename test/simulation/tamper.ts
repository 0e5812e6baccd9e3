import { parseKey } from '../../src/snapshot/object-key.ts';
import type { Bucket } from './bucket.ts';
import type { Tampering } from './history.ts';
import { stranger } from './oracle.ts';

/** What an accident or somebody with a key of the store may do, short of making a whole store useless. */
export async function tamper(bucket: Bucket, host: string, how: Tampering, pick: number): Promise<void> {
  const all = bucket.page(`${host}/snap/`, '', Infinity);
  const of = (type: string): string[] => all.filter((key) => parseKey(key)?.type === type);
  const choose = (keys: readonly string[]): string | undefined => keys[pick % Math.max(1, keys.length)];
  const take = async (key: string | undefined): Promise<void> => {
    for (const held of key === undefined ? [] : bucket.versionsOf(key)) await bucket.drop(held, stranger);
  };
  const index = choose(of('index'));
  const segment = choose(of('segment'));
  const rubbish = Buffer.from(`rubbish ${pick}`);
  switch (how) {
    case 'damage-index':
      if (index === undefined) return;
      await take(index);
      return bucket.lay(index, rubbish, stranger);
    case 'take-index':
      return take(index);
    case 'take-segment':
      return take(segment);
    case 'cover-segment':
      if (segment !== undefined && bucket.versioned) await bucket.lay(segment, rubbish, stranger);
      return;
    case 'hide-index':
      if (index !== undefined && bucket.versioned) await bucket.lay(index, undefined, stranger);
      return;
    case 'plant':
      return bucket.lay(`${host}/snap/notes-${pick}.txt`, rubbish, stranger);
  }
}
