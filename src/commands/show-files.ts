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
    if (entry['stream'] !== tree) {
      tree = String(entry['stream']);
      trees.add(tree);
      output.text();
      output.text(output.paint('strong', printable(tree)));
    }
    output.text(lineOf(output, entry));
    if (entry['kind'] === 'directory') continue;
    files += 1;
    bytes += Number(entry['size']);
  }
  output.text();
  output.text(
    `${countOf(files, 'file')}, ${formatSize(bytes)}${trees.size > 1 ? `, in ${trees.size} trees` : ''}`,
  );
}

const typeOf: Readonly<Record<string, string>> = { file: '-', directory: 'd', symlink: 'l', link: 'h' };

function lineOf(output: Output, entry: { readonly [key: string]: unknown }): string {
  const kind = String(entry['kind']);
  const mode = `${typeOf[kind] ?? '?'}${permissions(Number(entry['mode']))}`;
  const owner = printable(`${String(entry['uid'])}:${String(entry['gid'])}`).padEnd(11);
  const size = (kind === 'file' ? formatSize(Number(entry['size'])) : '').padStart(8);
  const time = printable(String(entry['mtime']).slice(0, 16).replace('T', ' '));
  const slash = kind === 'directory' && entry['path'] !== '/' ? '/' : '';
  const path = `${printable(String(entry['path']))}${slash}`;
  const target = typeof entry['target'] === 'string' ? printable(entry['target']) : undefined;
  const more = target === undefined ? '' : ` ${kind === 'link' ? 'link to' : '->'} ${target}`;
  return `${output.paint('faint', `${mode}  ${owner}`)}  ${size}  ${output.paint('faint', time)}  ${path}${more}`;
}

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
