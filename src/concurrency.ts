/**
 * Maps with at most `limit` calls under way, results in the order of the items. After an error nothing new is begun; it
 * is thrown when what was under way has ended.
 */
export async function mapConcurrent<T, R>(
  items: Iterable<T>,
  limit: number,
  map: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const todo = [...items].entries();
  let failure: { error: unknown } | undefined;
  const work = async (): Promise<void> => {
    for (const [i, item] of todo) {
      if (failure) return;
      try {
        results[i] = await map(item);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, work));
  if (failure) throw failure.error;
  return results;
}

/**
 * Maps ahead of the consumer: yields in the order of the items while later ones are under way, at most `limitCost` of
 * them by the sum of their costs (but always one). When the consumer stops, waits for what is under way.
 */
export async function* mapAhead<T, R>(
  items: Iterable<T>,
  limitCost: number,
  cost: (item: T) => number,
  map: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const ahead: { result: Promise<R>; cost: number }[] = [];
  const source = items[Symbol.iterator]();
  let spent = 0;
  let next = source.next();
  try {
    while (!next.done || ahead.length > 0) {
      while (!next.done && (ahead.length === 0 || spent + cost(next.value) <= limitCost)) {
        const result = map(next.value);
        result.catch(() => undefined); // reported when its turn comes
        ahead.push({ result, cost: cost(next.value) });
        spent += cost(next.value);
        next = source.next();
      }
      const first = ahead.shift()!;
      const result = await first.result;
      spent -= first.cost;
      yield result;
    }
  } finally {
    await Promise.allSettled(ahead.map(({ result }) => result));
  }
}

/**
 * Aborted with the same reason, but so much later: for what may still end by itself. Until it is disposed of: whatever listens
 * to a signal that `AbortSignal.any` made keeps it in memory.
 */
export function abortedLater(
  signal: AbortSignal,
  delayMs: number,
): Disposable & { readonly signal: AbortSignal } {
  const later = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const begin = (): void => {
    timer = setTimeout(() => later.abort(signal.reason), delayMs).unref();
  };
  if (signal.aborted) begin();
  else signal.addEventListener('abort', begin, { once: true });
  return {
    signal: later.signal,
    [Symbol.dispose]() {
      signal.removeEventListener('abort', begin);
      clearTimeout(timer);
    },
  };
}
