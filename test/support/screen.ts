/**
 * The lines that a terminal shows in the end which was sent this: without what was erased or written over. Knows what a
 * progress bar and coloured text send, and never scrolls.
 */
export function screenOf(sent: string): string[] {
  const rows: string[] = [];
  let [row, column] = [0, 0];
  let saved: [number, number] = [0, 0];
  // eslint-disable-next-line no-control-regex
  for (const [token] of sent.matchAll(/\u001B\[[?\d;]*[A-Za-z]|\u001B[78]|[\r\n]|[^\u001B\r\n]+/g)) {
    const line = rows[row] ?? '';
    if (token === '\r' || token === '\u001B[1G') column = 0;
    else if (token === '\n') row += 1;
    else if (token === '\u001B7') saved = [row, column];
    else if (token === '\u001B8') [row, column] = saved;
    else if (token === '\u001B[0K') rows[row] = line.slice(0, column);
    else if (token === '\u001B[2K') rows[row] = '';
    else if (!token.startsWith('\u001B')) {
      rows[row] = line.padEnd(column).slice(0, column) + token + line.slice(column + token.length);
      column += token.length;
    }
  }
  return rows.map((line) => line.trimEnd());
}
