import { resolve } from 'node:path';
import { isByNetwork } from '../config/hosts.ts';
import { SealiftError } from '../errors.ts';
import type { Explanation } from './explanation.ts';

/** A connection that has to be encrypted, to a server whose certificate an authority in this file (PEM) vouches for. */
export interface Tls {
  readonly ca: string;
}

const hint =
  'does the server offer TLS, with a certificate for the host name that is used, from an authority in the file of `ca`? The user that the tools run as has to be able to read it';

/** `?ca=PATH` of the target of a restore. Throws `usage` for a socket. */
export function tlsOfTarget(parameters: URLSearchParams, host: string | undefined): Tls | undefined {
  const ca = parameters.get('ca');
  if (ca === null) return undefined;
  if (host === undefined || !isByNetwork(host))
    throw new SealiftError(
      'usage',
      'ca=PATH is for a server that is reached over the network, by a host name',
    );
  return { ca: resolve(ca) };
}

/** What a tool's messages can mean. Where `tls` was asked for, that comes first: `says` is what that tool then writes. */
export const withTls = (
  tls: Tls | undefined,
  says: RegExp,
  others: readonly Explanation[],
): readonly Explanation[] =>
  tls === undefined ? others : [{ says, code: 'source-unavailable', hint }, ...others];
