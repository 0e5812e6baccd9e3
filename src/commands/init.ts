import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Config } from '../config/config.ts';
import { configPlaces, findConfig, parseConfig } from '../config/load.ts';
import { namePattern } from '../config/fields.ts';
import { parseStoreUrl, storeUrlForms } from '../config/store-url.ts';
import { configTemplate } from '../config/template.ts';
import { makeFolder, writeNew } from '../durable.ts';
import { messageOf, SealiftError } from '../errors.ts';
import { formatFingerprint } from '../output.ts';
import { createHostKey, type HostKey, loadHostKey } from '../seal/host-key.ts';
import { inspectRecipients } from '../seal/recipients.ts';
import { pinHostKey } from '../seal/trust.ts';
import { createState, hostKeyFile } from '../state.ts';
import type { Context, Outcome } from './context.ts';
import { copyRecipients, readRecipients } from './init-recipients.ts';
import { keyFolder } from './key-folder.ts';
import { Ledger } from './ledger.ts';
import { writeRestoreKit } from './restore-kit.ts';

export interface InitOptions {
  readonly host?: string;
  readonly store?: string;
  readonly recipient?: readonly string[];
  readonly stateDir?: string;
}

/**
 * `sealift init`: everything that a host needs before its first backup. It may run any number of times: what is there
 * stays as it is, what is missing is made. What can be refused is refused before the first file is written.
 */
export async function init(context: Context, options: InitOptions): Promise<Outcome> {
  const ledger = new Ledger();
  const { environment, clock } = context;
  const newcomers = await readRecipients(options.recipient ?? [], environment.cwd, clock());
  const { config, host } = await configuration(context, options, ledger);
  const folders = {
    recipients: keyFolder(config.recipients, 'recipients'),
    hosts: keyFolder(config.hosts, 'hosts'),
  };
  const key = await hostKey(config, host, clock(), ledger);
  const pin = await pinHostKey(folders.hosts, key.publicKey);
  (pin.isNew ? ledger.created : ledger.kept).push(pin.file);
  await makeFolder(folders.recipients, 0o755);
  await copyRecipients(newcomers, folders.recipients, ledger);
  const kit = join(dirname(config.file), 'restore-kit');
  const stale = await writeRestoreKit(kit, key, config.store, ledger);
  if (stale !== undefined) {
    context.log.warn(`${kit} was made for ${stale}: move it away and run init again to get a new one`);
  }
  await report(context, { config, host, key, kit, ledger });
}

/** The configuration that is there, or a new one; and the name of the host, on which the two must agree. */
async function configuration(
  context: Context,
  options: InitOptions,
  ledger: Ledger,
): Promise<{ config: Config; host: string }> {
  const existing = findConfig(context.configPath, context.environment);
  if (existing === undefined) return writeConfiguration(context, options, ledger);
  const config = await context.config();
  ledger.kept.push(existing);
  const unused = { '--store': options.store, '--state-dir': options.stateDir };
  for (const [option, value] of Object.entries(unused))
    if (value !== undefined)
      context.log.warn(`${option} is not used: ${existing} is there already and is kept as it is`);
  const { host } = config;
  if (host === undefined) {
    throw new SealiftError(
      'usage',
      `${existing} does not say which host this is, and init does not change it`,
      { hint: `add a line to it: host: ${options.host ?? 'NAME'}` },
    );
  }
  if (options.host !== undefined && options.host !== host) {
    throw new SealiftError('usage', `--host ${options.host}: ${existing} says host: ${host}`, {
      hint: 'a host keeps its name; leave --host out',
    });
  }
  return { config, host };
}

async function writeConfiguration(
  { environment: env, configPath }: Context,
  { host, store, stateDir }: InitOptions,
  ledger: Ledger,
): Promise<{ config: Config; host: string }> {
  if (host === undefined || store === undefined) {
    const missing = [host === undefined && '--host NAME', store === undefined && '--store URL'].filter(
      Boolean,
    );
    throw new SealiftError(
      'usage',
      `there is no configuration yet; to write one, init needs ${missing.join(' and ')}`,
      {
        hint:
          host === undefined
            ? 'the name of the host in the store is yours to choose and stays; it is never taken from the system. Example: sealift init --host jabber1 --store s3://backups/jabber'
            : `a store is written as ${storeUrlForms}`,
      },
    );
  }
  if (!namePattern.test(host)) {
    throw new SealiftError(
      'usage',
      `--host ${host}: must be lower-case letters, digits and dashes, at most 41`,
      { hint: 'for example: --host jabber1' },
    );
  }
  const file = configPlaces(configPath, env)[0] ?? join(env.cwd, 'sealift.yaml');
  const text = configTemplate({
    host,
    store: parseStoreUrl(store, env.cwd),
    stateDir: stateDir === undefined ? undefined : resolve(env.cwd, stateDir),
  });
  const config = parsed(file, text, env, store);
  // The state of another host is refused here, and not when a configuration that names it is there.
  const key = hostKeyFile(config.stateDir);
  if (existsSync(key)) await loadHostKey(key, host);
  await makeFolder(dirname(file), 0o755);
  await ledger.make(file, () => writeNew(file, text, 0o600));
  return { config, host };
}

/** The text is ours, so whatever is wrong with it came in by --store. */
function parsed(file: string, text: string, env: Context['environment'], store: string): Config {
  try {
    return parseConfig(file, text, env);
  } catch (error) {
    const reason = messageOf(error)
      .split('\n')
      .slice(1)
      .map((line) => line.replace(/^.*?: store\./, ''))
      .join('; ');
    throw new SealiftError('usage', `--store ${store}: ${reason}`, {
      hint: `a store is written as ${storeUrlForms}`,
      cause: error,
    });
  }
}

async function hostKey(config: Config, host: string, now: Date, ledger: Ledger): Promise<HostKey> {
  await ledger.make(config.stateDir, () => createState(config.stateDir), 'always');
  const file = hostKeyFile(config.stateDir);
  return (await ledger.make(file, () => createHostKey(file, host, now))) ?? loadHostKey(file, host);
}

interface Done {
  readonly config: Config;
  readonly host: string;
  readonly key: HostKey;
  readonly kit: string;
  readonly ledger: Ledger;
}

async function report(
  { output, json, clock }: Context,
  { config, host, key, kit, ledger }: Done,
): Promise<void> {
  const { created, kept } = ledger;
  if (json) {
    output.json({ host, fingerprint: key.fingerprint, config: config.file, restoreKit: kit, created, kept });
    return;
  }
  for (const path of created) output.text(`${output.paint('good', 'made')}  ${path}`);
  for (const path of kept) output.text(`${output.paint('faint', 'kept')}  ${path}`);
  output.text();
  output.text(`Host key of ${host}`);
  output.text(`  ${output.paint('strong', formatFingerprint(key.fingerprint))}`);
  output.text();
  output.text(`Keep a copy of ${kit} with the private key of a recipient: it is what a restore starts from.`);
  const recipients = await inspectRecipients(config.recipients, clock());
  if (recipients.length === 0) {
    output.text('There are no recipients yet, so nothing can be backed up. On your own machine:');
    output.text('  sealift keys generate --user-id "Ada Lovelace <ada@example.org>" --out keys');
    output.text('then here: sealift init --recipient ada-lovelace.pub.asc');
  }
  if (config.store.kind === 'directory' && !existsSync(config.store.path))
    output.text(`The store ${config.store.path} is not there yet: mount it, or make it with mkdir.`);
  if (config.jobs.length === 0)
    output.text(`Next: write down what to back up under \`jobs\` in ${config.file}`);
}
