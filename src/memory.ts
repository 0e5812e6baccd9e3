/**
 * Gives memory back now. V8 counts buffers by their size and collects the whole heap every few dozen MiB of them, which
 * costs more than all the hashing. The bytes cannot be read afterwards; what lies in a shared buffer is left alone.
 * `memoryBytes`: of memory that holds nothing but these bytes, where they do not fill it.
 */
export function release(bytes: Uint8Array, memoryBytes = bytes.byteLength): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === memoryBytes) buffer.transfer(0);
}

/**
 * What of these can be handed to another thread without a copy: memory that nothing else lies in (Node pools what is
 * small).
 */
export const transferable = (...all: readonly (Uint8Array | undefined)[]): ArrayBuffer[] =>
  all.flatMap((bytes) =>
    bytes?.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength
      ? [bytes.buffer]
      : [],
  );
