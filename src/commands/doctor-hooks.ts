import type { Config } from '../config/config.ts';
import { findCommand } from '../process.ts';
import type { Checkup } from './doctor-checkup.ts';

const consequences = {
  before: 'nothing is saved while it fails',
  after: 'every run ends with 3 while it fails',
} as const;

/** Whether the programs around a job are there. They are not run: doctor changes nothing. */
export async function checkHooks(checkup: Checkup, { jobs }: Config): Promise<void> {
  for (const job of jobs)
    for (const hook of ['before', 'after'] as const) {
      const [program] = job[hook] ?? [];
      if (program === undefined) continue;
      const subject = `${job.name}/${hook}`;
      const found = await findCommand(program);
      if (found === undefined)
        checkup.add(
          'hook',
          subject,
          'bad',
          `there is no program ${program}${program.includes('/') ? '' : ' on the PATH'} that can be started`,
          `${consequences[hook]}: correct its path, or make it executable (chmod +x)`,
        );
      else checkup.add('hook', subject, 'good', `would run ${found}`);
    }
}
