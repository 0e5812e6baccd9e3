/** `1 object`, `3 objects`. `many` where an `s` at the end of `one` does not make it. */
export const countOf = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;
