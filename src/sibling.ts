import { extname } from 'node:path';

/**
 * A module that is started by its file, as a thread or a child, and lies beside the one that asks (`import.meta.url`):
 * TypeScript in a checkout, JavaScript in the package.
 */
export const sibling = (moduleUrl: string, name: string): URL =>
  new URL(`./${name}${extname(moduleUrl)}`, moduleUrl);
