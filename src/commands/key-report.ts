import { daysUntil, rfc3339 } from '../clock.ts';
import { printable } from '../output.ts';
import { hostFingerprint } from '../seal/host-key.ts';
import { inspectRecipients, type RecipientReport } from '../seal/recipients.ts';
import { inspectTrust, type PinReport } from '../seal/trust.ts';
import type { Context } from './context.ts';
import { ownKey } from './trusted.ts';

/** Every key that the configuration leads to, usable or not. */
export interface Keys {
  readonly recipients: readonly RecipientReport[];
  readonly hosts: readonly PinReport[];
}

export async function gatherKeys(context: Context): Promise<Keys> {
  const config = await context.config();
  const own = await ownKey(config);
  const hosts = await inspectTrust(config.hosts);
  const ownReport: PinReport[] =
    own === undefined || hosts.some(({ fingerprint }) => fingerprint === hostFingerprint(own.publicKey))
      ? []
      : [
          {
            file: config.stateDir,
            host: own.host,
            fingerprint: hostFingerprint(own.publicKey),
            key: own.publicKey,
            problems: [],
          },
        ];
  return {
    recipients: await inspectRecipients(config.recipients, context.clock()),
    hosts: [...ownReport, ...hosts],
  };
}

export function keysDocument({ recipients, hosts }: Keys, now: Date): object {
  return {
    recipients: recipients.map(({ id, expiresAt, ...report }) => ({
      file: report.file,
      fingerprint: report.fingerprint ?? null,
      subkey: id?.subkey ?? null,
      userId: report.userId ?? null,
      algorithm: report.algorithm ?? null,
      expiresAt: expiresAt === undefined ? null : rfc3339(expiresAt),
      daysToExpiry: expiresAt === undefined ? null : daysUntil(expiresAt, now),
      usable: report.problems.length === 0,
      problems: report.problems,
      warnings: report.warnings,
    })),
    hosts: hosts.map(({ file, host, fingerprint, problems }) => ({
      file,
      host: host ?? null,
      fingerprint: fingerprint ?? null,
      trusted: problems.length === 0,
      problems,
    })),
  };
}

export function printKeys({ output, clock }: Context, { recipients, hosts }: Keys): void {
  const state = (problems: readonly string[], warnings: readonly string[]): string => {
    if (problems.length > 0) return output.paint('bad', 'unusable');
    return warnings.length > 0 ? output.paint('warning', 'look') : output.paint('good', 'ok');
  };
  output.text(output.paint('strong', `Recipients (${recipients.length})`));
  if (recipients.length > 0) {
    output.table(
      [
        { title: 'state' },
        { title: 'fingerprint' },
        { title: 'algorithm', shrinkTo: 8 },
        { title: 'expires' },
        { title: 'user id', shrinkTo: 5 },
      ],
      recipients.map(({ problems, warnings, fingerprint, algorithm, expiresAt, userId }) => [
        state(problems, warnings),
        fingerprint ?? '-',
        algorithm ?? '-',
        expiry(expiresAt, clock()),
        printable(userId ?? '-'),
      ]),
    );
  }
  for (const { file, problems, warnings } of recipients) {
    for (const text of problems)
      output.text(`  ${output.paint('bad', 'unusable')} ${file}: ${printable(text)}`);
    for (const text of warnings)
      output.text(`  ${output.paint('warning', 'look')} ${file}: ${printable(text)}`);
  }
  output.text();
  output.text(output.paint('strong', `Hosts (${hosts.length})`));
  if (hosts.length > 0) {
    output.table(
      [{ title: 'state' }, { title: 'fingerprint' }, { title: 'host' }, { title: 'file', shrinkTo: 20 }],
      hosts.map(({ problems, fingerprint, host, file }) => [
        state(problems, []),
        fingerprint ?? '-',
        host ?? '-',
        file,
      ]),
    );
  }
  for (const { file, problems } of hosts) {
    for (const text of problems)
      output.text(`  ${output.paint('bad', 'unusable')} ${file}: ${printable(text)}`);
  }
}

function expiry(expiresAt: Date | undefined, now: Date): string {
  if (expiresAt === undefined) return 'never';
  const days = daysUntil(expiresAt, now);
  return days < 0 ? 'past' : `in ${days} days`;
}
