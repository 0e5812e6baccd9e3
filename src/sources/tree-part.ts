import { SealiftError } from '../errors.ts';
import { type ByteName, textOf } from './byte-name.ts';
import type { TarEntry } from './tar-records.ts';

/** An entry of a tree that is wanted, and where it lies in the tar: header from `offset`, content from `data`. */
export interface ChosenEntry extends Pick<TarEntry, 'kind' | 'name' | 'target' | 'sizeBytes'> {
  readonly offset: number;
  readonly data: number;
  readonly end: number;
  /** What it is to be called, where that is not what the tar calls it. */
  readonly as?: Pick<TarEntry, 'name' | 'target'>;
}

/** Bytes of a tar: from the first to the one after the last. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Some entries of a tree. Their bytes one after the other are a smaller tar: `ranges` says where they lie in the whole
 * one, a `Gate` checks that what is found there is what was chosen.
 */
export class TreePart {
  /** In the order of the tar. */
  readonly entries: readonly ChosenEntry[];
  /** Folders around them that were not chosen themselves, as the details describe them: times in whole seconds. */
  readonly parents: readonly TarEntry[];

  constructor(entries: readonly ChosenEntry[], parents: readonly TarEntry[]) {
    this.entries = entries;
    this.parents = parents;
  }

  /** Ascending, apart from each other: from the first byte to the one after the last. */
  get ranges(): Range[] {
    const ranges: { from: number; to: number }[] = [];
    for (const { offset, end } of this.entries) {
      const last = ranges.at(-1);
      if (last?.to === offset) last.to = end;
      else ranges.push({ from: offset, to: end });
    }
    return ranges;
  }

  /** Bytes of the smaller tar. */
  get tarBytes(): number {
    return this.entries.reduce((sum, { offset, end }) => sum + end - offset, 0);
  }

  gate(): Gate {
    return new Gate(this.entries);
  }

  /**
   * What is left of it behind so many entries, and what of that cannot be read because bytes of these ranges are lost: names,
   * those of folders with a slash.
   */
  without(done: number, ranges: readonly Range[]): { part: TreePart; lost: ByteName[] } {
    const left = this.entries.slice(done);
    const isLost = ({ offset, end }: ChosenEntry): boolean =>
      ranges.some(({ from, to }) => from < end && offset < to);
    return {
      part: new TreePart(
        left.filter((entry) => !isLost(entry)),
        [],
      ),
      lost: left
        .filter(isLost)
        .map(({ kind, name, as }) => (kind === 'directory' ? `${name}/` : (as?.name ?? name))),
    };
  }
}

/**
 * A part cannot be compared with the SHA-256 of its stream. So every entry is held against what the details say of it,
 * and against where it must begin and end. Throws `verify-failed`.
 */
class Gate {
  readonly #entries: readonly ChosenEntry[];
  #next = 0;
  /** Where the next entry begins in the smaller tar. */
  #at = 0;

  constructor(entries: readonly ChosenEntry[]) {
    this.#entries = entries;
  }

  /** The next entry that was read, whose content begins at `dataAt`; returns it as it is to be called. */
  admit(entry: TarEntry | undefined, dataAt: number): TarEntry {
    const expected = this.#entries[this.#next];
    if (entry === undefined || expected === undefined || !agrees(entry, expected))
      throw disagreement(expected);
    if (dataAt - this.#at !== expected.data - expected.offset) throw disagreement(expected);
    this.#next += 1;
    this.#at += expected.end - expected.offset;
    return { ...entry, ...expected.as };
  }

  /** Nothing more was read. */
  end(): void {
    const missing = this.#entries[this.#next];
    if (missing !== undefined) throw disagreement(missing);
  }
}

const agrees = (entry: TarEntry, expected: ChosenEntry): boolean =>
  entry.kind === expected.kind &&
  withoutSlash(entry.name) === expected.name &&
  entry.target === expected.target &&
  entry.sizeBytes === expected.sizeBytes;

const withoutSlash = (name: ByteName): ByteName => (name.endsWith('/') ? name.slice(0, -1) : name);

const disagreement = (expected: ChosenEntry | undefined): SealiftError =>
  expected === undefined
    ? new SealiftError('verify-failed', 'the tree holds more than its details say')
    : new SealiftError(
        'verify-failed',
        `byte ${expected.offset} of the tree is not where "${textOf(expected.name)}" begins, as its details say`,
      );
