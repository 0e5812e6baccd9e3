import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountsBelow, mountsIn } from '../../src/commands/doctor-mounts.ts';

/** https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html */
const mountInfo = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
24 22 0:5 / /dev rw shared:2 - devtmpfs udev rw
25 22 8:17 / /home/data rw,relatime shared:30 - xfs /dev/sdb1 rw
26 22 8:1 /var/www /home/www rw,relatime shared:1 - ext4 /dev/sda1 rw
27 22 0:40 / /home/my\\040disk rw shared:31 - nfs4 nas:/disk rw
28 25 8:33 / /home/data/deep rw,relatime shared:33 - ext4 /dev/sdc1 rw
29 22 0:50 / /home/tmp rw - tmpfs tmpfs rw
30 22 8:49 / /homely rw - ext4 /dev/sdd1 rw
`;

test('mounts below a path are found where they are another device and hold data', () => {
  const all = ['/home/data', '/home/my disk', '/home/data/deep'];
  const cases: [paths: string[], exclude: string[], found: string[]][] = [
    [['/home'], [], all],
    [['/'], [], [...all, '/homely']],
    [['/', '/home/data'], [], ['/home/my disk', '/home/data/deep', '/homely']],
    [['/home'], ['/home/data'], ['/home/my disk']],
    [['/home'], ['my*', 'deep'], ['/home/data']],
    [['/home/data'], [], ['/home/data/deep']],
    [['/home/data/deep'], [], []],
    [['/etc'], [], []],
  ];
  for (const [paths, exclude, found] of cases)
    assert.deepEqual(
      mountsBelow(paths, exclude, mountsIn(mountInfo)),
      found,
      `${paths.join()} without ${exclude.join()}`,
    );
  assert.deepEqual(mountsBelow(['/home'], [], mountsIn('')), []);
});
