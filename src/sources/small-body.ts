export const smallBodyBytes = 64 * 1024 * 1024;

/** The whole of a body that has no business to be large; undefined for one that is. */
export async function readSmall(body: AsyncIterable<Uint8Array>): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    if (sizeBytes > smallBodyBytes) return undefined;
    // A chunk is good until the next is asked for.
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks);
}
