/** How a long command tells how far it is. */
export interface Progress extends Disposable {
  /** `what` is being worked on from now on. */
  label(what: string): void;
  /** So many more bytes are done; `added` of them went over the network. */
  advance(bytes: number, added?: number): void;
}

export const noProgress: Progress = { label() {}, advance() {}, [Symbol.dispose]() {} };
