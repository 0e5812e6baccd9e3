import type { TarEntryData } from 'archiver';
import type { Header } from 'tar-stream';
import { type ByteName, base64Of, bytesOf, fromBase64, isText, textOf } from './byte-name.ts';

/**
 * How one file, folder or link stands in `files.tar`: POSIX pax (ustar and extended headers), for any tar to read.
 * Both directions live here. Every entry has an extended header, so the length of what precedes its data is known
 * without asking the tar writer.
 *
 * - `mtime` in nanoseconds, `uid` and `gid` where the six octal digits end that tar-stream writes, `path` and `linkpath`: standard.
 * - `SEALIFT.path`, `SEALIFT.linkpath`: base64 of the exact bytes of a name that is not UTF-8. Other readers warn
 *   and use `path`, in which each bad byte is `%XX`.
 */
export interface TarEntry {
  readonly kind: 'file' | 'directory' | 'symlink' | 'link';
  /** In the tar: without the leading slash. */
  readonly name: ByteName;
  /** Of a symlink what it holds, of a hard link the name in the tar of the first. */
  readonly target?: ByteName;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly uname?: string | undefined;
  readonly gname?: string | undefined;
  readonly mtimeNs: bigint;
  readonly sizeBytes: number;
}

export const blockBytes = 512;
export const padded = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes;

/** ustar has a seventh digit, which tar-stream does not write. */
const largestOctal = 0o777777;
const largestSeconds = 2 ** 31 - 1;
/** Names that archiver rewrites: backslashes become slashes, a leading `word:` goes. */
const rewritten = /\\|^\w+:/;

/** The header fields, as archiver hands them through to tar-stream, and the bytes that they take before the data. */
export function headerOf(entry: TarEntry): { data: TarEntryData; bytes: number } {
  const slash = entry.kind === 'directory' ? '/' : '';
  const name = textOf(entry.name);
  const standIn = rewritten.test(name) ? name.replaceAll(/[\\:]/g, '_') : name;
  const linkname = entry.target === undefined ? undefined : textOf(entry.target);
  const pax: Record<string, string> = { mtime: paxTime(entry.mtimeNs) };
  // Of two records with one keyword the later counts (POSIX), so this stands in front of archiver's rewriting.
  if (standIn !== name) pax['path'] = name + slash;
  if (entry.uid > largestOctal) pax['uid'] = String(entry.uid);
  if (entry.gid > largestOctal) pax['gid'] = String(entry.gid);
  if (!isText(entry.name)) pax['SEALIFT.path'] = base64Of(entry.name);
  if (entry.target !== undefined && !isText(entry.target)) pax['SEALIFT.linkpath'] = base64Of(entry.target);

  const seconds = Math.min(Math.max(Number(entry.mtimeNs / 1_000_000_000n), 0), largestSeconds);
  const data = {
    name: standIn,
    type: entry.kind,
    date: new Date(seconds * 1000),
    // tar-stream takes the number 0 for "not given" and would publish a mode 000 file as 644.
    mode: entry.mode === 0 ? '0' : entry.mode,
    uid: Math.min(entry.uid, largestOctal),
    gid: Math.min(entry.gid, largestOctal),
    uname: fitting(entry.uname),
    gname: fitting(entry.gname),
    linkname,
    stats: { size: entry.sizeBytes },
    pax,
  };
  const records: [string, string][] = [['path', standIn + slash], ...Object.entries(pax)];
  if (linkname !== undefined) records.push(['linkpath', linkname]);
  const bytes = records.reduce((sum, [key, value]) => sum + recordBytes(key, value), 0);
  // archiver's types know neither the fields that it passes on nor the fourth kind.
  return { data: data as unknown as TarEntryData, bytes: 2 * blockBytes + padded(bytes) };
}

/** Length of one pax record "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
function recordBytes(key: string, value: string): number {
  const rest = Buffer.byteLength(key) + Buffer.byteLength(value) + 3;
  let total = rest + 1;
  while (rest + String(total).length !== total) total += 1;
  return total;
}

/** The fields have 32 bytes with the closing zero, and tar-stream does not look. */
const fitting = (name: string | undefined): string | undefined =>
  name !== undefined && /^[\x21-\x7e]{1,31}$/.test(name) ? name : undefined;

function paxTime(timeNs: bigint): string {
  const absolute = timeNs < 0n ? -timeNs : timeNs;
  const fraction = String(absolute % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const whole = `${timeNs < 0n ? '-' : ''}${absolute / 1_000_000_000n}`;
  return fraction === '' ? whole : `${whole}.${fraction}`;
}

/** The inverse, for any tar: what stands in the extended header goes before the header. Names are not checked. */
export function entryOf(header: Header): TarEntry | undefined {
  const type = header.type as Header['type'] | null; // null: a kind that tar-stream does not know
  const kind = type === 'contiguous-file' ? 'file' : type;
  if (kind !== 'file' && kind !== 'directory' && kind !== 'symlink' && kind !== 'link') return undefined;
  const pax = (header.pax ?? {}) as Record<string, string | undefined>;
  const exact = { path: pax['SEALIFT.path'], linkpath: pax['SEALIFT.linkpath'] };
  const name = exact.path === undefined ? bytesOf(header.name) : fromBase64(exact.path);
  const target = exact.linkpath === undefined ? bytesOf(header.linkname ?? '') : fromBase64(exact.linkpath);
  return {
    kind,
    name,
    ...(kind === 'symlink' || kind === 'link' ? { target } : {}),
    mode: header.mode & 0o7777,
    uid: idOf(pax['uid']) ?? header.uid,
    gid: idOf(pax['gid']) ?? header.gid,
    mtimeNs: timeOf(pax['mtime']) ?? BigInt(Math.trunc(header.mtime.getTime())) * 1_000_000n,
    sizeBytes: header.size,
  };
}

const idOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;

function timeOf(text: string | undefined): bigint | undefined {
  const parts = /^(-?)(\d{1,18})(?:\.(\d+))?$/.exec(text ?? '');
  if (parts === null) return undefined;
  const absolute = BigInt(parts[2]!) * 1_000_000_000n + BigInt((parts[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return parts[1] === '-' ? -absolute : absolute;
}
