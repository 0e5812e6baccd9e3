/** A word for a shell, in single quotes. */
export const inQuotes = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The same, without quotes where it needs none. */
export const shellWord = (text: string): string => (/^[\w./-]+$/.test(text) ? text : inQuotes(text));
