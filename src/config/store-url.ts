import { resolve } from 'node:path';
import { stringify } from 'yaml';
import { SealiftError } from '../errors.ts';
import { decoded } from './decoded.ts';

/** The `store` group of a configuration, as it is written. */
export type StoreSettings = Readonly<Record<string, string | boolean>> & {
  readonly kind: 's3' | 'directory';
};

export const storeUrlForms =
  's3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION, directory:/PATH, or a path';

/** Reads `--store`. A relative path starts at `cwd`. Throws `usage`. */
export function parseStoreUrl(text: string, cwd: string): StoreSettings {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return directory(text, cwd, text);
    case 'directory':
      return directory(text.slice('directory:'.length), cwd, text);
    case 's3':
      return s3(text);
    default:
      throw wrong(text, `${scheme}: is no kind of store`);
  }
}

function directory(path: string, cwd: string, text: string): StoreSettings {
  if (path === '') throw wrong(text, 'the path is missing');
  if (/^~(\/|$)/.test(path)) throw wrong(text, 'the shell does not replace ~ there: write the whole path');
  return { kind: 'directory', path: resolve(cwd, path) };
}

function s3(text: string): StoreSettings {
  if (!URL.canParse(text)) throw wrong(text, 'it is no URL');
  const url = new URL(text);
  if (url.hostname === '') throw wrong(text, 'the bucket is missing');
  if (url.username !== '' || url.password !== '') {
    throw wrong('s3://...@...', 'keys do not belong into a URL: they end up in the shell history');
  }
  if (url.port !== '')
    throw wrong(text, 'what stands before a port is no bucket: ?endpoint=https://HOST:PORT');
  if (url.hash !== '') throw wrong(text, 'a # and what follows it is no part of a prefix');
  const prefix = decoded(url.pathname).replace(/^\/+/, '').replace(/\/*$/, '/');
  const settings: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    if (name !== 'endpoint' && name !== 'region')
      throw wrong(text, `"${name}" is not known; endpoint and region are`);
    if (settings[name] !== undefined) throw wrong(text, `${name} stands there twice`);
    settings[name] = value;
  }
  return { kind: 's3', ...settings, bucket: url.hostname, ...(prefix !== '/' && { prefix }) };
}

function wrong(text: string, reason: string): SealiftError {
  return new SealiftError('usage', `--store ${text}: ${reason}`, {
    hint: `a store is written as ${storeUrlForms}`,
  });
}

/** One setting as YAML, quoted where it has to be. */
export function yamlScalar(value: string | boolean): string {
  return stringify(value, { lineWidth: 0 }).trimEnd();
}
