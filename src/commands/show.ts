import { formatDuration } from '../clock.ts';
import { formatFingerprint, formatSize, printable } from '../output.ts';
import { WorkerPool } from '../segments/pool.ts';
import { chooseById } from '../snapshot/choose.ts';
import { segmentsOf, totalStored } from '../snapshot/index.ts';
import type { Context, Outcome } from './context.ts';
import { describeSnapshot } from './list.ts';
import { createStreamReader } from './read-streams.ts';
import { oneHost, openReaderSession, viewHost } from './reader-session.ts';
import { sessionKeyFinder, type UnlockOptions } from './unlock.ts';

export interface ShowOptions extends UnlockOptions {
  readonly host?: string;
  readonly files?: boolean;
}

/** One snapshot: streams, sizes, problems, recipients; with `--files` what the sealed details say of files. */
export async function show(
  context: Context,
  [wanted = '']: readonly string[],
  options: ShowOptions,
): Promise<Outcome> {
  const { signal, output } = context;
  const findSessionKey =
    options.files === true || options.key !== undefined
      ? await sessionKeyFinder(context, options)
      : undefined;
  await using session = await openReaderSession(context);
  const host = await oneHost(session, options.host, signal);
  const view = await viewHost(session, host, { signal, cache: session.cache });
  const snapshot =
    wanted === 'latest'
      ? chooseById(view, view.snapshots.at(-1)?.index.snapshot ?? wanted)
      : chooseById(view, wanted);
  const { index } = snapshot;
  const row = describeSnapshot(snapshot, session.now);
  const private_: { type: string; [key: string]: unknown }[] = [];
  if (findSessionKey) {
    await using pool = new WorkerPool(session.config.workers);
    const reader = createStreamReader({ store: session.store, pool, findSessionKey, signal, host });
    for await (const record of reader.details(snapshot)) private_.push(record);
  }
  const entries = private_.filter(({ type }) => type === 'entry');
  const problems = private_.filter(({ type }) => type === 'problem');
  if (context.json) {
    const { sequence, previous, signer, schedule, timezone, tool, folders } = index;
    const files = options.files === true ? { files: entries } : {};
    const texts = findSessionKey ? { problemTexts: problems } : {};
    return output.json({
      ...row,
      sequence,
      previous,
      signer,
      schedule,
      timezone,
      tool,
      folders,
      ...texts,
      ...files,
    });
  }

  const age = formatDuration(row.ageSeconds);
  const left = formatDuration((Date.parse(index.expiresAt) - session.now.getTime()) / 1000);
  const facts: [string, string][] = [
    ['host', index.host],
    ['job', `${index.job}  (${index.schedule}, ${index.timezone})`],
    ['status', row.status],
    ['started', `${index.startedAt}  (${age} ago)`],
    ['finished', index.finishedAt],
    ['expires', `${index.expiresAt}  (${row.status === 'expired' ? 'over' : `in ${left}`})`],
    ['sequence', `${index.sequence}, after ${index.previous?.snapshot ?? 'none'}`],
    ['signed by', formatFingerprint(index.signer)],
    ...index.recipients.map(({ primary }): [string, string] => ['sealed to', formatFingerprint(primary)]),
    [
      'stored',
      `${formatSize(row.storedBytes)}, of which ${formatSize(row.newBytes)} new; made by ${index.tool}`,
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
      stream.kind,
      output.paint(stream.status === 'complete' ? 'good' : 'warning', stream.status),
      formatSize(stream.bytes),
      formatSize(totalStored(segmentsOf(index, stream))),
      String(stream.segments.length),
    ]),
  );
  if (index.problems.length > 0) output.text();
  const told =
    problems.length > 0 ? problems : index.problems.map((problem) => ({ ...problem, text: undefined }));
  for (const { source, code, text } of told)
    output.text(
      `${output.paint('warning', String(code))}  ${String(source)}${typeof text === 'string' ? `: ${printable(text)}` : ''}`,
    );
  if (options.files === true) printFiles(context, entries);
}

function printFiles({ output }: Context, entries: readonly { [key: string]: unknown }[]): void {
  output.text();
  for (const { mode, uid, gid, size, mtime, path, target, kind } of entries) {
    const what = typeof mode === 'number' ? (mode & 0o7777).toString(8).padStart(4, '0') : '';
    const arrow = typeof target === 'string' ? ` -> ${printable(target)}` : '';
    const owner = `${String(uid)}:${String(gid)}`;
    output.text(
      `${String(kind).padEnd(9)} ${what} ${owner.padEnd(11)} ${String(size).padStart(12)} ${String(mtime)} ${printable(String(path))}${arrow}`,
    );
  }
}
