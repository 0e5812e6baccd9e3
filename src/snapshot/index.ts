import { namePattern } from '../config/fields.ts';
import { SealiftError } from '../errors.ts';
import { kindOf } from '../problems.ts';
import * as z from '../zod.ts';
import { parseSnapshotId, parseStreamName } from './object-key.ts';

/**
 * The index of a snapshot, format 1: what it is made of, public and signed (docs/format.md, "Index"). The one place
 * that writes and reads it.
 */

const time = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  .refine((text) => !Number.isNaN(Date.parse(text)), 'is no time');
const fingerprint = z.string().regex(/^([0-9A-F]{40}|[0-9A-F]{64})$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().nonnegative();
const snapshotId = z.string().refine((text) => parseSnapshotId(text) !== undefined, 'is no snapshot id');
const recipient = z.object({ primary: fingerprint, subkey: fingerprint });

const schema = z.object({
  format: z.literal('sealift-index/1'),
  host: z.string().regex(namePattern),
  job: z.string().regex(namePattern),
  snapshot: snapshotId,
  signer: fingerprint,
  sequence: z.int().positive(),
  previous: z.object({ snapshot: snapshotId, sha256, expiresAt: time.optional() }).nullable(),
  startedAt: time,
  finishedAt: time,
  maxAge: count,
  reuseWindow: count,
  expiresAt: time,
  schedule: z.string(),
  timezone: z.string(),
  tool: z.string(),
  recipients: z.array(recipient).min(1),
  status: z.enum(['complete', 'partial']),
  problems: z.array(z.object({ source: z.string().regex(namePattern), code: z.string().regex(namePattern) })),
  folders: z.array(z.object({ snapshot: snapshotId, recipients: z.array(recipient).min(1) })).min(1),
  streams: z
    .array(
      z.object({
        name: z.string().refine((name) => parseStreamName(name) !== undefined, 'is no stream name'),
        source: z.string(),
        kind: z.string(),
        role: z.enum(['data', 'details']),
        status: z.enum(['complete', 'partial']),
        bytes: count,
        segments: z.array(z.tuple([count, z.string().regex(/^[0-9a-f]{32}$/), count, sha256])),
      }),
    )
    .min(1),
});

export type Index = z.infer<typeof schema>;
export type IndexStream = Index['streams'][number];
export type Recipient = z.infer<typeof recipient>;

/** A segment as an index names it. */
export interface NamedSegment {
  /** The snapshot in whose folder it lies. */
  readonly folder: string;
  readonly id: string;
  readonly storedBytes: number;
  readonly sha256: string;
}

export const recipientsEqual = (a: readonly Recipient[], b: readonly Recipient[]): boolean =>
  a.length === b.length &&
  a.every(({ primary, subkey }, i) => primary === b[i]?.primary && subkey === b[i]?.subkey);

/** Oldest first. Two runs of a job may begin in the same second: then their sequence decides. */
export function compareAge(a: Index, b: Index): number {
  if (a.startedAt !== b.startedAt) return a.startedAt < b.startedAt ? -1 : 1;
  if (a.job === b.job) return a.sequence - b.sequence;
  return a.snapshot < b.snapshot ? -1 : 1;
}

/** The segments of one stream, in order. */
export function segmentsOf(index: Index, stream: IndexStream): NamedSegment[] {
  return stream.segments.map(([folder, id, storedBytes, sha256]) => ({
    folder: index.folders[folder]!.snapshot,
    id,
    storedBytes,
    sha256,
  }));
}

/** Those that cost data. One of a later version counts as such where any of them does. */
export const partialProblems = ({ problems, status }: Index): Index['problems'] =>
  problems.filter(({ code }) => (kindOf(code) ?? status) === 'partial');

/** Every object that the index names, each once. */
export function objectsOf(index: Index): NamedSegment[] {
  const objects = new Map<string, NamedSegment>();
  for (const stream of index.streams)
    for (const segment of segmentsOf(index, stream)) objects.set(`${segment.folder}/${segment.id}`, segment);
  return [...objects.values()];
}

export interface StoredSizes {
  /** All objects that the snapshot names, and those of them that it added. */
  readonly objects: number;
  readonly newObjects: number;
  readonly storedBytes: number;
  readonly newBytes: number;
}

export function storedSizes(index: Index): StoredSizes {
  const objects = objectsOf(index);
  const added = objects.filter(({ folder }) => folder === index.snapshot);
  return {
    objects: objects.length,
    newObjects: added.length,
    storedBytes: totalStored(objects),
    newBytes: totalStored(added),
  };
}

export const totalStored = (segments: readonly { readonly storedBytes: number }[]): number =>
  segments.reduce((total, { storedBytes }) => total + storedBytes, 0);

/** JSON with one segment a line, so that `sed`, `grep` and people can read it too. */
export function formatIndex(index: Index): Buffer {
  const { streams, ...head } = index;
  const lines = [JSON.stringify(head).slice(0, -1) + ',"streams":['];
  streams.forEach(({ segments, ...stream }, i) => {
    lines.push(`${JSON.stringify(stream).slice(0, -1)},"segments":[`);
    segments.forEach((segment, j) =>
      lines.push(JSON.stringify(segment) + (j + 1 < segments.length ? ',' : '')),
    );
    lines.push(i + 1 < streams.length ? ']},' : ']}');
  });
  lines.push(']}');
  return Buffer.from(`${lines.join('\n')}\n`);
}

/** For a message: whatever a host put there is told in a few words. */
const quoted = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : 'no text';

/**
 * Reads an index whose signature was verified, and checks that it agrees with itself and with where it lay. Throws
 * `verify-failed` otherwise.
 */
export function parseIndex(bytes: Uint8Array, at: { host: string; snapshot: string }): Index {
  const wrong = (reason: string, hint?: string): SealiftError =>
    new SealiftError('verify-failed', `the index of ${at.host}/${at.snapshot} is not valid: ${reason}`, {
      hint,
    });
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw wrong('it is not JSON');
  }
  const format = (json as { format?: unknown } | null)?.format;
  if (format !== 'sealift-index/1')
    throw wrong(
      `its format is ${quoted(format)}; this version reads "sealift-index/1"`,
      typeof format === 'string' && /^sealift-index\/\d+$/.test(format)
        ? 'A later version of sealift made it: install that one here'
        : undefined,
    );
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw wrong(`${issue?.path.join('.')}: ${issue?.message}`);
  }
  const index = parsed.data;
  if (index.host !== at.host || index.snapshot !== at.snapshot)
    throw wrong(`it was made for ${index.host}/${index.snapshot}`);
  const id = parseSnapshotId(index.snapshot)!;
  if (id.job !== index.job) throw wrong(`its job is ${index.job}`);
  if (id.startedAt.getTime() !== Date.parse(index.startedAt)) throw wrong(`it started at ${index.startedAt}`);
  if (Date.parse(index.expiresAt) - Date.parse(index.startedAt) !== index.maxAge * 1000)
    throw wrong(`it expires at ${index.expiresAt}, not maxAge after its start`);
  if (index.folders[0]?.snapshot !== index.snapshot) throw wrong('folder 0 is not its own');
  if (new Set(index.streams.map(({ name }) => name)).size !== index.streams.length)
    throw wrong('two streams have one name');
  for (const stream of index.streams) {
    if (parseStreamName(stream.name)?.source !== stream.source)
      throw wrong(`stream ${stream.name} is misnamed`);
    if (stream.segments.some(([folder]) => folder >= index.folders.length))
      throw wrong(`stream ${stream.name} names a folder that is not listed`);
  }
  return index;
}
