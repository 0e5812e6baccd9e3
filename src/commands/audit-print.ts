import { formatDuration } from '../clock.ts';
import { countOf } from '../count-of.ts';
import { formatSize, printable } from '../output.ts';
import type { AuditDocument, HostDocument } from './audit-document.ts';
import type { Context } from './context.ts';

/** For people: what was checked of each host and the proof in plain words, then what is wrong and what to do. */
export function printAudit({ output }: Context, document: AuditDocument, files: readonly string[]): void {
  for (const host of document.hosts) printHost(output, host, document);
  for (const { rule, severity, subject, message } of document.findings) {
    const style = severity === 'broken' ? 'bad' : 'warning';
    output.text(
      `${output.paint(style, severity.padEnd(7))}  ${output.paint('strong', rule)}  ${printable(subject)}`,
    );
    output.text(`         ${printable(message)}`);
  }
  if (document.findings.length > 0) output.text();
  const broken = document.findings.filter(({ severity }) => severity === 'broken').length;
  const warnings = document.findings.length - broken;
  const remarks = warnings === 0 ? '' : `, ${countOf(warnings, 'warning')}`;
  output.text(
    document.ok
      ? `${output.paint('good', 'The promises are kept')}${remarks}.`
      : `${output.paint('bad', broken === 1 ? 'A PROMISE IS BROKEN' : `PROMISES ARE BROKEN: ${broken} findings`)}${remarks}.`,
  );
  output.text(
    output.paint(
      'faint',
      `Checked ${document.checkedAt} by the clock of ${document.clock === 'store' ? 'the store' : 'this machine'}, ` +
        'without any private key.',
    ),
  );
  for (const file of files) output.text(output.paint('faint', `written: ${file}`));
}

function printHost(output: Context['output'], host: HostDocument, { checkedAt }: AuditDocument): void {
  output.text(output.paint('strong', host.host));
  for (const line of hostLines(host, checkedAt)) output.text(`  ${line}`);
  output.text();
}

/** The proof in plain words, also for the page. */
export function hostLines(host: HostDocument, checkedAt: string): string[] {
  if (host.keys.length === 0) return ['No key of this host is pinned: nothing could be judged.'];
  if (host.objects === 0) return ['Nothing of this host is in the store.'];
  const age = (time: string): string =>
    formatDuration(Math.max(0, (Date.parse(checkedAt) - Date.parse(time)) / 1000));
  const lines = [
    host.oldestSnapshot === null
      ? 'No snapshot could be read.'
      : `${countOf(host.snapshots, 'live snapshot')}; the oldest began ${age(host.oldestSnapshot)} ago, ${formatDuration(host.maxAge)} are promised.`,
    `${countOf(host.objects, 'object')}, ${formatSize(host.bytes)}, every version counted` +
      (host.oldestObject === null
        ? '.'
        : `; the oldest was written ${age(host.oldestObject)} ago, ${formatDuration(host.objectMaxAge)} is the limit.`),
    ...host.jobs.map(
      ({ job, snapshots, newestAt, schedule }) =>
        `Job ${job}: ${countOf(snapshots, 'snapshot')}, the newest ${age(newestAt)} ago; its schedule is "${printable(schedule)}".`,
    ),
    host.sampled === 0
      ? 'No object could be sampled.'
      : `Read whole and looked into: ${countOf(host.sampled, 'object')}, chosen at random.`,
  ];
  if (!host.remembered)
    lines.push('This auditor sees it for the first time: whether the store was set back shows from now on.');
  return lines;
}
