/** Memory that carries the tar from the worker to the main thread, which sends it back to be filled again. */
export const blockBytes = 1024 * 1024;

/**
 * Unused bytes in front of what a file is read into. Large memory begins 16 bytes into a page, and there read(2) takes
 * three times as long on AMD Zen 3: its copy from the start of a page to just behind the start of another one is slow.
 */
const leadBytes = 64;

const memoryBytes = leadBytes + blockBytes;
const free: ArrayBuffer[] = [];

/** A block whose content is left over from earlier use. */
export const takeBlock = (): Uint8Array<ArrayBuffer> =>
  new Uint8Array(free.pop() ?? new ArrayBuffer(memoryBytes), leadBytes, blockBytes);

export function giveBlock(memory: ArrayBuffer): void {
  if (memory.byteLength === memoryBytes) free.push(memory);
}

/** Memory for a whole file; what it holds is left over, too. Small files lie side by side in Node's pool. */
export const takeWhole = (sizeBytes: number): Buffer =>
  sizeBytes < Buffer.poolSize >>> 1
    ? Buffer.allocUnsafe(sizeBytes)
    : Buffer.allocUnsafe(leadBytes + sizeBytes).subarray(leadBytes);

/** Whether these bytes, taken here, fill their memory: then it can be handed on as it is. */
export const fillsMemory = ({ buffer, length }: Uint8Array): boolean =>
  buffer.byteLength === leadBytes + length;
