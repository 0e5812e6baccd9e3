import type { BigIntStats } from 'node:fs';

/** Which file this is. With the time of its birth, as the number goes to another one as soon as this is gone. */
export const inodeOf = ({ dev, ino, birthtimeNs }: BigIntStats): string => [dev, ino, birthtimeNs].join(':');
