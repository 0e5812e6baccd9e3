import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Options of a test. */
export const needsGetfattr = { skip: !existsSync('/usr/bin/getfattr') && 'needs getfattr' };

/** `user::rw- user:1:r-- group::--- mask::r-- other::---`, as Linux keeps it. */
const readForUser1 =
  '0x0200000001000600ffffffff020004000100000004000000ffffffff10000400ffffffff20000000ffffffff';

/** Gives a file an access control list. Mode 600 becomes 640: the mask stands where the group's rights do. */
export const setAcl = (path: string): void =>
  void execFileSync('setfattr', ['--name=system.posix_acl_access', `--value=${readForUser1}`, path]);

export const hasAcl = (path: string): boolean =>
  execFileSync('getfattr', ['--dump', '--match=-', '--encoding=hex', '--absolute-names', path])
    .toString()
    .includes(readForUser1);
