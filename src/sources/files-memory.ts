/** Memory that carries the content of files from the thread that reads them to the main thread, which sends it back. */
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

export const giveBlock = (memory: ArrayBuffer): void => void free.push(memory);
