import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Hooks, runAfter } from '../../src/commands/hooks.ts';
import { SealiftError } from '../../src/errors.ts';
import { silentLog } from '../../src/log.ts';
import { put, temporary } from '../support/temporary.ts';

const interrupted = new SealiftError('interrupted', 'interrupted by SIGTERM');

const hooks = (after: string[], signal: AbortSignal): Hooks => ({
  host: 'h1',
  job: {
    name: 'j',
    schedule: '0 3 * * *',
    timezone: 'UTC',
    before: undefined,
    after,
    hookTimeLimitSeconds: Infinity,
    sources: [],
  },
  log: silentLog(),
  signal,
});

for (const when of ['before', 'while'] as const)
  test(`an interruption ${when} \`after\` runs leaves it half a minute`, async (t) => {
    const abort = new AbortController();
    if (when === 'before') abort.abort(interrupted);
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const running = runAfter(hooks(['sleep', '600'], abort.signal), { status: 'failed', error: interrupted });
    if (when === 'while') {
      t.mock.timers.tick(120_000);
      abort.abort(interrupted);
    }
    t.mock.timers.tick(29_999);
    const soon = await Promise.race([
      running,
      new Promise((resolve) => setImmediate(resolve, 'still running')),
    ]);
    assert.equal(soon, 'still running');
    t.mock.timers.tick(1);
    const problem = await running;
    assert.equal(problem?.code, 'hook-failed');
    assert.match(problem.text, /`after` of job j failed: it was given 30 s after the interruption/);
  });

test('a hook whose first line names what is not there is told for that', async (t) => {
  const script = put(join(temporary(t), 'thaw'), '#!/no/such/perl\n', 0o755);
  const problem = await runAfter(hooks([script], new AbortController().signal), {
    status: 'complete',
    snapshot: 's',
  });
  assert.match(problem?.text ?? '', /failed: .*\/thaw cannot be started: .*"\/no\/such\/perl"/);
});
