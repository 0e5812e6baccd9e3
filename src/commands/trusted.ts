import type { Config } from '../config/config.ts';
import { SealiftError } from '../errors.ts';
import { loadHostKey } from '../seal/host-key.ts';
import { loadTrust, type OwnKey, type Trust } from '../seal/trust.ts';
import { hostKeyFile } from '../state.ts';

/** Whose snapshots count: the pinned keys, and on a host its own. */
export async function trustOf(config: Config): Promise<Trust> {
  return loadTrust(config.hosts, await ownKey(config));
}

/** The public key of this host, if the configuration names one and its state is here. */
export async function ownKey(config: Config): Promise<OwnKey | undefined> {
  if (config.host === undefined) return undefined;
  try {
    return await loadHostKey(hostKeyFile(config.stateDir), config.host);
  } catch (error) {
    // An auditor's machine has the configuration, but not the state.
    if (error instanceof SealiftError && error.code === 'key-missing') return undefined;
    throw error;
  }
}
