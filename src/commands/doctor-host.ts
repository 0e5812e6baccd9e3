import { day, daysUntil } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { loadHostKey, type HostKey } from '../seal/host-key.ts';
import { passedOver } from '../seal/key-files.ts';
import { inspectRecipients } from '../seal/recipients.ts';
import { inspectTrust } from '../seal/trust.ts';
import { openState, type State } from '../state.ts';
import type { Checkup } from './doctor-checkup.ts';

/** What makes this machine the host that it is. */
export interface Identity {
  readonly host: string;
  readonly state: State;
  readonly hostKey: HostKey;
}

/** The name, the state with its modes, and the key of this host, which the others must know. */
export async function checkHost(checkup: Checkup, config: Config): Promise<Identity | undefined> {
  const { host, stateDir } = config;
  if (host === undefined) {
    checkup.add(
      'host',
      config.file,
      'bad',
      'it does not say which host this is',
      'add a line to it: host: NAME',
    );
    return undefined;
  }
  const state = await checkup.attempt('host', stateDir, () => openState(stateDir));
  const hostKey =
    state && (await checkup.attempt('host', stateDir, () => loadHostKey(state.hostKeyFile, host)));
  if (!state || !hostKey) return undefined;
  checkup.add('host', host, 'good', `secret and key ${hostKey.fingerprint} are in ${stateDir}`);
  return { host, state, hostKey };
}

/** Whom backups are sealed to and for how long, and who may sign. */
export async function checkKeys(checkup: Checkup, config: Config, now: Date): Promise<void> {
  const recipients = await checkup.attempt('keys', config.recipients.join(', '), () =>
    inspectRecipients(config.recipients, now),
  );
  if (recipients?.length === 0)
    checkup.add(
      'keys',
      config.recipients.join(', '),
      'bad',
      'there are no recipients: no backup can be made',
      'make a key pair on your own machine with `sealift keys generate`, and copy its public half there',
    );
  for (const { file, fingerprint, userId, expiresAt, problems, warnings } of recipients ?? []) {
    for (const text of problems)
      checkup.add(
        'keys',
        file,
        'bad',
        text,
        'no backup is made with it: replace the key, or take it out of `recipients`',
      );
    for (const text of warnings)
      checkup.add('keys', file, 'warning', text, '`sealift keys check` tells more');
    if (problems.length > 0 || warnings.length > 0) continue;
    const ends =
      expiresAt === undefined
        ? 'it does not expire'
        : `it expires in ${daysUntil(expiresAt, now)} days, on ${day(expiresAt)}`;
    checkup.add('keys', file, 'good', `recipient ${userId ?? fingerprint ?? ''}; ${ends}`);
  }

  for (const file of [...config.recipients, ...config.hosts].flatMap(passedOver))
    checkup.add(
      'keys',
      file,
      'warning',
      'it holds a key, and is not read: key files end in .asc, .gpg, .pgp or .key',
      'rename it, or take it out of the folder',
    );

  const pins =
    (await checkup.attempt('keys', config.hosts.join(', '), () => inspectTrust(config.hosts))) ?? [];
  for (const { file, problems } of pins)
    for (const text of problems)
      checkup.add('keys', file, 'bad', text, '`sealift keys check` shows every key');
  if (pins.every(({ host }) => host !== config.host) && config.host !== undefined)
    checkup.add(
      'keys',
      config.hosts.join(', '),
      'warning',
      `the key of host ${config.host} is not pinned there, so copies of this folder do not let others read it`,
      'run `sealift init`, which makes only what is missing',
    );
}
