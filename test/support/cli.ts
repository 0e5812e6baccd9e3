import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Of the checkout, where the sources run as they are. */
export const checkoutLauncher = fileURLToPath(new URL('../../bin/sealift', import.meta.url));

/** Of the program as it is shipped, where the run of the tests has built it. */
export const launcher = process.env['SEALIFT_TEST_PROGRAM'] ?? checkoutLauncher;

/** What the program is started with: nothing of ours but the PATH. */
export const programEnv = (home: string): Record<string, string> => ({
  PATH: process.env['PATH'] ?? '',
  HOME: home,
});

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the real program in `programEnv` and what is given. */
export async function sealift(
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string>; program?: string },
): Promise<CliResult> {
  const child = spawn(options.program ?? launcher, args, {
    cwd: options.cwd,
    env: { ...programEnv(options.cwd), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.setEncoding('utf8').toArray(),
    child.stderr.setEncoding('utf8').toArray(),
    new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    }),
  ]);
  return { status, stdout: stdout.join(''), stderr: stderr.join('') };
}
