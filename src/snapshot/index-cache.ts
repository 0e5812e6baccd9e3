import { hash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guardFolder } from '../permissions.ts';
import type { StoredObject } from '../store/store.ts';
import * as z from '../zod.ts';

/** An index whose signature was good when it was put here. */
export interface VerifiedIndex {
  readonly content: Uint8Array;
  /** Fingerprint of the key that signed it, upper-case hex. The reader asks whether that key still counts. */
  readonly signer: string;
  /** Of the stored object, lower-case hex. */
  readonly sha256: string;
}

/**
 * Copies of verified indexes, which never change: so that only new ones are fetched. One folder for each store and host,
 * one file for each snapshot. Deleting any of it is always safe; what cannot be read or written is as if it were not
 * there. Nobody but the user who runs sealift can write to it.
 */
export interface IndexCache {
  read(host: string, snapshot: string, object: StoredObject): Promise<VerifiedIndex | undefined>;
  write(host: string, snapshot: string, object: StoredObject, index: VerifiedIndex): Promise<void>;
  /** Forgets what is in the store no longer: a snapshot that has ended must not live on here. */
  retain(host: string, snapshots: ReadonlySet<string>): Promise<void>;
}

/** `content`: SHA-256 of what follows; a power cut may have cut it short. */
const headSchema = z.object({
  etag: z.string(),
  signer: z.string(),
  sha256: z.string(),
  content: z.string(),
});

const etagOf = ({ etag, sizeBytes, lastModified }: StoredObject): string =>
  `${etag} ${sizeBytes} ${lastModified.getTime()}`;

/** A cache in `dir`, which is made when it is first needed; `address` tells stores apart. */
export function openIndexCache(dir: string, address: string): IndexCache {
  const root = join(dir, hash('sha256', address).slice(0, 16));
  const made = new Set<string>();

  async function makeFolder(folder: string): Promise<void> {
    if (made.has(folder)) return;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    guardFolder(dir, { what: 'cache', missing: 'failed', refused: 'failed', secret: true });
    made.add(folder);
  }

  return {
    async read(host, snapshot, object) {
      try {
        const folder = join(root, host);
        await makeFolder(folder);
        const bytes = await readFile(join(folder, snapshot));
        const end = bytes.indexOf(0x0a);
        const head = headSchema.parse(JSON.parse(bytes.subarray(0, end).toString('utf8')));
        const content = bytes.subarray(end + 1);
        if (head.etag !== etagOf(object) || head.content !== hash('sha256', content)) return undefined;
        return { content, signer: head.signer, sha256: head.sha256 };
      } catch {
        return undefined;
      }
    },
    async write(host, snapshot, object, { content, signer, sha256 }) {
      const file = join(root, host, snapshot);
      const draft = `${file}.${randomBytes(6).toString('hex')}`;
      const head = JSON.stringify({ etag: etagOf(object), signer, sha256, content: hash('sha256', content) });
      try {
        await makeFolder(join(root, host));
        await writeFile(draft, Buffer.concat([Buffer.from(`${head}\n`), content]), {
          mode: 0o600,
          flag: 'wx',
        });
        await rename(draft, file);
      } catch {
        await rm(draft, { force: true }).catch(() => undefined);
      }
    },
    async retain(host, snapshots) {
      const folder = join(root, host);
      try {
        await makeFolder(folder);
      } catch {
        return; // others can write to it: it is not ours to tidy
      }
      const names = await readdir(folder).catch(() => []);
      for (const name of names)
        if (!snapshots.has(name)) await rm(join(folder, name), { force: true }).catch(() => undefined);
    },
  };
}
