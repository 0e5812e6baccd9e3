import type { SourceContext } from '../../src/sources/source.ts';
import { openTemporary } from '../../src/temporary.ts';

export interface Run extends SourceContext {
  /** `code: text` of each. */
  readonly problems: string[];
  readonly details: { readonly type: string; readonly [key: string]: unknown }[];
}

/** A run without a job around it. Its temporary folders are real ones; a source has to remove them itself. */
export function newRun(signal = new AbortController().signal): Run {
  const problems: string[] = [];
  const details: Run['details'] = [];
  const temporary = openTemporary(`test ${process.pid}`);
  return {
    signal,
    problems,
    details,
    problem: (code, text) => void problems.push(`${code}: ${text}`),
    detail: async (record) => void details.push(record),
    temporary: async (place) => (await temporary).folder(place),
  };
}
