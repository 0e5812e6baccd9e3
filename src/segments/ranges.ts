/** Bytes of a stream: from the first to the one after the last. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/** A part of a range that lies in one segment; `from` and `to` count from the segment's first byte. */
export interface Piece extends ByteRange {
  /** Which of the stream's segments. */
  readonly segment: number;
}

/**
 * Where ranges of a stream lie in its segments, in order, no piece empty; of the plaintext length of every segment. The
 * ranges ascend and do not overlap. What lies beyond the last segment is in no piece.
 */
export function* piecesOf(
  segmentBytes: readonly number[],
  ranges: Iterable<ByteRange>,
): Generator<Piece, void, undefined> {
  let segment = 0;
  let start = 0;
  for (const { from, to } of ranges) {
    for (let at = from; at < to;) {
      while (segment < segmentBytes.length && start + segmentBytes[segment]! <= at)
        start += segmentBytes[segment++]!;
      if (segment === segmentBytes.length) return;
      const end = Math.min(to, start + segmentBytes[segment]!);
      yield { segment, from: at - start, to: end - start };
      at = end;
    }
  }
}
