import { stripVTControlCharacters, styleText } from 'node:util';

/** Results, on stdout. Logs and progress go to stderr (`log.ts`). */
export interface Output {
  /** One document, for `--json`. */
  json(document: unknown): void;
  /**
   * One document with a list `name` that need not fit into memory, an item a line. What `rest` returns is asked for at
   * the end of the list and comes after it.
   */
  jsonWithList(
    document: object,
    name: string,
    items: AsyncIterable<unknown>,
    rest: () => object,
  ): Promise<void>;
  /** One line of a stream of JSON lines. */
  jsonLine(record: unknown): void;
  /** One such line that ends with a list `name`, which need not fit into memory. */
  jsonLineWithList(record: object, name: string, items: Iterable<unknown>): Promise<void>;
  /** An error: a line, or where a document has been begun its last member, `error`. */
  jsonError(error: object): void;
  text(line?: string): void;
  table(columns: readonly Column[], rows: readonly (readonly string[])[]): void;
  paint(style: Style, text: string): string;
  /** Columns of the terminal; undefined if it is none, then nothing is cut. */
  readonly width: number | undefined;
}

export type Style = 'good' | 'bad' | 'warning' | 'faint' | 'strong';

export interface Column {
  readonly title: string;
  readonly align?: 'right';
  /** Gives way, down to this many characters, when the terminal is too narrow for the table. */
  readonly shrinkTo?: number;
}

export interface OutputOptions {
  /** False where the text waits to be taken; `taken` is called when it was, or never will be. */
  readonly write: (text: string, taken?: () => void) => unknown;
  readonly colour: boolean;
  readonly width?: number | undefined;
}

const styles = { good: 'green', bad: 'red', warning: 'yellow', faint: 'dim', strong: 'bold' } as const;

/** Of a line that is written in parts. */
const partLength = 2 ** 20;

export function createOutput(options: OutputOptions): Output {
  const { write, colour, width } = options;
  /** What ends the list that is being written. */
  let endOfList: string | undefined;
  const paint = (style: Style, text: string): string =>
    colour ? styleText(styles[style], text, { validateStream: false }) : text;
  const taken = (text: string): Promise<void> =>
    new Promise((resolve) => {
      if (write(text, resolve) !== false) resolve();
    });
  const jsonLine = (record: unknown): void => void write(`${JSON.stringify(record)}\n`);
  return {
    width,
    paint,
    json: (document) => void write(`${JSON.stringify(document, null, 2)}\n`),
    async jsonWithList(document, name, items, rest) {
      const all = items[Symbol.asyncIterator]();
      let item = await all.next(); // what cannot even begin has printed nothing
      const head = members(document);
      write(`{${head}${head === '' ? '' : ','}\n  ${JSON.stringify(name)}: [`);
      endOfList = ']';
      let separator = '\n';
      for (; item.done !== true; item = await all.next()) {
        write(`${separator}    ${JSON.stringify(item.value)}`);
        separator = ',\n';
        endOfList = '\n  ]';
      }
      const tail = members(rest());
      write(`${endOfList}${tail === '' ? '' : ','}${tail}\n}\n`);
      endOfList = undefined;
    },
    jsonLine,
    async jsonLineWithList(record, name, items) {
      let part = `${JSON.stringify(record).slice(0, -1)},${JSON.stringify(name)}:[`;
      let separator = '';
      for (const item of items) {
        part += `${separator}${JSON.stringify(item)}`;
        separator = ',';
        if (part.length < partLength) continue;
        await taken(part);
        part = '';
      }
      write(`${part}]}\n`);
    },
    jsonError: (error) =>
      endOfList === undefined ? jsonLine(error) : void write(`${endOfList},${members({ error })}\n}\n`),
    text: (line = '') => void write(`${line}\n`),
    table: (columns, rows) => {
      for (const line of layOut(columns, rows, width, paint)) write(`${line}\n`);
    },
  };
}

/** What stands between the braces of an object. */
const members = (part: object): string => JSON.stringify(part, null, 2).slice(1, -1).trimEnd();

/** Plain columns two spaces apart; a column without a title above it takes no header line. */
function layOut(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number | undefined,
  paint: Output['paint'],
): string[] {
  const widths = fit(
    columns,
    columns.map(({ title }, index) =>
      Math.max(title.length, ...rows.map((row) => lengthOf(row[index] ?? ''))),
    ),
    width,
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => {
        const size = widths[index] ?? 0;
        const text = cut(cell, size);
        const space = ' '.repeat(Math.max(0, size - lengthOf(text)));
        return columns[index]?.align === 'right' ? space + text : text + space;
      })
      .join('  ')
      .trimEnd();
  const header = paint('faint', line(columns.map(({ title }) => title)));
  return [header, ...rows.map(line)];
}

function fit(columns: readonly Column[], wanted: readonly number[], width: number | undefined): number[] {
  const widths = [...wanted];
  let excess = width === undefined ? 0 : widths.reduce((a, b) => a + b + 2, -2) - width;
  for (const [index, { shrinkTo }] of columns.entries()) {
    if (excess <= 0 || shrinkTo === undefined) continue;
    const has = widths[index] ?? 0;
    const gives = Math.min(excess, Math.max(0, has - shrinkTo));
    widths[index] = has - gives;
    excess -= gives;
  }
  return widths;
}

const lengthOf = (text: string): number => Array.from(stripVTControlCharacters(text)).length;

function cut(text: string, size: number): string {
  const characters = Array.from(stripVTControlCharacters(text));
  return characters.length <= size ? text : `${characters.slice(0, Math.max(0, size - 1)).join('')}…`;
}

/** For people, with binary units: `512 B`, `1.5 KiB`, `628 MiB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** `C0DE 1234 ...`: a fingerprint in groups of four, for comparing by eye. */
export function formatFingerprint(fingerprint: string): string {
  return fingerprint.match(/.{1,4}/g)?.join(' ') ?? '';
}

/** Text from elsewhere (a user id, a file name) must not steer the terminal. */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\uFFFD');
}

/** The same for a text of several lines. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n');
