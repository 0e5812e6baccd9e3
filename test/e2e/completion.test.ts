import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { launcher, programEnv, sealift } from '../support/cli.ts';
import { temporary } from '../support/temporary.ts';
import { refuses } from './bad-input.ts';

/** What a shell offers for such a line, in a folder with a configuration, a file and a folder. */
type Complete = (line: string) => Promise<string[]>;

async function stage(t: TestContext, shell: string): Promise<{ dir: string; env: Record<string, string> }> {
  const dir = temporary(t);
  const PATH = `${dirname(launcher)}:${process.env['PATH']}`;
  const env = { ...programEnv(dir), PATH, LC_ALL: 'C.UTF-8' };
  const sources = [{ name: 'etc', kind: 'files', paths: ['/etc'] }];
  const jobs = { nightly: { schedule: '0 0 * * *', sources }, weekly: { schedule: '0 0 * * 0', sources } };
  const config = JSON.stringify({ store: { kind: 'directory', path: 'store' }, jobs });
  writeFileSync(join(dir, 'sealift.yaml'), config, { mode: 0o600 });
  writeFileSync(join(dir, 'other.yaml'), config.replace('nightly', 'hourly'), { mode: 0o600 });
  mkdirSync(join(dir, 'a folder'));
  const { status, stdout } = await sealift(['completion', shell], { cwd: dir });
  assert.equal(status, 0);
  writeFileSync(join(dir, 'script'), stdout);
  return { dir, env };
}

const readText = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

const shells: Record<string, (t: TestContext) => Promise<Complete>> = {
  async bash(t) {
    const { dir, env } = await stage(t, 'bash');
    return async (line) => {
      const words = line.split(' ').map((word) => `'${word}'`);
      const script = `source ./script; COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}
        complete -p sealift >&2; _sealift; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const args = ['--norc', '-c', script];
      return lines((await promisify(execFile)('bash', args, { cwd: dir, env })).stdout);
    };
  },
  async fish(t) {
    const { dir, env } = await stage(t, 'fish');
    return async (line) => {
      const args = ['--no-config', '-c', `source ./script; complete -C '${line}'`];
      const { stdout } = await promisify(execFile)('fish', args, { cwd: dir, env });
      return lines(stdout).map((found) => found.split('\t')[0] ?? '');
    };
  },
  async zsh(t) {
    const { dir, env } = await stage(t, 'zsh');
    // A shell with a terminal of its own; what it would list is written to a file, or the line after a TAB.
    const driver = `
      zmodload zsh/zpty
      zpty inner 'TERM=dumb zsh -f -i'
      zpty -w inner 'PS1= PS2= RPS1= COLUMNS=400; unsetopt zle_bracketed_paste prompt_sp; autoload -U compinit; compinit -u -D'
      zpty -w inner 'source ./script; zstyle ":completion:*" list-grouped no; zstyle ":completion:*" verbose no'
      zpty -w inner 'capture() { compadd() { builtin compadd -O got "$@"; print -rl -- "<\${^got[@]}>" >>found; builtin compadd "$@"; }; _sealift; unfunction compadd }'
      zpty -w inner 'zle -C capture complete-word capture; bindkey "^X^A" capture'
      zpty -w inner 'dump() { print -r -- "<$BUFFER>" >buffer }; zle -N dump; bindkey "^X^B" dump; print ready >ready'
      for i in {1..600}; do [[ -e ready ]] && break; sleep 0.05; done
      zpty -n -w inner "$1"$'\\C-x\\C-a'
      for i in {1..60}; do sleep 0.05; [[ -e found ]] && break; done
      sleep 0.3
      if [[ ! -e found ]]; then
        zpty -n -w inner $'\\t\\C-x\\C-b'
        for i in {1..200}; do sleep 0.05; [[ -e buffer ]] && break; done
      fi
      zpty -d inner
    `;
    return async (line) => {
      for (const name of ['found', 'ready', 'buffer']) rmSync(join(dir, name), { force: true });
      await promisify(execFile)('zsh', ['-f', '-c', driver, 'driver', line], { cwd: dir, env });
      const [found, buffer] = ['found', 'buffer'].map((name) => readText(join(dir, name)));
      if (found === '') return [buffer?.trim().replace(/^<.*--to (.*)>$/, '$1') ?? ''];
      return lines(found ?? '').flatMap((one) => /^<(.+)>$/.exec(one)?.[1] ?? []);
    };
  },
};

for (const [shell, start] of Object.entries(shells)) {
  const there = spawnSync(shell, ['--version']).status === 0;
  suite(`completion in ${shell}`, { skip: !there && `${shell} is not installed` }, () => {
    test('offers commands, options, jobs and files where they belong', async (t) => {
      const complete = await start(t);
      const offers = async (line: string, ...wanted: string[]) =>
        assert.deepEqual((await complete(line)).toSorted(), wanted.toSorted(), line);
      await offers('sealift keys ', 'generate', 'list', 'check', 'trust', 'help');
      await offers('sealift restore --in', '--include', '--into');
      await offers('sealift -c other.yaml list --job ', 'hourly', 'weekly');
      const folders = await complete('sealift restore --to a');
      assert.match(folders.join(), /^a\\? folder/);
    });
  });
}

test('a shell that we do not know is refused by name', async (t) => {
  const dir = temporary(t);
  const run = (...args: string[]) => sealift(args, { cwd: dir });
  const says = /no completion for tcsh/;
  await refuses({ run }, ['completion', 'tcsh'], { exit: 2, code: 'usage', says, hint: /bash, zsh, fish/ });
});
