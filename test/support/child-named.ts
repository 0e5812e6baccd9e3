import { readdirSync, readFileSync } from 'node:fs';

/** A process that this one started. */
export function childNamed(name: string): number {
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const [, comm, rest = ''] = /\((.*)\) (.*)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
      if (comm === name && rest.split(' ')[1] === String(process.pid)) return Number(pid);
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error(`no child is named ${name}`);
}
