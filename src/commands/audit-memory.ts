import { hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { Environment } from '../config/environment.ts';
import { makeFolder, replaceFile } from '../durable.ts';
import { SealiftError } from '../errors.ts';
import { readGuarded } from '../permissions.ts';
import { endOf, type HostFacts, type SeenSnapshot } from '../policy/audit-facts.ts';
import * as z from '../zod.ts';

/**
 * What this auditor saw in a store the last time: the newest snapshot of every job, until it ends. Whoever can write to
 * the store can set it back to an older state, signatures and all; only this file tells. Deleting it loses that.
 */
export type Memory = ReadonlyMap<string, ReadonlyMap<string, SeenSnapshot>>;

const seen = z.object({
  sequence: z.int().positive(),
  snapshot: z.string(),
  sha256: z.string(),
  startedMs: z.int(),
  endsMs: z.int(),
});
const schema = z.object({
  format: z.literal('sealift-audit-memory/1'),
  store: z.string(),
  hosts: z.record(z.string(), z.record(z.string(), seen)),
});

/** In the state of a host, else below `$XDG_STATE_HOME`; one file for each store. */
export function memoryFile({ stateDir, store }: Config, { stateHome }: Environment): string {
  const place =
    store.kind === 's3'
      ? `${store.endpoint ?? ''} ${store.bucket}/${store.prefix}`
      : `directory ${store.path}`;
  const name = hash('sha256', place).slice(0, 16);
  const folder = existsSync(stateDir) ? stateDir : join(stateHome, 'sealift');
  return join(folder, `audit-${name}.json`);
}

/** Undefined before the first audit. Throws `config-invalid` for a file that others can write, or that is damaged. */
export function readMemory(file: string): Memory | undefined {
  let bytes: Buffer;
  try {
    const guard = {
      what: "the auditor's memory",
      missing: 'config-not-found',
      refused: 'config-invalid',
    } as const;
    bytes = readGuarded(file, { ...guard, secret: true });
  } catch (error) {
    if (error instanceof SealiftError && error.code === 'config-not-found') return undefined;
    throw error;
  }
  try {
    const { hosts } = schema.parse(JSON.parse(bytes.toString('utf8')));
    return new Map(Object.entries(hosts).map(([host, jobs]) => [host, new Map(Object.entries(jobs))]));
  } catch (error) {
    throw new SealiftError('config-invalid', `the auditor's memory ${file} is damaged`, {
      hint: 'Restore it from a backup. If you delete it, the next audit cannot tell whether the store was set back.',
      cause: error,
    });
  }
}

/** What there is to remember after these hosts were looked at; of the others, what is remembered already. */
export function remember(memory: Memory | undefined, looked: readonly HostFacts[], nowMs: number): Memory {
  const hosts = new Map(memory);
  for (const { host, snapshots } of looked) {
    const jobs = new Map([...(hosts.get(host) ?? [])].filter(([, { endsMs }]) => endsMs > nowMs));
    for (const { job, ...snapshot } of snapshots) {
      const { sequence, startedMs } = snapshot;
      const endsMs = endOf(snapshot);
      // One that is dated in the future would be remembered too long.
      if (startedMs > nowMs || endsMs <= nowMs || sequence <= (jobs.get(job)?.sequence ?? 0)) continue;
      jobs.set(job, { sequence, snapshot: snapshot.snapshot, sha256: snapshot.sha256, startedMs, endsMs });
    }
    if (jobs.size > 0) hosts.set(host, jobs);
    else hosts.delete(host);
  }
  return hosts;
}

export async function writeMemory(file: string, store: string, memory: Memory): Promise<void> {
  const hosts = Object.fromEntries([...memory].map(([host, jobs]) => [host, Object.fromEntries(jobs)]));
  const document: z.infer<typeof schema> = { format: 'sealift-audit-memory/1', store, hosts };
  await makeFolder(join(file, '..'), 0o700);
  await replaceFile(file, `${JSON.stringify(document, null, 2)}\n`, 0o600);
}
