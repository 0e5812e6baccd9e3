import { formatDuration } from '../clock.ts';
import { SealiftError } from '../errors.ts';
import { formatFingerprint, formatSize, printable } from '../output.ts';
import { WorkerPool } from '../segments/pool.ts';
import type { Snapshot, UnreadableSnapshot } from '../snapshot/catalog.ts';
import { chooseById } from '../snapshot/choose.ts';
import type { DetailsRecord } from '../snapshot/details.ts';
import { segmentsOf, totalStored, type Index } from '../snapshot/index.ts';
import { parseSnapshotId } from '../snapshot/object-key.ts';
import { includer, type Includer } from '../sources/files-include.ts';
import type { Context, Outcome } from './context.ts';
import { describeSnapshot, type SnapshotRow } from './list.ts';
import { printFiles, textOf } from './show-files.ts';
import { createStreamReader } from './read-streams.ts';
import { oneHost, openReaderSession, reportUnreadable, viewHost, type HostView } from './reader-session.ts';
import { sessionKeyFinder, type UnlockOptions } from './unlock.ts';

export interface ShowOptions extends UnlockOptions {
  readonly job?: string;
  readonly host?: string;
  readonly files?: boolean;
  readonly include?: readonly string[];
}

/** The newest that can be read, of any job if none is wanted, and those after it that cannot. */
function newest(
  { host, snapshots, unreadable }: HostView,
  job: string | undefined,
): { snapshot: Snapshot; passedOver: readonly UnreadableSnapshot[] } {
  const isMeant = (id: string): boolean => job === undefined || parseSnapshotId(id)?.job === job;
  const snapshot = snapshots.findLast(({ index }) => isMeant(index.snapshot));
  const unread = unreadable.filter((one) => isMeant(one.snapshot));
  if (snapshot)
    return { snapshot, passedOver: unread.filter((one) => one.snapshot > snapshot.index.snapshot) };
  const newestUnread = unread.at(-1);
  if (newestUnread) throw newestUnread.error;
  throw new SealiftError(
    'snapshot-not-found',
    `host ${host} has no snapshot${job === undefined ? '' : ` of job ${job}`}`,
    { hint: '`sealift list` shows those that there are.' },
  );
}

/** One snapshot: streams, sizes, problems, recipients; with `--files` or `--include` the files in its sealed details. */
export async function show(
  context: Context,
  [wanted = '']: readonly string[],
  options: ShowOptions,
): Promise<Outcome> {
  const { signal, output } = context;
  const included = options.include === undefined ? undefined : includer(options.include);
  const wantsFiles = options.files === true || included !== undefined;
  const findSessionKey =
    wantsFiles || options.key !== undefined ? await sessionKeyFinder(context, options) : undefined;
  await using session = await openReaderSession(context);
  const host = await oneHost(session, options.host, signal);
  const view = await viewHost(session, host, { signal, cache: session.cache });
  const { snapshot, passedOver } =
    wanted === 'latest'
      ? newest(view, options.job)
      : { snapshot: chooseById(view, wanted, options.job), passedOver: [] };
  const { index } = snapshot;
  reportUnreadable(context, { unreadable: passedOver });
  const row = describeSnapshot(snapshot, session.now);
  await using pool = new WorkerPool(session.config.workers);
  const problems: DetailsRecord[] = [];
  /** The details may be larger than memory: what is said of files passes by, problems come after it. */
  async function* files(): AsyncGenerator<DetailsRecord> {
    if (!findSessionKey) return;
    const reader = createStreamReader({ store: session.store, pool, findSessionKey, signal, host });
    for await (const record of reader.details(snapshot)) {
      if (record.type === 'problem') problems.push(record);
      if (wantsFiles && record.type === 'entry' && (included === undefined || isCovered(included, record)))
        yield record;
    }
  }

  if (context.json) {
    const { sequence, previous, signer, schedule, timezone, tool, folders } = index;
    const document = { ...row, sequence, previous, signer, schedule, timezone, tool, folders };
    if (wantsFiles) await output.jsonWithList(document, 'files', files(), () => ({ problemTexts: problems }));
    else {
      for await (const _ of files());
      output.json({ ...document, ...(findSessionKey ? { problemTexts: problems } : {}) });
    }
  } else {
    tell(context, index, row, session.now);
    if (wantsFiles) await printFiles(output, files());
    else for await (const _ of files());
    tellProblems(context, problems.length > 0 ? problems : index.problems);
  }
  return (
    (included && tellUnmatched(context, included.unmatched(), options.include!.length)) ??
    (passedOver.length > 0 ? 'partial' : undefined)
  );
}

const isCovered = (included: Includer, { path }: DetailsRecord): boolean =>
  typeof path === 'string' && included.covers(path);

function tell({ output }: Context, index: Index, row: SnapshotRow, now: Date): void {
  const age = formatDuration(row.ageSeconds);
  const left = formatDuration((Date.parse(index.expiresAt) - now.getTime()) / 1000);
  const facts: [string, string][] = [
    ['host', index.host],
    ['job', `${index.job}  (${printable(`${index.schedule}, ${index.timezone}`)})`],
    ['status', row.status],
    ['started', `${index.startedAt}  (${age} ago)`],
    ['finished', index.finishedAt],
    ['expires', `${index.expiresAt}  (${row.status === 'expired' ? 'over' : `in ${left}`})`],
    ['sequence', `${index.sequence}, after ${index.previous?.snapshot ?? 'none'}`],
    ['signed by', formatFingerprint(index.signer)],
    ...index.recipients.map(({ primary }): [string, string] => ['sealed to', formatFingerprint(primary)]),
    [
      'stored',
      `${formatSize(row.storedBytes)}, of which ${formatSize(row.newBytes)} new; made by ${printable(index.tool)}`,
    ],
  ];
  output.text(output.paint('strong', index.snapshot));
  for (const [name, value] of facts) output.text(`  ${output.paint('faint', name.padEnd(10))} ${value}`);
  output.text();
  output.table(
    [
      { title: 'STREAM' },
      { title: 'KIND' },
      { title: 'STATUS' },
      { title: 'DATA', align: 'right' },
      { title: 'STORED', align: 'right' },
      { title: 'SEGMENTS', align: 'right' },
    ],
    index.streams.map((stream) => [
      stream.name,
      printable(stream.kind),
      output.paint(stream.status === 'complete' ? 'good' : 'warning', stream.status),
      formatSize(stream.bytes),
      formatSize(totalStored(segmentsOf(index, stream))),
      String(stream.segments.length),
    ]),
  );
}

function tellProblems({ output }: Context, problems: readonly { readonly [key: string]: unknown }[]): void {
  if (problems.length > 0) output.text();
  for (const { source, code, text } of problems)
    output.text(
      `${output.paint('warning', textOf(code))}  ${textOf(source)}${text === undefined ? '' : `: ${textOf(text)}`}`,
    );
}

/** What matches nothing is worth a word; that nothing matches is an outcome. */
function tellUnmatched({ log }: Context, unmatched: readonly string[], asked: number): Outcome {
  for (const pattern of unmatched) log.warn(`nothing matches --include ${printable(pattern)}`);
  return unmatched.length === asked ? 'files-not-found' : undefined;
}
