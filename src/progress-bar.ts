import { Presets, SingleBar } from 'cli-progress';
import { drawOnLastLine, lastLineIsTaken } from './last-line.ts';
import { formatSize } from './output.ts';
import type { Progress } from './progress.ts';

export interface ProgressOptions {
  /** `bar` draws on stderr after a second, `json` prints `{"type":"progress"}` lines. */
  readonly form: 'bar' | 'json';
  readonly verb: string;
  /** Undefined where nobody can know before the end. */
  readonly totalBytes: number | undefined;
  readonly jsonLine: (record: unknown) => void;
}

const patienceMs = 1000;

export function startProgress(options: ProgressOptions): Progress {
  const startedMs = performance.now();
  const { totalBytes, verb } = options;
  let what = '';
  let done = 0;
  let added = 0;
  const known = totalBytes !== undefined;
  const bar = new SingleBar(
    {
      format: known
        ? ` ${verb} {bar} {percentage}% · {done} of {all} · {rate}/s · {what}`
        : ` ${verb} · {done} · {added} new · {rate}/s · {what}`,
      hideCursor: true,
      clearOnComplete: true,
      stopOnComplete: false,
      fps: 8,
      stream: process.stderr,
    },
    Presets.shades_classic,
  );
  const facts = () => ({
    what,
    done: formatSize(done),
    added: formatSize(added),
    all: formatSize(totalBytes ?? 0),
    rate: formatSize(done / Math.max(0.001, (performance.now() - startedMs) / 1000)),
  });
  let drawing = false;
  const show = (): void => {
    if (options.form === 'json') {
      options.jsonLine({
        type: 'progress',
        what,
        bytes: done,
        newBytes: added,
        ...(known ? { totalBytes } : {}),
      });
    } else if (lastLineIsTaken()) return;
    else if (drawing) bar.update(done, facts());
    else {
      drawing = true;
      bar.start(totalBytes ?? 0, done, facts());
    }
  };
  /** It comes back with the next second. */
  const hide = (): void => {
    if (drawing) bar.stop();
    drawing = false;
  };
  drawOnLastLine(hide);
  const timer = setInterval(show, patienceMs);
  timer.unref();
  return {
    label(next) {
      what = next;
    },
    advance(bytes, more = 0) {
      done += bytes;
      added += more;
      if (drawing) show();
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      hide();
    },
  };
}
