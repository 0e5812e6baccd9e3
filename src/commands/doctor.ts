import { formatDuration, rfc3339 } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { countOf } from '../count-of.ts';
import { isAnythingLeft } from '../left-behind.ts';
import { takeLock } from '../lock.ts';
import { join } from 'node:path';
import { longestGapSeconds } from '../policy/schedule.ts';
import { openTemporary } from '../temporary.ts';
import type { Context, Outcome } from './context.ts';
import { checkAttributes } from './doctor-attributes.ts';
import { Checkup, printCheck } from './doctor-checkup.ts';
import { checkDatabases } from './doctor-databases.ts';
import { checkHooks } from './doctor-hooks.ts';
import { checkHost, checkKeys } from './doctor-host.ts';
import { checkMounts } from './doctor-mounts.ts';
import { checkSecrets } from './doctor-secrets.ts';
import { checkSources } from './doctor-sources.ts';
import { checkStore } from './doctor-store.ts';

/**
 * Looks at everything that a backup of this host needs, and says what to do. It writes nothing but one object that it
 * removes again. Exit code 3 if anything is bad; warnings alone leave it at 0. A configuration that cannot be read is
 * an error as everywhere.
 */
export async function doctor(context: Context): Promise<Outcome> {
  const { output, json, signal, clock } = context;
  const config = await context.config();
  const checkup = new Checkup((check) => {
    if (!json) printCheck(output, check);
  }, signal);

  checkConfig(checkup, config);
  checkSchedules(checkup, config, clock());
  checkSecrets(checkup, config);
  const identity = await checkHost(checkup, config);
  await checkKeys(checkup, config, clock());
  await checkStore(checkup, config, identity, context);
  await checkHooks(checkup, config);
  // Two doctors at once would remove each other's temporary folders.
  using _ = identity && (await takeLock(join(identity.state.dir, 'lock', '_doctor'), 'doctor on this host'));
  await using temporary = await openTemporary(`${config.stateDir} doctor`, {
    oneOfSeveral: identity === undefined,
  });
  await checkSources(checkup, config, { signal, temporary: () => temporary.folder() });
  // These ask the disks of all sources once more, the first of them without a limit of time.
  if (isAnythingLeft())
    checkup.add(
      'source',
      config.file,
      'warning',
      'a disk does not answer: databases of chat servers, mounts and attributes were not looked for',
      'run `sealift doctor` again once it does',
    );
  else {
    await checkDatabases(checkup, config);
    await checkMounts(checkup, config, signal);
    await checkAttributes(checkup, config, signal);
  }

  const [bad, warnings] = [checkup.count('bad'), checkup.count('warning')];
  if (json)
    output.json({
      ok: bad === 0,
      checkedAt: rfc3339(clock()),
      host: config.host ?? null,
      checks: checkup.checks,
    });
  else output.text(output.paint(bad > 0 ? 'bad' : warnings > 0 ? 'warning' : 'good', verdict(bad, warnings)));
  return bad > 0 ? 'partial' : undefined;
}

function checkConfig(checkup: Checkup, { file, jobs }: Config): void {
  const sources = jobs.reduce((sum, job) => sum + job.sources.length, 0);
  if (jobs.length > 0)
    checkup.add('config', file, 'good', `${countOf(jobs.length, 'job')}, ${countOf(sources, 'source')}`);
  else checkup.add('config', file, 'warning', 'it has no jobs', 'add a job below `jobs:`');
}

/** A snapshot that ends before the next one is made leaves nothing to restore for a while. */
function checkSchedules(checkup: Checkup, { file, jobs, maxAgeSeconds }: Config, now: Date): void {
  for (const { name, schedule, timezone } of jobs) {
    const gap = longestGapSeconds(schedule, timezone, now.getTime());
    if (gap < maxAgeSeconds) continue;
    checkup.add(
      'config',
      file,
      'warning',
      `up to ${formatDuration(gap)} lie between two runs of job ${name} ("${schedule}"), and a snapshot is kept for ` +
        `${formatDuration(maxAgeSeconds)}: until the next one is made, there is nothing to restore`,
      'raise retention.maxAge, or let the job run more often',
    );
  }
}

function verdict(bad: number, warnings: number): string {
  if (bad > 0) return `${countOf(bad, 'thing')} must be put right.`;
  return warnings > 0 ? `Backups can run; ${countOf(warnings, 'thing')} to look at.` : 'All is well.';
}
