import { Readable, type Writable } from 'node:stream';
import { TarArchive } from 'archiver';
import { type TarEntry, headerOf, padded } from './tar-records.ts';

/** Where an entry lies in the tar: its first header block, and its content. */
export interface Place {
  readonly offset: number;
  readonly data: number;
}

const endBytes = 1024;

/**
 * Writes a tar through archiver, one entry after the other. Only `append` is used: `file`, `directory` and `symlink`
 * look at the file system again, and rewrite the targets of symlinks.
 */
export class TarWriter {
  readonly #archive = new TarArchive({ highWaterMark: 512 * 1024 });
  /** Where the next entry begins. */
  position = 0;
  #taken = (): void => undefined;

  /** Everything comes out here, an error too: then what waits here does so for ever. */
  pipe(to: Writable): void {
    this.#archive.on('error', (error) => to.destroy(error));
    this.#archive.on('entry', () => this.#taken());
    this.#archive.pipe(to);
  }

  /** Resolves when the entry has been taken, at the speed of what is written to. `body` must have the announced size. */
  async add(entry: TarEntry, body: Buffer | AsyncIterable<Buffer>): Promise<Place> {
    const { data, bytes } = headerOf(entry);
    const place = { offset: this.position, data: this.position + bytes };
    this.position = place.data + padded(entry.sizeBytes);
    const source = Buffer.isBuffer(body) ? body : Readable.from(body, { objectMode: false });
    await new Promise<void>((resolve) => {
      this.#taken = resolve;
      this.#archive.append(source, data);
    });
    return place;
  }

  /** Resolves with the size of the tar. */
  async end(): Promise<number> {
    await this.#archive.finalize();
    return this.position + endBytes;
  }
}
