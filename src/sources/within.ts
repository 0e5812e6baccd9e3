import { realpath } from 'node:fs/promises';

/** Whether an absolute path is this folder or lies below it; neither ends with a slash, but for the root. */
export const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);

/** The folders on the way down to an absolute path, and itself: `/a/b` as `/a`, `/a/b`. */
export const foldersTo = (path: string): string[] =>
  path.split('/').flatMap((_, at, names) => (at === 0 ? [] : names.slice(0, at + 1).join('/')));

/** Where a path really leads. Of one that is not there, or may not be entered, the path. */
export const real = (path: string): Promise<string> => realpath(path).catch(() => path);
