import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './program.ts';
import type { Machine, Stage } from './stage.ts';

export async function audit(stage: Stage): Promise<void> {
  const { auditor, laptop, tell } = stage;
  tell.heading('Somebody else checks');
  tell.say(
    `The auditor has no private key, and nothing of jabber1 but the fingerprint that init printed there. Whom backups may
be sealed to the auditor knows from Ada: her public key.`,
  );
  const recipients = join(auditor.folder, 'keys/recipients');
  mkdirSync(recipients, { recursive: true });
  copyFileSync(join(laptop.folder, 'keys/ada-lovelace.pub.asc'), join(recipients, 'ada-lovelace.asc'));
  const [fingerprint = ''] = fingerprintOf(laptop);
  await run(stage, auditor, ['keys', 'trust', fingerprint]);
  tell.say('With that, every byte can be checked: that it is there, and that it is what jabber1 signed.');
  await run(stage, auditor, ['verify', '--all', '--read-data']);
  tell.say(
    'And the promises: fresh snapshots, the right recipients, and nothing kept for longer than seven days.',
  );
  await run(stage, auditor, ['audit']);
}

const fingerprintOf = ({ folder }: Machine): string[] =>
  /\b[0-9A-F]{40}\b/.exec(readFileSync(join(folder, 'restore-kit/RESTORE.md'), 'utf8')) ?? [];
