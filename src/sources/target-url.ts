import { decoded } from '../config/decoded.ts';

export interface TargetUrl {
  readonly url: URL;
  readonly database: string | undefined;
  readonly parameters: URLSearchParams;
}

/**
 * The target of a restore, `scheme://user@host:port/database?name=value`; undefined if it has another form. URL by itself
 * is made for the web: it cuts a path at `#`, resolves `..` in it, and takes `+` for a space. As names of databases, users
 * and sockets those are letters like any other, and a target must not become another one.
 */
export function parseTargetUrl(text: string): TargetUrl | undefined {
  const url = URL.parse(text);
  const [found, path = ''] = /^[a-z]+:\/\/[^/?#]*(?:\/([^?#]*))?(?:\?[^#]*)?$/i.exec(text) ?? [];
  if (url === null || found === undefined) return undefined;
  const parameters = new URLSearchParams(url.search.replaceAll('+', '%2B'));
  return { url, database: decoded(path) || undefined, parameters };
}

/** The path of a target that is a file or folder of this machine: `scheme:/path`, `scheme:///path`, or a path alone. */
export const targetPath = (into: string, scheme: string): string =>
  into.replace(new RegExp(`^${scheme}:(//(?=/))?`, 'i'), '');
