import { mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createNarrator, type Narrator } from './narrator.ts';

/** Where the demo plays: one folder, with a folder for each machine in it, and an environment that leads nowhere else. */
export interface Stage {
  readonly folder: string;
  /** The chat server that is backed up, the desk of its operator, and somebody who only checks. */
  readonly server: Machine;
  readonly laptop: Machine;
  readonly auditor: Machine;
  readonly store: string;
  readonly tell: Narrator;
  /** The whole environment of every program that is started. */
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface Machine {
  readonly prompt: string;
  readonly folder: string;
}

export function createStage(signal: AbortSignal): Stage {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'sealift-demo-'));
  const machine = (prompt: string): Machine => {
    mkdirSync(join(folder, prompt));
    return { prompt, folder: join(folder, prompt) };
  };
  // A directory store is never made by accident: it could be the empty mount point of a disk that is missing.
  const store = join(folder, 'store');
  mkdirSync(store);
  return {
    folder,
    store,
    server: machine('jabber1'),
    laptop: machine('laptop'),
    auditor: machine('auditor'),
    tell: createNarrator(process.stdout, process.stderr, noColour()),
    env: environmentIn(folder),
    signal,
  };
}

const noColour = (): boolean => (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';

/** Nothing is read from, or written to, the home, the configuration or the key ring of whoever watches. */
function environmentIn(folder: string): Record<string, string> {
  const home = join(folder, '.home');
  const temporary = join(folder, '.tmp');
  for (const made of [home, temporary]) mkdirSync(made);
  const kept = ['PATH', 'TERM', 'NO_COLOR', 'LANG', 'LC_ALL'].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(kept),
    HOME: home,
    TMPDIR: temporary,
    XDG_CONFIG_HOME: join(home, 'config'),
    XDG_STATE_HOME: join(home, 'state'),
    XDG_CACHE_HOME: join(home, 'cache'),
    GNUPGHOME: join(home, 'gnupg'),
  };
}
