/**
 * Gives memory back now. V8 counts buffers by their size and collects the whole heap every few dozen MiB of them, which
 * costs more than all the hashing. The bytes cannot be read afterwards; what lies in a shared buffer is left alone.
 */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && bytes.byteLength === buffer.byteLength) buffer.transfer(0);
}
