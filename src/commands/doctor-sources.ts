import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { formatDuration } from '../clock.ts';
import type { Config, SourceConfig } from '../config/config.ts';
import { isThisMachine } from '../config/hosts.ts';
import { SealiftError } from '../errors.ts';
import { orLeave } from '../left-behind.ts';
import { formatSize } from '../output.ts';
import { isPartial, type ProblemCode } from '../problems.ts';
import { openSource } from '../sources/open.ts';
import type { SourceContext, SourceStream } from '../sources/source.ts';
import { TimeLimit } from '../time-limit.ts';
import type { Checkup } from './doctor-checkup.ts';

/** So long doctor waits for one source; a backup waits for its timeLimit. */
const patienceSeconds = 60;

/**
 * Asks every source what it would save now, as a backup does before it reads the first byte: so programs, their
 * versions, logins and names are looked at by the same code.
 */
export async function checkSources(
  checkup: Checkup,
  { jobs }: Config,
  around: Pick<SourceContext, 'signal' | 'temporary'>,
): Promise<void> {
  for (const job of jobs)
    for (const config of job.sources) {
      const subject = `${job.name}/${config.name}`;
      await checkup.attempt('source', subject, () => checkSource(checkup, subject, config, around));
    }
}

async function checkSource(
  checkup: Checkup,
  subject: string,
  config: SourceConfig,
  { signal, temporary }: Pick<SourceContext, 'signal' | 'temporary'>,
): Promise<void> {
  for (const server of [config, 'database' in config ? config.database : undefined])
    if (server !== undefined && 'host' in server) checkConnection(checkup, subject, server);
  const source = openSource(config);
  const seconds = Math.min(config.timeLimitSeconds, patienceSeconds);
  using limit = new TimeLimit(seconds * 1000, () => noAnswer(seconds));
  const facts = new Set<string>();
  const problems: { code: ProblemCode; text: string }[] = [];
  const ends = AbortSignal.any([signal, limit.signal]);
  const streams = await limit.measure(() => {
    const asked = source.streams({
      signal: ends,
      temporary,
      problem: (code, text) => void problems.push({ code, text }),
      async detail(record) {
        for (const fact of factsIn(record)) facts.add(fact);
      },
    });
    return orLeave(asked, subject, ends);
  });
  const names = streams.slice(0, 5).map(({ file }) => file);
  const more = streams.length > names.length ? `, and ${streams.length - names.length} more` : '';
  checkup.add(
    'source',
    subject,
    'good',
    [`${config.kind} would save ${names.join(', ')}${more}`, ...facts].join('; '),
  );
  for (const { file, lacks = [] } of streams)
    for (const text of lacks) checkup.add('source', subject, 'bad', `${file}: ${text}`);
  for (const problem of problems)
    checkup.add('source', subject, isPartial(problem) ? 'bad' : 'warning', problem.text);
  await checkRoom(checkup, subject, streams, source.parallel ?? 1);
}

/** Over a network, somebody else may listen or answer. */
function checkConnection(
  checkup: Checkup,
  subject: string,
  { host, tls }: { readonly host?: string | undefined; readonly tls?: object | undefined },
): void {
  if (host === undefined || tls !== undefined || isThisMachine(host)) return;
  checkup.add(
    'source',
    subject,
    'warning',
    `the connection to ${host} may be without encryption, and nothing vouches for who answers there`,
    'tls: { ca: PATH } of the source asks for both',
  );
}

const noAnswer = (seconds: number): SealiftError =>
  new SealiftError('source-timeout', `it has not said within ${formatDuration(seconds)} what it would save`, {
    hint: 'see what it waits for',
  });

/** What a source says of its server. */
function factsIn({ type, version, dumpedBy }: { type: string; [key: string]: unknown }): string[] {
  if (type !== 'server' || typeof version !== 'string') return [];
  return [`server ${version}${typeof dumpedBy === 'string' ? `, dumped by ${dumpedBy}` : ''}`];
}

/** Room for what a program can write to a file only. */
async function checkRoom(
  checkup: Checkup,
  subject: string,
  streams: readonly SourceStream[],
  parallel: number,
): Promise<void> {
  const largest = streams.map(({ temporaryBytes = 0 }) => temporaryBytes).toSorted((a, b) => b - a);
  const neededBytes = largest.slice(0, parallel).reduce((sum, bytes) => sum + bytes, 0);
  if (neededBytes === 0) return;
  const { bavail, bsize } = await statfs(tmpdir());
  const freeBytes = bavail * bsize;
  if (freeBytes >= neededBytes) return;
  checkup.add(
    'source',
    subject,
    'warning',
    `it needs about ${formatSize(neededBytes)} in ${tmpdir()}, which has ${formatSize(freeBytes)} left`,
    'free space there, or set TMPDIR to a folder with more',
  );
}
