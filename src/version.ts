import { readFileSync } from 'node:fs';

/** The version of this program, from its package.json (one folder up both from `src` and from `dist`). */
export function toolVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
