import { pino, type Logger, type SerializedError } from 'pino';
import { clearLastLine } from './last-line.ts';
import { printable, printableLines } from './output.ts';

/** Logs go to stderr: readable lines on a terminal and in systemd's journal, JSON lines (pino's) everywhere else. */
export type Log = Logger;
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';
export type LogForm = 'json' | 'terminal' | 'journal';

export interface LogOptions {
  readonly level: LogLevel;
  readonly form: LogForm;
  readonly colour: boolean;
  /** Where lines go; default: stderr, written synchronously so that nothing is lost when the process ends. */
  readonly sink?: { write(line: string): unknown } | undefined;
}

/** A secret is its own type and hides itself; this catches plain values that carry a telling name. */
const secretNames = [
  'password',
  'passphrase',
  'secret',
  'secretAccessKey',
  'accessKeyId',
  'sessionToken',
  'sessionKey',
  'hostSecret',
  'authorization',
];

export function createLog(options: LogOptions): Log {
  const sink = options.sink ?? stderr();
  const write = (line: string): void => {
    clearLastLine();
    sink.write(options.form === 'json' ? line : readableEntry(line, options));
  };
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        censor: '[redacted]',
      },
    },
    { write },
  );
}

/** For tests and for functions that are called without a log. */
export function silentLog(): Log {
  return pino({ level: 'silent' });
}

function stderr(): { write(line: string): unknown } {
  const destination = pino.destination({ dest: 2, sync: true });
  // A closed stderr must not end a backup.
  destination.on('error', () => undefined);
  return destination;
}

/** What the journal takes off each line: https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html */
const priorities: Record<string, number> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };

/** Lines for the journal, each with this priority. */
export const journalLines = (level: LogLevel, lines: string): string =>
  lines.replaceAll(/^(?=.)/gm, `<${priorities[level]}>`);

const colours: Record<string, number> = { error: 31, fatal: 31, warn: 33, debug: 2, trace: 2 };

function readableEntry(line: string, { form, colour }: LogOptions): string {
  const { level, time, msg, err, ...rest } = JSON.parse(line) as {
    level: string;
    time: string;
    msg?: string;
    err?: SerializedError;
  };
  const name = level === 'warn' ? 'warning' : level;
  const paint = (code: number, text: string): string => (colour ? `\u001B[${code}m${text}\u001B[0m` : text);
  const label = level === 'info' ? '' : `${paint(colours[level] ?? 0, `${name}:`)} `;
  const details = Object.entries(rest).map(([key, value]) => `${printable(key)}=${printable(plain(value))}`);
  const stack = err === undefined ? '' : `\n${readable(err.stack ?? err.message)}`;
  const tail = details.length === 0 ? '' : ` ${paint(2, `(${details.join(' ')})`)}`;
  const entry = `${label}${readable(msg ?? '')}${tail}${stack}\n`;
  return form === 'journal'
    ? journalLines(level as LogLevel, entry)
    : `${paint(2, time.slice(11, 19) + 'Z')} ${entry}`;
}

/** Names from elsewhere must not steer the terminal; lines after the first are set in, lest one passes for an entry. */
const readable = (text: string): string => printableLines(text).replaceAll('\n', '\n          ');

function plain(value: unknown): string {
  return typeof value === 'string' && /^[^\s"]+$/.test(value) ? value : JSON.stringify(value);
}
