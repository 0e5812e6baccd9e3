/** Memory that carries the tar from the worker to the main thread, which sends it back to be filled again. */
export const blockBytes = 512 * 1024;

const free: ArrayBuffer[] = [];

/** A block whose content is left over from earlier use. */
export const takeBlock = (): Uint8Array<ArrayBuffer> =>
  new Uint8Array(free.pop() ?? new ArrayBuffer(blockBytes));

export function giveBlock(memory: ArrayBuffer): void {
  if (memory.byteLength === blockBytes) free.push(memory);
}
