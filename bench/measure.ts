import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** One finished run of a command. */
export interface Run {
  readonly seconds: number;
  /** The largest resident size of the first process, in bytes (`VmHWM`); shared memory counts. */
  readonly peakBytes: number;
  readonly stdout: string;
}

/** Runs a shell line to its end and measures it. Throws when it fails. */
export async function measure(line: string, env: Record<string, string> = {}): Promise<Run> {
  const startedMs = performance.now();
  const child = spawn('bash', ['-c', `set -o pipefail; ${line}`], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let peakBytes = 0;
  const watch = setInterval(() => (peakBytes = Math.max(peakBytes, peakOf(child.pid))), 20);
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.setEncoding('utf8').toArray(),
    child.stderr.setEncoding('utf8').toArray(),
    new Promise((resolve) => child.on('close', resolve)),
  ]);
  clearInterval(watch);
  if (status !== 0)
    throw new Error(`${line} ended with ${String(status)}: ${stdout.join('')}${stderr.join('')}`);
  return { seconds: (performance.now() - startedMs) / 1000, peakBytes, stdout: stdout.join('') };
}

function peakOf(pid: number | undefined): number {
  try {
    return 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0; // it has just ended
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Runs A and B in turn, so that both see the same weather; one run of each is thrown away first. */
export async function alternate<A, B>(
  rounds: number,
  a: () => Promise<A>,
  b: () => Promise<B>,
): Promise<{ a: A[]; b: B[] }> {
  const results: { a: A[]; b: B[] } = { a: [], b: [] };
  for (let round = 0; round <= rounds; round++) {
    const [first, second] = [await a(), await b()];
    if (round === 0) continue;
    results.a.push(first);
    results.b.push(second);
  }
  return results;
}
