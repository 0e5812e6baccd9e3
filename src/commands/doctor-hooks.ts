import type { Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { findStartable } from '../interpreter.ts';
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
      try {
        checkup.add('hook', subject, 'good', `would run ${await fileOf(program)}`);
      } catch (error) {
        if (!(error instanceof SealiftError)) throw error;
        checkup.add('hook', subject, 'bad', error.message, `${consequences[hook]}: ${error.hint}`);
      }
    }
}

/** The file that would be run. */
async function fileOf(program: string): Promise<string> {
  const found = await findStartable(program);
  if (found === undefined)
    throw new SealiftError(
      'tool-missing',
      `there is no program ${program}${program.includes('/') ? '' : ' on the PATH'} that can be started`,
      { hint: 'correct its path, or make it executable (chmod +x)' },
    );
  return found;
}
