/** Whether an absolute path is this folder or lies below it; neither ends with a slash, but for the root. */
export const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);
