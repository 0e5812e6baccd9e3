import type { BigIntStats } from 'node:fs';

/** Which file this is. With the time of its birth, as the number goes to another one as soon as this is gone. */
export const inodeOf = ({ dev, ino, birthtimeNs }: BigIntStats): string => [dev, ino, birthtimeNs].join(':');

/** Files that are all there at one time. A million of them take 20 to 40 MB. */
export class Inodes {
  readonly #byDevice = new Map<bigint, Set<number | bigint>>();

  add({ dev, ino }: BigIntStats): void {
    const known = this.#byDevice.get(dev) ?? new Set();
    this.#byDevice.set(dev, known.add(compact(ino)));
  }

  has({ dev, ino }: BigIntStats): boolean {
    return this.#byDevice.get(dev)?.has(compact(ino)) === true;
  }
}

/** A number takes less memory, and holds nearly all of them: some file systems of the network use all 64 bits. */
const compact = (ino: bigint): number | bigint => (ino <= Number.MAX_SAFE_INTEGER ? Number(ino) : ino);
