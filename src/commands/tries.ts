import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, replaceFile } from '../durable.ts';
import type { Config } from '../config/config.ts';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { startOf } from '../snapshot/object-key.ts';
import * as z from '../zod.ts';
import type { Context } from './context.ts';
import type { JobResult } from './run-job.ts';

/**
 * What this machine last tried, one file of the state folder for each job and one for prune: so that a daemon that
 * starts anew, and `daemon --once`, go on with the same patience, and `status` can tell. Deleting it is always safe.
 */
const record = z.object({
  /** By the local clock, in milliseconds since 1970. */
  startedMs: z.number(),
  endedMs: z.number(),
  /** In a row; 0 after a success. */
  failures: z.int().min(0),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  /** The snapshot that this machine made last, and when that began by the local clock. */
  made: z.object({ snapshot: z.string(), startedMs: z.number() }).optional(),
  /** Of prune: when it is to run again. */
  nextMs: z.number().optional(),
});

export type Try = z.output<typeof record>;
export type Failure = NonNullable<Try['error']>;

/** The name that prune has among the jobs; no job can have it. */
export const pruneTry = '_prune';

const fileOf = (stateDir: string, name: string): string => join(stateDir, 'tries', `${name}.json`);

/**
 * When the newest snapshot of a job began, for the schedule. That goes by the local clock, and snapshots are dated by the
 * store's, which may be an hour away: more than the time between two runs can be.
 */
export function newestStartMs(newest: string | undefined, last: Try | undefined): number | undefined {
  if (newest === undefined) return undefined;
  return newest === last?.made?.snapshot ? last.made.startedMs : startOf(newest);
}

/** Undefined where there is none, or one that makes no sense. */
export async function readTry(stateDir: string, name: string): Promise<Try | undefined> {
  const file = fileOf(stateDir, name);
  try {
    return record.safeParse(JSON.parse(await readFile(file, 'utf8'))).data;
  } catch (error) {
    if (error instanceof SyntaxError || systemCode(error) === 'ENOENT') return undefined;
    throw new SealiftError('failed', `${file} cannot be read`, {
      hint: 'It only holds what was tried last: look at who may read it, or delete it.',
      cause: error,
    });
  }
}

/** What was done is done, also where it cannot be written down. */
export async function rememberTry(
  { log }: Pick<Context, 'log'>,
  { stateDir }: Pick<Config, 'stateDir'>,
  name: string,
  tried: Try,
): Promise<void> {
  try {
    await makeFolder(join(stateDir, 'tries'), 0o700);
    await replaceFile(fileOf(stateDir, name), `${JSON.stringify(tried)}\n`, 0o600);
  } catch (error) {
    log.warn(`what was tried could not be written down: ${messageOf(error)}`);
  }
}

/** Of a run that made a snapshot, what is to be told of it all the same. */
export function hookFailure({ problems }: JobResult): Failure | undefined {
  const hook = problems.find(({ code }) => code === 'hook-failed');
  return hook && { code: hook.code, message: hook.text };
}
