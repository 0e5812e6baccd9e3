import type { SourceContext } from '../../src/sources/source.ts';
import { openTemporary } from '../../src/temporary.ts';

export interface Run extends SourceContext {
  /** `code: text` of each. */
  readonly problems: string[];
  readonly codes: string[];
  readonly details: { readonly type: string; readonly [key: string]: unknown }[];
  /** The temporary folders that were handed out. */
  readonly made: string[];
}

/** A run without a job around it. Its temporary folders are real ones; a source has to remove them itself. */
export function newRun(
  signal = new AbortController().signal,
  temporary: SourceContext['temporary'] = realFolder(),
): Run {
  const run = { problems: [] as string[], codes: [] as string[], details: [] as Run['details'] };
  const made: string[] = [];
  return {
    signal,
    ...run,
    made,
    problem: (code, text) => void (run.codes.push(code), run.problems.push(`${code}: ${text}`)),
    detail: async (record) => void run.details.push(record),
    async temporary(place) {
      const folder = await temporary(place);
      made.push(folder);
      return folder;
    },
  };
}

function realFolder(): SourceContext['temporary'] {
  const temporary = openTemporary(`test ${process.pid}`);
  return async (place) => (await temporary).folder(place);
}
