/**
 * The last line of the terminal, which a progress bar draws on again and again. Whatever else is written there would run
 * into the bar, and be wiped out with it.
 */
let erase = (): void => undefined;
let taken = 0;

/** From now on `how` takes what is drawn off the last line. Nothing must be drawn while the line is taken. */
export function drawOnLastLine(how: () => void): void {
  erase = how;
}

/** To be called before anything else is written to the terminal. */
export const clearLastLine = (): void => erase();

export const lastLineIsTaken = (): boolean => taken > 0;

/** Has the line for itself, to ask something there. */
export async function takeLastLine<T>(work: () => Promise<T>): Promise<T> {
  clearLastLine();
  taken += 1;
  try {
    return await work();
  } finally {
    taken -= 1;
  }
}
