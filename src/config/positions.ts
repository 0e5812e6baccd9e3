import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from 'yaml';
import { messageOf } from '../errors.ts';

export type Path = readonly PropertyKey[];

/** Something wrong with the file. `at` says whether the position of the setting's name or of its value tells more. */
export interface ConfigProblem {
  readonly path: Path;
  readonly at: 'key' | 'value';
  readonly message: string;
}

/** The file as data, with the way back from a path to its line. */
export interface ParsedYaml {
  readonly data: unknown;
  /** Where the setting stands; for one that is missing, where it should. */
  locate(path: Path, at: 'key' | 'value'): Position;
  /** Errors of YAML itself. If `fatal`, the data is not worth looking at. */
  readonly problems: readonly (Position & { readonly path: Path; readonly message: string })[];
  readonly fatal: boolean;
}

export interface Position {
  readonly line: number;
  readonly column: number;
}

export function parseYaml(text: string): ParsedYaml {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const duplicates = findDuplicates(document.contents, [], position);
  const others = [...document.errors, ...document.warnings].filter(({ code }) => code !== 'DUPLICATE_KEY');
  const errors = others.map(({ code, pos, message }) => ({
    ...position(pos[0]),
    path: [],
    message:
      code === 'MULTIPLE_DOCS'
        ? 'a second document begins here, and one is all there is'
        : withoutText(oneLine(message)),
  }));
  // Whatever else is wrong with a line follows from the first.
  const syntax = errors.filter(
    ({ line }, index) => errors.findIndex((other) => other.line === line) === index,
  );
  let data: unknown;
  let fatal = others.length > 0;
  try {
    data = fatal ? undefined : document.toJS();
  } catch (error) {
    const at = offsetOfLooseAlias(document);
    syntax.push({ ...position(at), path: [], message: withoutText(oneLine(messageOf(error))) });
    fatal = true;
  }
  return {
    data,
    fatal,
    problems: [...syntax, ...duplicates],
    locate: (path, at) => position(offsetOf(document.contents, path, at)),
  };
}

/** Walks as far down as the file goes; the last name on the way is where something missing belongs. Of two equal names the last counts, as in the data. */
function offsetOf(root: Node | null, path: Path, at: 'key' | 'value'): number {
  let node: unknown = root;
  let offset = root?.range?.[0] ?? 0;
  for (const [index, step] of path.entries()) {
    const last = index === path.length - 1;
    const pair = isMap(node) ? node.items.findLast((item) => keyOf(item) === String(step)) : undefined;
    if (pair !== undefined) {
      const value: unknown = pair.value;
      const ofValue = last && at === 'value' ? startOf(value) : undefined;
      offset = ofValue ?? startOf(pair.key) ?? offset;
      node = resolve(root, value);
    } else if (isSeq(node) && typeof step === 'number') {
      const item: unknown = node.items[step];
      offset = startOf(item) ?? offset;
      node = resolve(root, item);
    } else {
      return offset;
    }
  }
  return offset;
}

/** `yaml` reports the second of two equal names, but neither which one nor where the first stands. */
function findDuplicates(
  node: unknown,
  path: Path,
  position: (offset: number) => Position,
): (Position & { path: Path; message: string })[] {
  if (isSeq(node))
    return node.items.flatMap((item, index) => findDuplicates(item, [...path, index], position));
  if (!isMap(node)) return [];
  const first = new Map<string, Position>();
  return node.items.flatMap((pair) => {
    const name = keyOf(pair);
    const here = position(startOf(pair.key) ?? 0);
    const before = first.get(name);
    first.set(name, before ?? here);
    const inner = findDuplicates(pair.value, [...path, name], position);
    return before === undefined
      ? inner
      : [
          {
            ...here,
            path: [...path, name],
            message: `stands here twice; the first is on line ${before.line}`,
          },
          ...inner,
        ];
  });
}

function keyOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : '';
}

function startOf(node: unknown): number | undefined {
  const range = (node as Node | null | undefined)?.range;
  return range?.[0];
}

function resolve(root: Node | null, node: unknown): unknown {
  if (!isAlias(node)) return node;
  let target: unknown;
  const look = (here: unknown): void => {
    if ((here as { anchor?: string } | null)?.anchor === node.source) target = here;
    if (isMap(here)) here.items.forEach((pair) => look(pair.value));
    if (isSeq(here)) here.items.forEach(look);
  };
  look(root);
  return target;
}

/** The alias that no anchor stands before; the beginning if there is none. */
function offsetOfLooseAlias(document: Document.Parsed): number {
  let found: number | undefined;
  visit(document, {
    Alias: (_key, node) => {
      if (node.resolve(document) !== undefined) return undefined;
      found = startOf(node);
      return visit.BREAK;
    },
  });
  return found ?? 0;
}

/**
 * What `yaml` cites may be a password: one without quotes that begins with one of its signs. A cron line that begins with
 * a star is the other text that is often without them.
 */
const withoutText = (message: string): string =>
  message.replace(
    /(: |(?<=Invalid escape sequence) |(?<=^Alias .*|at node end)$).*$/,
    '; is it a text that belongs in quotes?',
  );

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim();
}
