import { SealiftError } from '../errors.ts';
import { type ByteName, textOf } from './byte-name.ts';
import { type TreeEntry, entryIn } from './files-record.ts';
import { type TarEntry, padded } from './tar-records.ts';
import { type ChosenEntry, TreePart } from './tree-part.ts';

type Record = { readonly [key: string]: unknown };

/**
 * Chooses entries of one tree from what the details say of it, record by record; what is not chosen is not kept. A hard
 * link brings the content that it shares, whether or not the name that has it in the tar was chosen: then `lacks` is
 * true after the last record, and `complete` must be shown every record once more.
 */
export class TreeSelection {
  readonly #covers: (path: string) => boolean;
  readonly #chosen: ChosenEntry[] = [];
  /** The folders around the current entry, outermost first. */
  #around: { readonly folder: TreeEntry; taken: boolean }[] = [];
  readonly #parents: TarEntry[] = [];
  /** What chosen hard links are called in place of a first name that was not chosen. */
  readonly #standIns = new Map<ByteName, ByteName>();
  #found = 0;

  constructor(covers: (path: string) => boolean) {
    this.#covers = covers;
  }

  /** Takes the next record of the tree: folders come before what is in them. */
  add(record: Record): void {
    const chosen = this.#covers(pathIn(record));
    if (!chosen && record['kind'] !== 'directory') return;
    const entry = entryIn(record);
    while (this.#around.length > 0 && !isWithin(entry.name, this.#around.at(-1)!.folder.name))
      this.#around.pop();
    if (chosen) this.#choose(entry);
    if (entry.kind === 'directory') this.#around.push({ folder: entry, taken: chosen });
  }

  get lacks(): boolean {
    return this.#found < this.#standIns.size;
  }

  complete(record: Record): void {
    if (record['kind'] !== 'file') return;
    const entry = entryIn(record);
    const as = this.#standIns.get(entry.name);
    if (as === undefined) return;
    this.#found += 1;
    this.#chosen.push({ ...slim(entry), as: { name: as } });
  }

  /** What was chosen; undefined if nothing was. */
  part(): TreePart | undefined {
    if (this.lacks) throw new SealiftError('verify-failed', 'the details lack the first name of a hard link');
    if (this.#chosen.length === 0) return undefined;
    if (this.#found > 0) this.#chosen.sort((a, b) => a.offset - b.offset);
    return new TreePart(this.#chosen, this.#parents);
  }

  #choose(entry: TreeEntry): void {
    for (const level of this.#around) {
      if (!level.taken) this.#parents.push(level.folder);
      level.taken = true;
    }
    if (entry.kind !== 'link') {
      this.#chosen.push(slim(entry));
      return;
    }
    const first = entry.target!;
    if (this.#covers(`/${textOf(first)}`)) this.#chosen.push(slim(entry));
    else {
      const standIn = this.#standIns.get(first);
      if (standIn === undefined) this.#standIns.set(first, entry.name);
      else this.#chosen.push({ ...slim(entry), as: { name: entry.name, target: standIn } });
    }
  }
}

function pathIn(record: Record): string {
  if (typeof record['path'] === 'string') return record['path'];
  throw new SealiftError('verify-failed', 'the details describe an entry of a tree without its path');
}

const isWithin = (name: ByteName, folder: ByteName): boolean =>
  folder === '.' ? name !== '.' : name.startsWith(`${folder}/`);

/** Of what is chosen all is kept in memory: no more than is needed. */
const slim = ({ kind, name, target, offset, data, sizeBytes }: TreeEntry): ChosenEntry => ({
  kind,
  name,
  ...(target === undefined ? {} : { target }),
  offset,
  data,
  end: data + padded(sizeBytes),
  sizeBytes,
});
