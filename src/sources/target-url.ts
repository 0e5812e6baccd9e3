import { decoded } from '../config/decoded.ts';
import { SealiftError } from '../errors.ts';

/** What the target of one kind of server looks like, `scheme://user@host:port/database?name=value`. */
export interface TargetForm {
  readonly schemes: readonly string[];
  readonly example: string;
  /** What else there is to know of it. */
  readonly hint: string;
  readonly parameters: readonly string[];
  /** Where a password belongs: in no URL, where others can see it. */
  readonly passwordFrom: string;
}

export interface TargetUrl {
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly user: string | undefined;
  readonly database: string | undefined;
  readonly parameters: URLSearchParams;
}

/**
 * The target of a restore. Throws `usage` for any other form; messages do not repeat the URL. URL by itself is made for
 * the web: it cuts a path at `#`, resolves `..` in it, and takes `+` for a space. As names of databases, users and sockets
 * those are letters like any other, and a target must not become another one.
 */
export function parseTargetUrl(text: string, form: TargetForm): TargetUrl {
  const url = URL.parse(text);
  const [found, path = ''] = /^[a-z]+:\/\/[^/?#]*(?:\/([^?#]*))?(?:\?[^#]*)?$/i.exec(text) ?? [];
  if (url === null || found === undefined || !form.schemes.includes(url.protocol.slice(0, -1)))
    throw new SealiftError('usage', `the URL must look like ${form.example}`, { hint: form.hint });
  const parameters = new URLSearchParams(url.search.replaceAll('+', '%2B'));
  if (url.password !== '' || parameters.has('password'))
    throw new SealiftError('usage', 'a password does not belong into the URL, where others can see it', {
      hint: `use ${form.passwordFrom}, or wait to be asked`,
    });
  const unknown = [...parameters.keys()].find((key) => !form.parameters.includes(key));
  if (unknown !== undefined)
    throw new SealiftError('usage', `the URL's parameter "${unknown}" is not supported`);
  const part = (key: string, value: string) => parameters.get(key) ?? (decoded(value) || undefined);
  const port = part('port', url.port);
  if (port !== undefined && !/^\d{1,5}$/.test(port))
    throw new SealiftError('usage', `"${port}" is not a port`);
  return {
    host: part('host', url.hostname.replace(/^\[(.*)\]$/, '$1')),
    port: port === undefined ? undefined : Number(port),
    user: part('user', url.username),
    database: decoded(path) || undefined,
    parameters,
  };
}

/** The path of a target that is a file or folder of this machine: `scheme:/path`, `scheme:///path`, or a path alone. */
export const targetPath = (into: string, scheme: string): string =>
  into.replace(new RegExp(`^${scheme}:(//(?=/))?`, 'i'), '');
