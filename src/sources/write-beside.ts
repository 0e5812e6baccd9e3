import type { Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { SealiftError } from '../errors.ts';

const headBytes = 16;

/**
 * Writes what is to take the place of a server's file, beside it. Throws `restore-failed` for what does not begin as such a
 * file does (text of one character per byte). Owner and mode are given to the open file: who may write to the folder could put
 * a link to another one in its place. Without an owner it is for whoever restores alone.
 */
export async function writeBeside(
  path: string,
  body: AsyncIterable<Uint8Array>,
  { what, begins }: { readonly what: string; readonly begins: RegExp },
  owner: Pick<Stats, 'uid' | 'gid' | 'mode'> | undefined,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  let head = Buffer.alloc(0);
  for await (const chunk of body) {
    signal.throwIfAborted();
    if (head.length < headBytes) head = Buffer.concat([head, chunk]).subarray(0, headBytes);
    for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
  }
  if (!begins.test(head.toString('latin1')))
    throw new SealiftError('restore-failed', `the stream is no ${what}`);
  if (owner !== undefined) {
    await file.chown(owner.uid, owner.gid);
    await file.chmod(owner.mode);
  }
  await file.sync();
}
