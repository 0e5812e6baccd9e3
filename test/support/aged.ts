import { readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadHostKey } from '../../src/seal/host-key.ts';
import { openSigned, signBytes } from '../../src/seal/sign.ts';
import type { World } from './world.ts';

/**
 * Turns a snapshot of a directory store into one that the same host made so long ago, files and all; returns its id.
 * Nothing may name it yet.
 */
export async function madeDaysAgo(world: World, id: string, days: number): Promise<string> {
  const folder = join(world.dir, 'store/h1/snap');
  const { privateKey, publicKey } = await loadHostKey(join(world.dir, 'state/host-key.asc'), 'h1');
  const { content } = await openSigned(readFileSync(join(folder, id, 'index.json.gpg')), [publicKey], id);
  const text = Buffer.from(content).toString();
  const earlier = (time: string): string =>
    new Date(Date.parse(time) - days * 86_400_000).toISOString().replace(/\.\d+/, '');
  const startedAt = /"startedAt": ?"(.*?)"/.exec(text)?.[1] ?? '';
  const oldId = earlier(startedAt).replace(/[-:]/g, '') + id.slice(16);
  const aged = text.replaceAll(id, oldId).replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, earlier);
  renameSync(join(folder, id), join(folder, oldId));
  const signed = await signBytes(Buffer.from(aged), privateKey, new Date());
  writeFileSync(join(folder, oldId, 'index.json.gpg'), signed);
  for (const file of readdirSync(join(folder, oldId), { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, oldId, file);
    const writtenMs = Date.now() - days * 86_400_000;
    utimesSync(path, writtenMs / 1000, writtenMs / 1000);
  }
  rmSync(join(world.dir, 'state/journal'), { recursive: true, force: true });
  return oldId;
}
