import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './program.ts';
import type { Machine, Stage } from './stage.ts';

export async function audit(stage: Stage): Promise<void> {
  const { auditor, laptop, tell } = stage;
  tell.heading('Somebody else checks');
  tell.say(
    `The auditor has no private key, and nothing of jabber1 but the fingerprint that init printed there:`,
  );
  const [fingerprint = ''] = fingerprintOf(laptop);
  await run(stage, auditor, ['keys', 'trust', fingerprint]);
  tell.say('With that, every byte can be checked: that it is there, and that it is what jabber1 signed.');
  await run(stage, auditor, ['verify', '--all', '--read-data']);
}

const fingerprintOf = ({ folder }: Machine): string[] =>
  /\b[0-9A-F]{40}\b/.exec(readFileSync(join(folder, 'restore-kit/RESTORE.md'), 'utf8')) ?? [];
