import { countOf } from '../count-of.ts';
import { formatSize, printable, type Output } from '../output.ts';

/** A listing as `tar -tv` has it, in the order of the tar, which is sorted; the columns hold what is usual. */
export async function printFiles(
  output: Output,
  entries: AsyncIterable<{ readonly [key: string]: unknown }>,
): Promise<void> {
  const trees = new Set<string>();
  let tree: string | undefined;
  let [files, bytes] = [0, 0];
  for await (const entry of entries) {
    if (tree === undefined || textOf(entry['stream']) !== tree) {
      tree = textOf(entry['stream']);
      trees.add(tree);
      output.text();
      output.text(output.paint('strong', tree));
    }
    output.text(lineOf(output, entry));
    if (entry['kind'] === 'directory') continue;
    files += 1;
    bytes += numberOf(entry['size']);
  }
  output.text();
  output.text(
    `${countOf(files, 'file')}, ${formatSize(bytes)}${trees.size > 1 ? `, in ${trees.size} trees` : ''}`,
  );
}

const typeOf: Readonly<Record<string, string>> = { file: '-', directory: 'd', symlink: 'l', link: 'h' };

function lineOf(output: Output, entry: { readonly [key: string]: unknown }): string {
  const kind = textOf(entry['kind']);
  const mode = `${typeOf[kind] ?? '?'}${permissions(numberOf(entry['mode']))}`;
  const owner = `${textOf(entry['uid'])}:${textOf(entry['gid'])}`.padEnd(11);
  const size = (kind === 'file' ? formatSize(numberOf(entry['size'])) : '').padStart(8);
  const time = textOf(entry['mtime']).slice(0, 16).replace('T', ' ');
  const slash = kind === 'directory' && entry['path'] !== '/' ? '/' : '';
  const path = `${textOf(entry['path'])}${slash}`;
  const target = entry['target'] === undefined ? undefined : textOf(entry['target']);
  const more = target === undefined ? '' : ` ${kind === 'link' ? 'link to' : '->'} ${target}`;
  return `${output.paint('faint', `${mode}  ${owner}`)}  ${size}  ${output.paint('faint', time)}  ${path}${more}`;
}

/** The details are the host's: they may hold anything. */
const numberOf = (value: unknown): number => (typeof value === 'number' ? value : 0);

/** For people; what is no text is no more than a question mark. */
export const textOf = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' ? printable(String(value)) : '?';

/** `rwxr-x---`, with setuid, setgid and sticky as `ls` writes them. */
function permissions(mode: number): string {
  const letters = Array.from('rwxrwxrwx', (letter, i) => ((mode & (0o400 >> i)) === 0 ? '-' : letter));
  for (const [bit, at, letter] of [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const)
    if ((mode & bit) !== 0) letters[at] = letters[at] === '-' ? letter.toUpperCase() : letter;
  return letters.join('');
}
