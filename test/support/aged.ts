import { readdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { resign } from './resign.ts';
import type { World } from './world.ts';

/**
 * Turns a snapshot of a directory store into one that the same host made so long ago, files and all; returns its id.
 * Nothing may name it yet.
 */
export async function madeDaysAgo(world: World, id: string, days: number): Promise<string> {
  const folder = join(world.dir, 'store/h1/snap');
  const earlier = (time: string): string =>
    new Date(Date.parse(time) - days * 86_400_000).toISOString().replace(/\.\d+/, '');
  let oldId = '';
  await resign(world, id, (text) => {
    const startedAt = /"startedAt": ?"(.*?)"/.exec(text)?.[1] ?? '';
    oldId = earlier(startedAt).replace(/[-:]/g, '') + id.slice(16);
    return text.replaceAll(id, oldId).replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, earlier);
  });
  renameSync(join(folder, id), join(folder, oldId));
  for (const file of readdirSync(join(folder, oldId), { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, oldId, file);
    const writtenMs = Date.now() - days * 86_400_000;
    utimesSync(path, writtenMs / 1000, writtenMs / 1000);
  }
  rmSync(join(world.dir, 'state/journal'), { recursive: true, force: true });
  return oldId;
}
