/**
 * The list of things that can go wrong in a run without ending it. The codes stand in the public index; the text, which
 * may name files or databases, goes into the sealed details. `hook-failed` is found out after the commit, so it is told of
 * the run and stands in no index.
 *
 * `partial`: data that the configuration asked for is not in the snapshot. `note`: worth knowing, nothing lost.
 */
export const problemKinds = {
  'source-failed': 'partial',
  'stream-failed': 'partial',
  unreadable: 'partial',
  'file-vanished': 'note',
  'file-changed': 'note',
  'special-file': 'note',
  'name-not-utf8': 'note',
  'globals-without-passwords': 'note',
  'not-consistent': 'note',
  'rights-missing': 'note',
  'exclude-unused': 'note',
  'exclude-needed': 'note',
  'tool-missing': 'note',
  'hook-failed': 'note',
  shrank: 'note',
} as const satisfies Record<string, 'partial' | 'note'>;

export type ProblemCode = keyof typeof problemKinds;

export interface Problem {
  readonly source: string;
  readonly code: ProblemCode;
  /** One sentence for people; private, it may name files. */
  readonly text: string;
}

/** Undefined for a code of a later version. */
export const kindOf = (code: string): 'partial' | 'note' | undefined =>
  Object.hasOwn(problemKinds, code) ? problemKinds[code as ProblemCode] : undefined;

export const isPartial = ({ code }: { readonly code: ProblemCode }): boolean => kindOf(code) === 'partial';
