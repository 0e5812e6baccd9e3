import { rfc3339 } from '../clock.ts';
import { lateToleranceMs, type Finding } from './audit-facts.ts';
import type { ClockVerdict } from './clock-check.ts';

/** What an auditor says of the store as a whole. Times are milliseconds since 1970. */
export interface StoreFacts {
  readonly address: string;
  readonly nowMs: number;
  readonly clock: StoreClock;
  readonly unfinished: readonly AuditedWrite[];
  /** Why the keys that backups may be sealed to are not all known here; none if they are. */
  readonly recipientProblems: readonly string[];
}

/** A write that was begun and not ended. */
export interface AuditedWrite {
  readonly key: string;
  /** Undefined where the store does not say. */
  readonly startedMs: number | undefined;
  /** How long a run may be at it; undefined where it is nothing of sealift's. */
  readonly graceMs: number | undefined;
}

/** What the store says about the time: nothing, what it may not be asked, or something to hold against the own clock. */
export type StoreClock =
  | { readonly verdict: ClockVerdict; readonly storeMs: number; readonly localMs: number }
  | { readonly verdict: 'none' | 'denied'; readonly reason: string };

export function judgeStore(facts: StoreFacts): Finding[] {
  return [
    ...judgeClock(facts),
    ...facts.unfinished
      .filter(
        ({ startedMs, graceMs = 0 }) =>
          startedMs === undefined || facts.nowMs - startedMs > graceMs + lateToleranceMs,
      )
      .map(judgeWrite),
    ...facts.recipientProblems.map((problem): Finding => ({
      rule: 'recipients',
      severity: 'warning',
      subject: facts.address,
      message:
        `${problem}: so it could not be judged whether backups are sealed to the right keys, and to no other. ` +
        'Copy the public keys that are allowed to the recipients of this configuration.',
    })),
  ];
}

function judgeWrite({ key, startedMs, graceMs }: AuditedWrite): Finding {
  const what =
    startedMs === undefined
      ? 'a write was begun and not ended, the store does not say when, and it keeps its bytes.'
      : `a write that began on ${rfc3339(startedMs)} was never ended, and keeps its bytes.`;
  const finding = (rule: Finding['rule'], severity: Finding['severity'], advice: string): Finding => ({
    rule,
    severity,
    subject: key,
    message: `${what} ${advice}`,
  });
  const byHand = 'end it with the tools of the store.';
  if (graceMs === undefined)
    return finding('foreign-object', 'warning', `It is not of sealift: look at it, and ${byHand}`);
  if (startedMs === undefined)
    return finding('leftover', 'warning', `No run of sealift writes like that: ${byHand}`);
  return finding('leftover', 'broken', 'Run `sealift prune`.');
}

/** Rule R9. */
function judgeClock({ address, clock }: StoreFacts): Finding[] {
  const finding = (severity: Finding['severity'], message: string): Finding[] => [
    { rule: 'clock', severity, subject: address, message },
  ];
  switch (clock.verdict) {
    case 'fine':
      return [];
    case 'none':
      return finding(
        'broken',
        `${clock.reason}. Ages were judged by the clock of this machine; retention cannot be relied on without a time.`,
      );
    case 'denied':
      return finding(
        'warning',
        `the store may not be asked for its time (${clock.reason}). Ages were judged by the clock of this machine.`,
      );
    case 'warn':
    case 'refuse': {
      const apart = `the store says ${rfc3339(clock.storeMs)}, this machine ${rfc3339(clock.localMs)}`;
      return clock.verdict === 'warn'
        ? finding(
            'warning',
            `the clocks are more than five minutes apart: ${apart}. Set the wrong one right.`,
          )
        : finding(
            'broken',
            `the clocks are more than an hour apart: ${apart}. Set the wrong one right: backup and prune refuse to run, ` +
              'and the ages in this report are those of the store.',
          );
    }
  }
}
