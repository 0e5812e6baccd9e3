/** What the grants of a login say about whole databases. */
export class Rights {
  readonly #grants: { readonly database: RegExp | undefined; readonly rights: ReadonlySet<string> }[] = [];

  /** From the rows of SHOW GRANTS. */
  constructor(rows: readonly string[]) {
    const grant = /^GRANT ([A-Z_, ]+) ON (?:\*\.\*|`((?:[^`]|``)*)`\.\*) TO /;
    for (const row of rows) {
      const [matched, rights = '', pattern] = grant.exec(row) ?? [];
      if (matched === undefined) continue;
      const database = pattern === undefined ? undefined : likeToRegExp(pattern.replaceAll('``', '`'));
      this.#grants.push({ database, rights: new Set(rights.split(', ')) });
    }
  }

  /** Whether one of these rights is there, for every database or for this one. */
  has(rights: readonly string[], database?: string): boolean {
    return this.#grants.some(
      ({ database: pattern, rights: given }) =>
        (pattern === undefined || (database !== undefined && pattern.test(database))) &&
        (given.has('ALL PRIVILEGES') || rights.some((right) => given.has(right))),
    );
  }
}

/** Names of databases are patterns in grants: `%` and `_`, taken as they are behind a backslash. */
function likeToRegExp(pattern: string): RegExp {
  const parts = pattern.match(/\\[^]|[^]/gu) ?? [];
  const translated = parts.map((part) => {
    if (part === '%') return '[^]*';
    if (part === '_') return '[^]';
    const plain = part.length > 1 && part.startsWith('\\') ? part.slice(1) : part;
    return plain.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  });
  return new RegExp(`^${translated.join('')}$`, 'iu');
}
