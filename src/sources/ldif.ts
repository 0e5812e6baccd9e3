/** One entry of an LDIF text: values by the name of their attribute in lower case; `dn` is one of them. */
export type LdifEntry = ReadonlyMap<string, readonly string[]>;

/** The entries of an LDIF text that holds content, not changes (RFC 2849). Values that are no UTF-8 are of no use here. */
export function ldifEntries(text: string): LdifEntry[] {
  const unfolded = text.replace(/\r?\n /g, '');
  return unfolded.split(/\r?\n(?:\r?\n)+/).flatMap((block) => {
    const entry = new Map<string, string[]>();
    for (const line of block.split(/\r?\n/)) {
      const [, name, base64, value = ''] = /^([^#:][^:]*):(:?) *(.*)$/.exec(line) ?? [];
      if (name === undefined) continue;
      const values = entry.get(name.toLowerCase()) ?? [];
      values.push(base64 === ':' ? Buffer.from(value, 'base64').toString('utf8') : value);
      entry.set(name.toLowerCase(), values);
    }
    return entry.has('dn') ? [entry] : [];
  });
}
