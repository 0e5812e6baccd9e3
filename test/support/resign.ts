import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadHostKey } from '../../src/seal/host-key.ts';
import { openSigned, signBytes } from '../../src/seal/sign.ts';
import type { World } from './world.ts';

/** Signs the index of a snapshot of a directory store anew, by its host, after a change to its text. */
export async function resign(
  world: Pick<World, 'dir'>,
  snapshot: string,
  change: (text: string) => string,
): Promise<void> {
  const file = join(world.dir, 'store/h1/snap', snapshot, 'index.json.gpg');
  const { privateKey, publicKey } = await loadHostKey(join(world.dir, 'state/host-key.asc'), 'h1');
  const { content } = await openSigned(readFileSync(file), [publicKey], snapshot);
  const changed = change(Buffer.from(content).toString());
  writeFileSync(file, await signBytes(Buffer.from(changed), privateKey, new Date()));
}
