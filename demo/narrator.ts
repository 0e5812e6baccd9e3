import { styleText } from 'node:util';

/** What the reader sees between the lines that the programs print themselves. */
export interface Narrator {
  title(text: string): void;
  heading(text: string): void;
  /** A paragraph, wrapped to the terminal. */
  say(text: string): void;
  /** A command as one would type it. Each part of it stays on one line: an option and its value, say. */
  command(prompt: string, parts: readonly string[]): void;
  /** Lines as they are: of a file, to be pasted, or of a program's output. */
  verbatim(text: string): void;
  /** Something that the demo has checked itself. */
  proved(text: string): void;
  failure(text: string): void;
}

const widest = 88;

/** Colours on a terminal only, and not with NO_COLOR. */
export function createNarrator(
  stdout: NodeJS.WriteStream,
  stderr: NodeJS.WriteStream,
  noColour: boolean,
): Narrator {
  const columns = Math.min(stdout.isTTY ? stdout.columns : 80, widest);
  const colour = stdout.isTTY && !noColour;
  const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
    colour ? styleText(style, text, { validateStream: false }) : text;
  const print = (text = ''): void => void stdout.write(`${text}\n`);
  let number = 0;
  return {
    title(text) {
      print();
      print(paint(['bold', 'cyan'], text));
    },
    heading(text) {
      number += 1;
      const line = `── ${number}. ${text} `;
      print();
      print(paint(['bold', 'cyan'], line.padEnd(columns, '─')));
    },
    say(text) {
      print();
      for (const line of wrap(text.split(/\s+/), columns)) print(line);
    },
    command(prompt, parts) {
      print();
      const [first = '', ...more] = wrap(parts, columns - prompt.length - 4);
      const lines = [`${paint('green', `${prompt}$`)} ${paint('bold', first)}`];
      for (const line of more) lines.push(`    ${paint('bold', line)}`);
      print(lines.join(' \\\n'));
    },
    verbatim(text) {
      print();
      print(text.trimEnd());
    },
    proved(text) {
      const [first = '', ...more] = wrap(text.split(/\s+/), columns - 2);
      print(`${paint('green', '✓')} ${first}`);
      for (const line of more) print(`  ${line}`);
    },
    failure(text) {
      const line = stderr.isTTY && !noColour ? styleText('red', text, { validateStream: false }) : text;
      stderr.write(`${line}\n`);
    },
  };
}

/** Words put together to lines of at most `columns` characters; a longer word has a line of its own. */
function wrap(words: readonly string[], columns: number): string[] {
  const lines: string[] = [];
  for (const word of words.filter(Boolean)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}
