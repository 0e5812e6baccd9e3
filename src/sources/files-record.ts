import { rfc3339 } from '../clock.ts';
import { SealiftError } from '../errors.ts';
import { type ByteName, base64Of, bytesOf, fromBase64, isText, textOf } from './byte-name.ts';
import type { Place } from './files-tar.ts';
import { type TarEntry, blockBytes } from './tar-records.ts';

/** How the sealed details describe one entry of a tree (docs/format.md, `entry`). Written and read here. */
export interface TreeEntry extends TarEntry, Place {
  /** Absolute, for people and patterns; `name` has the exact bytes. */
  readonly path: string;
}

/** As GNU tar has it: `etc/hosts`, and `./` for the root of the file system. */
export const nameInTar = (path: ByteName): ByteName => (path === '/' ? '.' : path.slice(1));

const pathOf = (name: ByteName): ByteName => (name === '.' ? '/' : `/${name}`);

export interface EntryRecord {
  readonly type: 'entry';
  readonly [key: string]: unknown;
}

export function recordOf(entry: TarEntry, { offset, data }: Place): EntryRecord {
  const path = pathOf(entry.name);
  const target = entry.kind === 'link' ? pathOf(entry.target ?? '') : entry.target;
  return {
    type: 'entry',
    path: textOf(path),
    ...(isText(path) ? {} : { rawPath: base64Of(path) }),
    kind: entry.kind,
    size: entry.sizeBytes,
    offset,
    data,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: timeOf(entry.mtimeNs),
    ...(target === undefined ? {} : { target: textOf(target) }),
    ...(target === undefined || isText(target) ? {} : { rawTarget: base64Of(target) }),
  };
}

const nameOf = (path: unknown): string => (typeof path === 'string' ? JSON.stringify(path) : 'an entry');

/** The inverse; times in whole seconds. Throws `verify-failed` for what no version of ours has written. */
export function entryIn(record: { readonly [key: string]: unknown }): TreeEntry {
  const wrong = (field: string): SealiftError =>
    new SealiftError(
      'verify-failed',
      `the details describe ${nameOf(record['path'])} by a ${field} that is none`,
    );
  const number = (field: string): number => {
    const value = record[field];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw wrong(field);
  };
  const text = (field: string): string => {
    const value = record[field];
    if (typeof value === 'string' && value !== '') return value;
    throw wrong(field);
  };
  const bytes = (field: string, raw: string): ByteName =>
    record[raw] === undefined ? bytesOf(text(field)) : fromBase64(text(raw));

  const kind = record['kind'];
  if (kind !== 'file' && kind !== 'directory' && kind !== 'symlink' && kind !== 'link') throw wrong('kind');
  const path = bytes('path', 'rawPath');
  if (!path.startsWith('/')) throw wrong('path');
  const target = kind === 'symlink' || kind === 'link' ? bytes('target', 'rawTarget') : undefined;
  const [offset, data] = [number('offset'), number('data')];
  if (offset % blockBytes !== 0) throw wrong('offset');
  if (data % blockBytes !== 0 || data <= offset) throw wrong('data');
  const mtimeMs = Date.parse(text('mtime'));
  if (Number.isNaN(mtimeMs)) throw wrong('mtime');
  return {
    path: text('path'),
    kind,
    name: nameInTar(path),
    ...(target === undefined ? {} : { target: kind === 'link' ? nameInTar(target) : target }),
    offset,
    data,
    sizeBytes: number('size'),
    mode: number('mode'),
    uid: number('uid'),
    gid: number('gid'),
    mtimeNs: BigInt(mtimeMs) * 1_000_000n,
  };
}

function timeOf(timeNs: bigint): string {
  const latestMs = 253_402_300_799_000; // the end of 9999, after which the form has no room
  const ms = Math.min(Math.max(Number(timeNs / 1_000_000n), -62_135_596_800_000), latestMs);
  return rfc3339(ms);
}
