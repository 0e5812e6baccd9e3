import { appendFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runToQuote } from './program.ts';
import { databaseFile } from './server.ts';
import type { Stage } from './stage.ts';

const jobs = `jobs:
  databases:
    schedule: "0 */2 * * *"
    sources:
      - { name: chat, kind: sqlite, path: ${databaseFile} }
  system:
    schedule: "15 */2 * * *"
    sources:
      - { name: etc, kind: files, paths: [etc] }
`;

/** For who only reads. Else the state of this machine's own backups, where it has any, would be used and written to by root. */
const noState = 'stateDir: state\n';

/** Keys for the operator, a configuration for everybody. */
export async function setUp(stage: Stage): Promise<void> {
  const { server, laptop, auditor, store, tell } = stage;
  tell.heading('Keys and configuration');
  tell.say('Ada makes a key pair on her laptop. Only its public half goes to the server.');
  writeFileSync(join(laptop.folder, 'passphrase'), 'correct horse battery staple\n', { mode: 0o600 });
  const made = await runToQuote(stage, laptop, [
    'keys',
    'generate',
    ['--user-id', 'Ada Lovelace <ada@example.org>'],
    ['--passphrase-file', 'passphrase'],
    ['--out', 'keys'],
  ]);
  tell.verbatim(quote(made, /^Key pair|^ {2}fingerprint/));
  const initialised = await runToQuote(stage, server, [
    'init',
    ['--host', 'jabber1'],
    ['--store', '../store'],
    ['--state-dir', 'state'],
    ['--recipient', '../laptop/keys/ada-lovelace.pub.asc'],
  ]);
  tell.verbatim(quote(initialised, /^Host key|^ {2}[0-9A-F]{4} /));
  tell.say('init wrote a commented sealift.yaml. What is to be backed up goes to its end:');
  tell.verbatim(jobs);
  const config = join(server.folder, 'sealift.yaml');
  writeFileSync(config, readFileSync(config, 'utf8').replace(/^jobs:[^]*/m, jobs));
  writeFileSync(
    join(auditor.folder, 'sealift.yaml'),
    `store: { kind: directory, path: ${JSON.stringify(store)} }\nhosts: hosts\n${noState}`,
  );
  // As Ada is asked to: what a restore starts from belongs beside the private key.
  const kit = join(laptop.folder, 'restore-kit');
  cpSync(join(server.folder, 'restore-kit'), kit, { recursive: true });
  for (const name of ['sealift.yaml', 'hosts'])
    cpSync(join(kit, name), join(laptop.folder, name), { recursive: true });
  appendFileSync(join(laptop.folder, 'sealift.yaml'), noState);
}

/** The lines that matter; dots stand for the others. */
const quote = (lines: readonly string[], wanted: RegExp): string =>
  [...lines.filter((line) => wanted.test(line)), '  ...'].join('\n');
