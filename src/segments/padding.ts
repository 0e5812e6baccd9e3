/**
 * Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019): the
 * smallest size >= `sizeBytes` whose binary form ends in so many zeros that only O(log log n) bits of it leak.
 */
export function padme(sizeBytes: number): number {
  if (sizeBytes < 2) return sizeBytes;
  const exponent = Math.floor(Math.log2(sizeBytes));
  const kept = Math.floor(Math.log2(exponent)) + 1;
  const step = 2 ** Math.max(0, exponent - kept);
  return Math.ceil(sizeBytes / step) * step;
}

const skippableHeaderBytes = 8;
const smallestBytes = 4096;

/**
 * What follows a zstd frame of this length: one skippable frame of zeros (RFC 8878, 3.1.2), so that both together have a
 * Padmé size of at least 4 KiB.
 */
export function paddingFor(frameBytes: number): Buffer {
  const total = Math.max(smallestBytes, padme(frameBytes + skippableHeaderBytes));
  const padding = Buffer.alloc(total - frameBytes);
  padding.writeUInt32LE(0x184d2a50, 0);
  padding.writeUInt32LE(padding.length - skippableHeaderBytes, 4);
  return padding;
}
